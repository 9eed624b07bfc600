// The pybind11 module flowkit._C: importing it registers the operators; it tells the facts of the build, and binds the
// operators directly for eager calls, since each argument that passes through torch's dispatcher costs 0.3 us.
#include <dlfcn.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <string>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "operators/operators.h"

// Python tensors <-> stable tensors, through shims that torch has since 2.14; the module is built for 2.10 and up, so
// they are looked up at run time.
namespace {

// A tensor that only the dispatcher knows how to read: of a subclass, or negated lazily.
struct NotPlain : std::runtime_error {
  NotPlain() : std::runtime_error("not a plain tensor") {}
};

bool is_plain(PyObject* object) {
  static const pybind11::handle torch = pybind11::module_::import("torch").release();
  static PyObject* const tensor = pybind11::object(torch.attr("Tensor")).release().ptr();
  static PyObject* const parameter = pybind11::object(torch.attr("nn").attr("Parameter")).release().ptr();
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  const auto type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  if (type != tensor && type != parameter) return false;
  const auto negative = pybind11::reinterpret_steal<pybind11::object>(PyObject_CallMethodNoArgs(object, is_neg));
  return negative.ptr() == Py_False;
}

}  // namespace

namespace pybind11::detail {

template <>
struct type_caster<torch::stable::Tensor> {
  using FromPython = AOTITorchError (*)(void*, AtenTensorHandle*);
  using ToPython = AOTITorchError (*)(AtenTensorHandle, void*, void**);

  static FromPython from_python() {
    static const auto f = reinterpret_cast<FromPython>(dlsym(RTLD_DEFAULT, "torch_tensor_from_pyobject"));
    return f;
  }
  static ToPython to_python() {
    static const auto f = reinterpret_cast<ToPython>(dlsym(RTLD_DEFAULT, "torch_tensor_to_pyobject"));
    return f;
  }

  static constexpr auto name = const_name("torch.Tensor");
  template <class>
  using cast_op_type = torch::stable::Tensor&;
  operator torch::stable::Tensor&() { return *value_; }

  bool load(handle source, bool) {
    AtenTensorHandle tensor = nullptr;
    if (!is_plain(source.ptr())) throw NotPlain();
    if (from_python()(source.ptr(), &tensor) != AOTI_TORCH_SUCCESS) return false;
    value_.emplace(tensor);
    return true;
  }

  static handle cast(const torch::stable::Tensor& tensor, return_value_policy, handle) {
    void* object = nullptr;
    if (to_python()(tensor.get(), nullptr, &object) != AOTI_TORCH_SUCCESS)
      throw std::runtime_error("flowkit: a result could not be handed to Python");
    return static_cast<PyObject*>(object);
  }

 private:
  std::optional<torch::stable::Tensor> value_;
};

}  // namespace pybind11::detail

#ifndef FLOWKIT_CUDA_ARCHITECTURES
#define FLOWKIT_CUDA_ARCHITECTURES ""
#endif

namespace {

std::vector<std::string> cuda_architectures() {
  std::vector<std::string> found;
  std::string word;
  for (const char c : std::string(FLOWKIT_CUDA_ARCHITECTURES " ")) {
    if (c != ' ')
      word += c;
    else if (!word.empty())
      found.push_back(std::exchange(word, {}));
  }
  return found;
}

std::string cpu_capability() {
  switch (flowkit::cpu::capability()) {
    case flowkit::cpu::Capability::avx512: return "avx512";
    case flowkit::cpu::Capability::avx2: return "avx2";
    default: return "generic";
  }
}

}  // namespace

bool can_bind() {
  using Caster = pybind11::detail::type_caster<torch::stable::Tensor>;
  return Caster::from_python() && Caster::to_python();
}

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of flowkit; importing this module registers torch.ops.flowkit.*";
  m.def("version", [] { return FLOWKIT_VERSION; }, "Version that was built.");
  m.def("cpu_capability", &cpu_capability, "Instruction set that the CPU kernels run with: avx512, avx2 or generic.");
  m.def("cuda_architectures", &cuda_architectures, "Architectures that the CUDA kernels were compiled for.");
  m.def("has_cuda", [] { return !cuda_architectures().empty(); }, "Whether the CUDA back end was built.");

  pybind11::register_exception<NotPlain>(m, "NotPlain");
  pybind11::module_ direct = m.def_submodule("direct", "The operators, past the dispatcher; empty before torch 2.14.");
  if (!can_bind()) return;
#define FLOWKIT_BIND(name) direct.def(#name, &flowkit::name, pybind11::call_guard<pybind11::gil_scoped_release>())
#define FLOWKIT_BIND_FAMILY(name) \
  FLOWKIT_BIND(name);             \
  FLOWKIT_BIND(name##_out);       \
  FLOWKIT_BIND(name##_backward)
  FLOWKIT_BIND_FAMILY(affine_coupling);
  FLOWKIT_BIND_FAMILY(additive_coupling);
  FLOWKIT_BIND_FAMILY(affine_step);
  FLOWKIT_BIND_FAMILY(additive_step);
  FLOWKIT_BIND_FAMILY(actnorm);
  FLOWKIT_BIND_FAMILY(leaky_relu);
  FLOWKIT_BIND_FAMILY(permute_channels);
  FLOWKIT_BIND_FAMILY(channel_linear);
  FLOWKIT_BIND_FAMILY(rational_quadratic_coupling);
  FLOWKIT_BIND_FAMILY(masked_conv_solve);
  FLOWKIT_BIND_FAMILY(mixture_logistic_coupling);
  FLOWKIT_BIND(stacked_linear);
  FLOWKIT_BIND(stacked_linear_backward);
  FLOWKIT_BIND(stacked_mlp);
  FLOWKIT_BIND(mlp_coupling);
  FLOWKIT_BIND(mlp_coupling_out);
}
