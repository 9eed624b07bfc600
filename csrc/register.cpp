// Operator schemas, argument checks, and the way from tensors to the views of launch.h. The pybind11 module is module.cpp.
//
// With FLOWKIT_EMULATE_CUDA the same schemas are registered in the namespace flowkit_emulated, for CPU tensors, and run
// the kernels of csrc/cuda through the emulation: the tests' view of the CUDA back end on a machine without a GPU.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <optional>
#include <tuple>
#include <vector>

#include "launch.h"

namespace flowkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

#define FLOWKIT_CHECK STD_TORCH_CHECK

DType dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::float32;
    case ScalarType::Double: return DType::float64;
    case ScalarType::BFloat16: return DType::bfloat16;
    case ScalarType::Half: return DType::float16;
    default: FLOWKIT_CHECK(false, "flowkit: x must be float32, float64, bfloat16 or float16");
  }
  return DType::float32;
}

ScalarType accumulator(const Tensor& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

using Sizes = std::vector<int64_t>;

Sizes sizes_of(const Tensor& t) { return Sizes(t.sizes().begin(), t.sizes().end()); }

// Whether all spatial dimensions can be walked with one stride.
bool spatial_is_one_run(const Tensor& t) {
  const auto sizes = t.sizes();
  const auto strides = t.strides();
  for (size_t d = 2; d + 1 < sizes.size(); ++d)
    if (strides[d] != strides[d + 1] * sizes[d + 1]) return false;
  return true;
}

// The rule of flowkit/ops/_layout.py.
bool is_channels_last(const Tensor& t) {
  const auto sizes = t.sizes();
  const auto strides = t.strides();
  return t.dim() >= 3 && strides[1] == 1 && sizes[1] > 1 && spatial_is_one_run(t) && strides[t.dim() - 1] >= sizes[1];
}

Sizes dense_strides(const Sizes& sizes, bool channels_last) {
  Sizes strides(sizes.size());
  int64_t pitch = 1;
  const auto place = [&](size_t d) {
    strides[d] = pitch;
    pitch *= sizes[d];
  };
  if (channels_last) place(1);
  for (size_t d = sizes.size(); d-- > (channels_last ? 2 : 1);) place(d);
  place(0);
  return strides;
}

Tensor empty(const Tensor& like, const Sizes& sizes, const Sizes& strides, ScalarType type) {
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)),
      like.is_cuda() ? aoti_torch_device_type_cuda() : aoti_torch_device_type_cpu(), like.get_device_index(), &handle));
  return Tensor(handle);
}

// Fresh memory costs more in page faults than a layer in arithmetic: ask for large pages.
void expect_writes(const Tensor& t) {
#ifdef __linux__
  constexpr size_t page = size_t(2) << 20;
  const size_t bytes = t.numel() * t.element_size();
  if (!t.is_cpu() || bytes < 4 * page) return;
  const auto begin = (reinterpret_cast<uintptr_t>(t.data_ptr()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(t.data_ptr()) + bytes) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

Tensor empty_dense(const Tensor& like, const Sizes& sizes, bool channels_last) {
  Tensor t = empty(like, sizes, dense_strides(sizes, channels_last), like.scalar_type());
  expect_writes(t);
  return t;
}

Tensor empty_vector(const Tensor& like, int64_t size, ScalarType type) { return empty(like, {size}, {1}, type); }

int64_t pixels_of(const Tensor& t) {
  int64_t pixels = 1;
  for (int64_t d = 2; d < t.dim(); ++d) pixels *= t.size(d);
  return pixels;
}

Shape shape_of(const Tensor& x) {
  const int64_t pixels = pixels_of(x);
  return {x.size(0), x.size(1), pixels, pixels == 1 || is_channels_last(x)};
}

Tensor dense_copy(const Tensor& t, bool channels_last) {
  Tensor copy = empty_dense(t, sizes_of(t), channels_last);
  torch::stable::copy_(copy, t);
  return copy;
}

// x as the kernels want it: its inner dimension (channels or pixels) dense.
Tensor prepare(const Tensor& t, bool channels_last) {
  if (t.numel() == 0) return t;
  const bool image = t.dim() > 2 && pixels_of(t) > 1;
  const bool fits = !image ? t.size(1) == 1 || t.stride(1) == 1
                           : spatial_is_one_run(t) && (channels_last ? t.stride(1) == 1 : t.stride(t.dim() - 1) == 1);
  return fits ? t : dense_copy(t, channels_last && t.dim() > 2);
}

// Parameters may have any strides, as long as pixels are one run.
Tensor prepare_params(const Tensor& t, bool channels_last) {
  return t.numel() == 0 || spatial_is_one_run(t) ? t : dense_copy(t, channels_last && t.dim() > 2);
}

View view(const Tensor& t) {
  View v;
  v.data = t.data_ptr();
  v.batch = t.stride(0);
  v.channel = t.stride(1);
  const int64_t pixels = pixels_of(t);
  v.pixel = pixels > 1 ? 0 : 1;
  for (int64_t d = t.dim() - 1; d >= 2 && v.pixel == 0; --d)
    if (t.size(d) > 1) v.pixel = t.stride(d);
  v.extent = t.numel() == 0
      ? 0
      : 1 + (t.size(0) - 1) * v.batch + (t.size(1) - 1) * v.channel + (pixels - 1) * v.pixel;
  return v;
}

Array array(const Tensor& t) { return {t.data_ptr(), t.numel()}; }
Array array(const Optional& t) { return t ? array(*t) : Array(); }

// Channels first, first + step, ... of a view, `count` of them.
View channels(View v, int64_t first, int64_t step, int64_t count, size_t element_size) {
  const int64_t skipped = first * v.channel, left_out = v.extent ? v.extent - 1 - skipped : 0;
  if (v.extent == 0 || count == 0) return {v.data, v.batch, v.channel * step, v.pixel, 0};
  View part = v;
  part.data = static_cast<char*>(v.data) + skipped * static_cast<int64_t>(element_size);
  part.channel = v.channel * step;
  part.extent = left_out + 1;
  return part;
}

struct Packed {
  View scale, shift;
};

// Halves or alternating channels; see LAYOUTS in flowkit/ops/affine.py.
Packed unpack(const Tensor& params, const Optional& shift, int64_t layout) {
  if (shift) return {view(params), view(*shift)};
  const int64_t n = params.size(1) / 2, step = layout < 2 ? 1 : 2, second = layout < 2 ? n : 1;
  const View all = view(params);
  const View a = channels(all, 0, step, n, params.element_size()), b = channels(all, second, step, n, params.element_size());
  return layout % 2 == 0 ? Packed{a, b} : Packed{b, a};
}

void check_permutation(const Tensor& x, const Optional& permutation) {
  if (!permutation) return;
  FLOWKIT_CHECK(
      permutation->dim() == 1 && permutation->numel() == x.size(1) && permutation->scalar_type() == ScalarType::Long &&
          permutation->is_contiguous() && permutation->is_cuda() == x.is_cuda(),
      "flowkit: permutation must be a contiguous int64 tensor of ", x.size(1), " elements on the device of x");
#ifndef FLOWKIT_EMULATE_CUDA
  if (!x.is_cuda()) {  // on a GPU the caller vouches for the values: looking at them would synchronise
    const auto* p = static_cast<const int64_t*>(permutation->data_ptr());
    std::vector<bool> seen(x.size(1));
    for (int64_t j = 0; j < x.size(1); ++j) {
      FLOWKIT_CHECK(p[j] >= 0 && p[j] < x.size(1) && !seen[p[j]], "flowkit: permutation is not a permutation of 0..",
                    x.size(1) - 1);
      seen[p[j]] = true;
    }
  }
#endif
}

void check_like(const Tensor& x, const Tensor& t, const char* name) {
  FLOWKIT_CHECK(t.dim() == x.dim() && t.scalar_type() == x.scalar_type() && t.is_cuda() == x.is_cuda() &&
                    t.get_device_index() == x.get_device_index(),
                "flowkit: ", name, " must have the rank, dtype and device of x");
  for (int64_t d = 0; d < x.dim(); ++d)
    FLOWKIT_CHECK(d == 1 || t.size(d) == x.size(d), "flowkit: ", name, " has size ", t.size(d), " in dimension ", d,
                  ", x has ", x.size(d));
}

void check_x(const Tensor& x) { FLOWKIT_CHECK(x.dim() >= 2, "flowkit: x must be (B, C, *spatial)"); }

void check_out(const Tensor& x, const Tensor& out) {
  check_like(x, out, "out");
  FLOWKIT_CHECK(out.size(1) == x.size(1), "flowkit: out must have the shape of x");
}

void check_sum(const Tensor& x, const Tensor& sum, const char* name) {
  FLOWKIT_CHECK(sum.dim() == 1 && sum.size(0) == x.size(0) && sum.scalar_type() == accumulator(x) &&
                    sum.is_contiguous() && sum.is_cuda() == x.is_cuda(),
                "flowkit: ", name, " must be a contiguous (B,) tensor in the accumulator type of x");
}

// Runs `name` of the back end that the tensor lies on.
#if defined(FLOWKIT_EMULATE_CUDA)
#define FLOWKIT_RUN(name, x, args) cuda::name(args, nullptr)
#define FLOWKIT_SIZE(name, x, shape) cuda::name(shape)
#elif defined(FLOWKIT_CUDA)
cuda::Stream current_stream(const Tensor& x) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return stream;
}
#define FLOWKIT_RUN(name, x, args)                                              \
  do {                                                                          \
    if ((x).is_cuda()) {                                                        \
      const torch::stable::accelerator::DeviceGuard guard((x).get_device_index()); \
      cuda::name(args, current_stream(x));                                      \
    } else {                                                                    \
      cpu::name(args);                                                          \
    }                                                                           \
  } while (false)
#define FLOWKIT_SIZE(name, x, shape) ((x).is_cuda() ? cuda::name(shape) : cpu::name(shape))
#else
#define FLOWKIT_RUN(name, x, args) cpu::name(args)
#define FLOWKIT_SIZE(name, x, shape) cpu::name(shape)
#endif

// A result tensor: computed in a dense buffer where `out` has strides that the kernels do not take.
class Target {
 public:
  Target(const Tensor& out, const Shape& shape) : out_(out), used_(prepared(out, shape)) {}
  View view() const { return flowkit::view(used_); }
  bool in_place(const Tensor& x) const { return used_.data_ptr() == x.data_ptr(); }
  void finish() {
    if (used_.data_ptr() != out_.data_ptr()) torch::stable::copy_(out_, used_);
  }

 private:
  static Tensor prepared(const Tensor& out, const Shape& shape) {
    const bool image = out.dim() > 2 && shape.pixels > 1;
    const bool fits = !image ? out.size(1) == 1 || out.stride(1) == 1
                             : spatial_is_one_run(out) && out.stride(shape.channels_last ? 1 : out.dim() - 1) == 1;
    return fits || out.numel() == 0 ? out : empty_dense(out, sizes_of(out), shape.channels_last && out.dim() > 2);
  }

  Tensor out_, used_;
};

struct Sum {
  LogDet logdet;
  Tensor partial;

  Sum(const Tensor& x, const Shape& shape, const Tensor& sum, bool accumulate)
      : partial(empty_vector(x, FLOWKIT_SIZE(partial_size, x, shape), accumulator(x))) {
    logdet = {array(sum), array(partial), accumulate};
  }
};

// ---- couplings ----

struct CouplingInputs {
  Tensor x, params;
  Optional shift;
};

// Fills what forward and backward share; keeps prepared copies alive in `hold`.
Coupling coupling_options(
    const Tensor& x, const Tensor* params, const Tensor& shift_or_params, bool packed, const Optional& permutation,
    int64_t begin, int64_t layout, int64_t clamp, double bound, double gain, bool inverse, CouplingInputs& hold) {
  check_x(x);
  check_permutation(x, permutation);
  FLOWKIT_CHECK(clamp >= 0 && clamp <= 3 && layout >= 0 && layout <= 3, "flowkit: unknown clamp or layout");
  Coupling c;
  c.shape = shape_of(x);
  c.dtype = dtype_of(x);
  const bool last = c.shape.channels_last;
  hold.x = prepare(x, last);
  hold.params = prepare_params(params ? *params : shift_or_params, last);
  check_like(x, hold.params, "params");
  if (params && !packed) {
    hold.shift = prepare_params(shift_or_params, last);
    check_like(x, *hold.shift, "shift");
    FLOWKIT_CHECK(hold.shift->size(1) == hold.params.size(1), "flowkit: params and shift differ in channels");
  }
  if (!params) {
    c.shift = view(hold.params);
    c.count = hold.params.size(1);
  } else {
    const Packed p = unpack(hold.params, hold.shift, layout);
    c.scale = p.scale;
    c.shift = p.shift;
    c.count = packed ? hold.params.size(1) / 2 : hold.params.size(1);
  }
  FLOWKIT_CHECK(begin >= 0 && begin + c.count <= x.size(1), "flowkit: transformed channels [", begin, ", ",
                begin + c.count, ") leave x with ", x.size(1), " channels");
  c.permutation = array(permutation);
  c.begin = begin;
  c.clamp = static_cast<Clamp>(clamp);
  c.bound = bound;
  c.gain = gain;
  c.inverse = inverse;
  return c;
}

void run_coupling(const Coupling& c, const Tensor& x, const Tensor& out, const Tensor& sum, bool accumulate) {
  check_out(x, out);
  check_sum(x, sum, "logdet");
  if (c.shape.size() == 0) {
    if (!accumulate && sum.numel() > 0) {
      Tensor s = sum;
      torch::stable::zero_(s);
    }
    return;
  }
  Target target(out, c.shape);
  FLOWKIT_CHECK(!c.permutation.data || !target.in_place(x), "flowkit: a coupling with a permutation cannot run in place");
  const Sum s(x, c.shape, sum, accumulate);
  CouplingForward a{c, view(x), target.view(), s.logdet};
  FLOWKIT_RUN(coupling, x, a);
  target.finish();
}

void affine_coupling_out(
    const Tensor& x, const Tensor& params, Optional shift, Optional permutation, int64_t begin, int64_t layout,
    int64_t clamp, double bound, double gain, bool inverse, const Tensor& out, const Tensor& logdet) {
  CouplingInputs hold;
  const Coupling c = coupling_options(
      x, &params, shift ? *shift : params, !shift, permutation, begin, layout, clamp, bound, gain, inverse, hold);
  run_coupling(c, hold.x, out, logdet, true);
}

std::tuple<Tensor, Tensor> affine_coupling(
    const Tensor& x, const Tensor& params, Optional shift, Optional permutation, int64_t begin, int64_t layout,
    int64_t clamp, double bound, double gain, bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(
      x, &params, shift ? *shift : params, !shift, permutation, begin, layout, clamp, bound, gain, inverse, hold);
  Tensor y = empty_dense(x, sizes_of(x), is_channels_last(x)), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_coupling(c, hold.x, y, logdet, false);
  return {y, logdet};
}

void additive_coupling_out(
    const Tensor& x, const Tensor& shift, Optional permutation, int64_t begin, bool inverse, const Tensor& out,
    const Tensor& logdet) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, nullptr, shift, false, permutation, begin, 0, 0, 0, 1, inverse, hold);
  run_coupling(c, hold.x, out, logdet, true);
}

std::tuple<Tensor, Tensor> additive_coupling(
    const Tensor& x, const Tensor& shift, Optional permutation, int64_t begin, bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, nullptr, shift, false, permutation, begin, 0, 0, 0, 1, inverse, hold);
  Tensor y = empty_dense(x, sizes_of(x), is_channels_last(x)), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_coupling(c, hold.x, y, logdet, false);
  return {y, logdet};
}

struct CouplingGrads {
  Tensor x, params, shift;
};

// y is the output; gradients are dense in its layout.
CouplingGrads run_coupling_backward(
    Coupling c, const CouplingInputs& hold, const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y,
    bool affine, int64_t layout) {
  const bool last = is_channels_last(y);
  const Tensor grad = prepare(grad_y, c.shape.channels_last);
  check_out(hold.x, grad);
  Tensor grad_sum = grad_logdet.is_contiguous() ? grad_logdet : torch::stable::contiguous(grad_logdet);
  check_sum(y, grad_sum, "grad_logdet");
  CouplingGrads g{
      empty_dense(y, sizes_of(y), last), empty_dense(y, sizes_of(hold.params), last),
      hold.shift ? empty_dense(y, sizes_of(*hold.shift), last) : empty_vector(y, 0, y.scalar_type())};
  if (c.shape.size() == 0) return g;
  CouplingBackward a{c, view(grad), view(hold.x), view(g.x), View(), View(), array(grad_sum)};
  if (affine) {
    const Packed p = unpack(g.params, hold.shift ? Optional(g.shift) : std::nullopt, layout);
    a.grad_scale = p.scale;
    a.grad_shift = p.shift;
  } else {
    a.grad_shift = view(g.params);
  }
  FLOWKIT_RUN(coupling_backward, y, a);
  return g;
}

std::tuple<Tensor, Tensor, Tensor> affine_coupling_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, const Tensor& params, Optional shift,
    Optional permutation, int64_t begin, int64_t layout, int64_t clamp, double bound, double gain, bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(
      y, &params, shift ? *shift : params, !shift, permutation, begin, layout, clamp, bound, gain, inverse, hold);
  const CouplingGrads g = run_coupling_backward(c, hold, grad_y, grad_logdet, y, true, layout);
  return {g.x, g.params, g.shift};
}

std::tuple<Tensor, Tensor> additive_coupling_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, const Tensor& shift, Optional permutation,
    int64_t begin, bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(y, nullptr, shift, false, permutation, begin, 0, 0, 0, 1, inverse, hold);
  const CouplingGrads g = run_coupling_backward(c, hold, grad_y, grad_logdet, y, false, 0);
  return {g.x, g.params};
}

// ---- actnorm ----

ActNorm actnorm_options(const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale, bool inverse) {
  check_x(x);
  for (const Tensor* t : {&scale, &shift})
    FLOWKIT_CHECK(t->dim() == 1 && t->numel() == x.size(1) && t->is_contiguous() && t->scalar_type() == accumulator(x) &&
                      t->is_cuda() == x.is_cuda(),
                  "flowkit: scale and shift must be contiguous (", x.size(1), ",) tensors in the accumulator type of x");
  return {shape_of(x), dtype_of(x), array(scale), array(shift), log_scale, inverse};
}

void run_actnorm(const ActNorm& n, const Tensor& x, const Tensor& out, const Tensor& sum, bool accumulate) {
  check_out(x, out);
  check_sum(x, sum, "logdet");
  if (n.shape.size() == 0) {
    if (!accumulate && sum.numel() > 0) {
      Tensor s = sum;
      torch::stable::zero_(s);
    }
    return;
  }
  const Tensor input = prepare(x, n.shape.channels_last);
  Target target(out, n.shape);
  ActNormForward a{n, view(input), target.view(), {array(sum), Array(), accumulate}};
  FLOWKIT_RUN(actnorm, x, a);
  target.finish();
}

void actnorm_out(
    const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale, bool inverse, const Tensor& out,
    const Tensor& logdet) {
  run_actnorm(actnorm_options(x, scale, shift, log_scale, inverse), x, out, logdet, true);
}

std::tuple<Tensor, Tensor> actnorm(
    const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale, bool inverse) {
  const ActNorm n = actnorm_options(x, scale, shift, log_scale, inverse);
  Tensor y = empty_dense(x, sizes_of(x), is_channels_last(x)), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_actnorm(n, x, y, logdet, false);
  return {y, logdet};
}

std::tuple<Tensor, Tensor, Tensor> actnorm_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, const Tensor& scale, const Tensor& shift,
    bool log_scale, bool inverse) {
  const ActNorm n = actnorm_options(y, scale, shift, log_scale, inverse);
  const Tensor output = prepare(y, n.shape.channels_last), grad = prepare(grad_y, n.shape.channels_last);
  check_out(y, grad);
  Tensor grad_sum = grad_logdet.is_contiguous() ? grad_logdet : torch::stable::contiguous(grad_logdet);
  check_sum(y, grad_sum, "grad_logdet");
  Tensor grad_x = empty_dense(y, sizes_of(y), is_channels_last(y));
  Tensor grad_scale = empty_vector(y, y.size(1), accumulator(y)), grad_shift = empty_vector(y, y.size(1), accumulator(y));
  if (n.shape.size() == 0) {
    torch::stable::zero_(grad_scale);
    torch::stable::zero_(grad_shift);
    return {grad_x, grad_scale, grad_shift};
  }
  Tensor partial = empty_vector(y, FLOWKIT_SIZE(actnorm_partial_size, y, n.shape), accumulator(y));
  ActNormBackward a{n, view(grad), view(output), view(grad_x), array(grad_sum), array(grad_scale), array(grad_shift),
                    array(partial)};
  FLOWKIT_RUN(actnorm_backward, y, a);
  return {grad_x, grad_scale, grad_shift};
}

// ---- leaky ReLU ----

void run_leaky_relu(const Tensor& x, double slope, bool inverse, const Tensor& out, const Tensor& sum, bool accumulate) {
  check_x(x);
  check_out(x, out);
  check_sum(x, sum, "logdet");
  const Shape shape = shape_of(x);
  if (shape.size() == 0) {
    if (!accumulate && sum.numel() > 0) {
      Tensor s = sum;
      torch::stable::zero_(s);
    }
    return;
  }
  const Tensor input = prepare(x, shape.channels_last);
  Target target(out, shape);
  const Sum s(x, shape, sum, accumulate);
  LeakyReluForward a{shape, dtype_of(x), view(input), target.view(), slope, inverse, s.logdet};
  FLOWKIT_RUN(leaky_relu, x, a);
  target.finish();
}

void leaky_relu_out(const Tensor& x, double slope, bool inverse, const Tensor& out, const Tensor& logdet) {
  run_leaky_relu(x, slope, inverse, out, logdet, true);
}

std::tuple<Tensor, Tensor> leaky_relu(const Tensor& x, double slope, bool inverse) {
  Tensor y = empty_dense(x, sizes_of(x), is_channels_last(x)), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_leaky_relu(x, slope, inverse, y, logdet, false);
  return {y, logdet};
}

Tensor leaky_relu_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, double slope, bool inverse) {
  const Shape shape = shape_of(y);
  const Tensor output = prepare(y, shape.channels_last), grad = prepare(grad_y, shape.channels_last);
  check_out(y, grad);
  Tensor grad_x = empty_dense(y, sizes_of(y), is_channels_last(y));
  if (shape.size() == 0) return grad_x;
  LeakyReluBackward a{shape, dtype_of(y), view(grad), view(output), view(grad_x), slope, inverse};
  FLOWKIT_RUN(leaky_relu_backward, y, a);
  return grad_x;
}

// ---- permutation ----

void permute_channels_out(const Tensor& x, const Tensor& permutation, bool inverse, const Tensor& out) {
  check_x(x);
  check_permutation(x, permutation);
  check_out(x, out);
  const Shape shape = shape_of(x);
  if (shape.size() == 0) return;
  const Tensor input = prepare(x, shape.channels_last);
  Target target(out, shape);
  FLOWKIT_CHECK(!target.in_place(input), "flowkit: permute_channels cannot run in place");
  Permute a{shape, dtype_of(x), view(input), target.view(), array(permutation), inverse};
  FLOWKIT_RUN(permute, x, a);
  target.finish();
}

Tensor permute_channels(const Tensor& x, const Tensor& permutation, bool inverse) {
  Tensor y = empty_dense(x, sizes_of(x), is_channels_last(x));
  permute_channels_out(x, permutation, inverse, y);
  return y;
}

Tensor permute_channels_backward(const Tensor& grad_y, const Tensor& y, const Tensor& permutation, bool inverse) {
  Tensor grad_x = empty_dense(y, sizes_of(y), is_channels_last(y));
  const Shape shape = shape_of(y);
  permute_channels_out(prepare(grad_y, shape.channels_last), permutation, !inverse, grad_x);
  return grad_x;
}

// ---- linear map over channels ----

// Few channels with pixels innermost run in a kernel of ours; otherwise torch's matrix product is the right tool.
bool linear_is_small(const Shape& shape) {
#if defined(FLOWKIT_EMULATE_CUDA)
  return shape.channels <= cuda::max_linear_channels && !shape.channels_last;
#else
  return shape.channels <= cpu::max_linear_channels && !shape.channels_last;
#endif
}

Tensor transpose(const Tensor& t) { return torch::stable::transpose(t, -2, -1); }

// (B, C, pixels) or, channels last, (B * pixels, C).
Tensor as_matrix(const Tensor& x, const Shape& shape) {
  if (!shape.channels_last) return torch::stable::reshape(x, {shape.batch, shape.channels, shape.pixels});
  const Tensor flat = x.dim() == 2 ? x : transpose(torch::stable::flatten(x, 2, -1));
  return torch::stable::reshape(flat, {shape.batch * shape.pixels, shape.channels});
}

void linear_into(const Tensor& x, const Tensor& weight, bool transposed, const Tensor& out) {
  const Shape shape = shape_of(x);
  if (shape.size() == 0) return;
  if (linear_is_small(shape)) {
    const Tensor input = prepare(x, false);
    Target target(out, shape);
    FLOWKIT_CHECK(!target.in_place(input), "flowkit: channel_linear cannot run in place");
    Linear a{shape, dtype_of(x), view(input), target.view(), array(weight), transposed};
    FLOWKIT_RUN(linear, x, a);
    target.finish();
    return;
  }
  const Tensor matrix = as_matrix(prepare(x, shape.channels_last), shape);
  const Tensor w = transposed ? transpose(weight) : weight;
  Tensor y = out;
  if (shape.channels_last) {
    const Tensor rows = torch::stable::matmul(matrix, transpose(w));
    const Tensor images = torch::stable::reshape(rows, {shape.batch, shape.pixels, shape.channels});
    torch::stable::copy_(y, torch::stable::reshape(transpose(images), sizes_of(x)));
  } else {
    torch::stable::copy_(y, torch::stable::reshape(torch::stable::matmul(w, matrix), sizes_of(x)));
  }
}

Tensor contiguous_weight(const Tensor& x, const Tensor& weight) {
  check_x(x);
  FLOWKIT_CHECK(weight.dim() == 2 && weight.size(0) == x.size(1) && weight.size(1) == x.size(1) &&
                    weight.scalar_type() == x.scalar_type() && weight.is_cuda() == x.is_cuda(),
                "flowkit: weight must be (", x.size(1), ", ", x.size(1), ") in the dtype and on the device of x");
  return weight.is_contiguous() ? weight : torch::stable::contiguous(weight);
}

void channel_linear_out(const Tensor& x, const Tensor& weight, const Tensor& out) {
  check_out(x, out);
  linear_into(x, contiguous_weight(x, weight), false, out);
}

Tensor channel_linear(const Tensor& x, const Tensor& weight) {
  Tensor y = empty_dense(x, sizes_of(x), is_channels_last(x));
  linear_into(x, contiguous_weight(x, weight), false, y);
  return y;
}

std::tuple<Tensor, Tensor> channel_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& weight) {
  Tensor grad_x = empty_dense(x, sizes_of(x), is_channels_last(x));
  linear_into(prepare(grad_y, shape_of(x).channels_last), contiguous_weight(x, weight), true, grad_x);
  Shape shape = shape_of(x);
  const Tensor g = as_matrix(prepare(grad_y, shape.channels_last), shape), m = as_matrix(prepare(x, shape.channels_last), shape);
  if (shape.channels_last) return {grad_x, torch::stable::matmul(transpose(g), m)};
  const Tensor products = torch::stable::matmul(g, transpose(m));
  const std::vector<int64_t> batch{0};
  return {grad_x, torch::stable::sum(products, batch)};
}

}  // namespace
}  // namespace flowkit

#ifdef FLOWKIT_EMULATE_CUDA
#define FLOWKIT_NAMESPACE flowkit_emulated
#else
#define FLOWKIT_NAMESPACE flowkit
#endif

#define FLOWKIT_COUPLING "Tensor? permutation, int begin, int layout, int clamp, float bound, float gain, bool inverse"
#define FLOWKIT_OUT "Tensor(a!) out, Tensor(b!) logdet) -> ()"

STABLE_TORCH_LIBRARY(FLOWKIT_NAMESPACE, m) {
  m.def("affine_coupling(Tensor x, Tensor params, Tensor? shift, " FLOWKIT_COUPLING ") -> (Tensor, Tensor)");
  m.def("affine_coupling_out(Tensor x, Tensor params, Tensor? shift, " FLOWKIT_COUPLING ", " FLOWKIT_OUT);
  m.def("affine_coupling_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor params, Tensor? shift, "
        FLOWKIT_COUPLING ") -> (Tensor, Tensor, Tensor)");
  m.def("additive_coupling(Tensor x, Tensor shift, Tensor? permutation, int begin, bool inverse) -> (Tensor, Tensor)");
  m.def("additive_coupling_out(Tensor x, Tensor shift, Tensor? permutation, int begin, bool inverse, " FLOWKIT_OUT);
  m.def("additive_coupling_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor shift, Tensor? permutation, "
        "int begin, bool inverse) -> (Tensor, Tensor)");
  m.def("actnorm(Tensor x, Tensor scale, Tensor shift, bool log_scale, bool inverse) -> (Tensor, Tensor)");
  m.def("actnorm_out(Tensor x, Tensor scale, Tensor shift, bool log_scale, bool inverse, " FLOWKIT_OUT);
  m.def("actnorm_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor scale, Tensor shift, bool log_scale, "
        "bool inverse) -> (Tensor, Tensor, Tensor)");
  m.def("leaky_relu(Tensor x, float slope, bool inverse) -> (Tensor, Tensor)");
  m.def("leaky_relu_out(Tensor x, float slope, bool inverse, " FLOWKIT_OUT);
  m.def("leaky_relu_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, float slope, bool inverse) -> Tensor");
  m.def("permute_channels(Tensor x, Tensor permutation, bool inverse) -> Tensor");
  m.def("permute_channels_out(Tensor x, Tensor permutation, bool inverse, Tensor(a!) out) -> ()");
  m.def("permute_channels_backward(Tensor grad_y, Tensor y, Tensor permutation, bool inverse) -> Tensor");
  m.def("channel_linear(Tensor x, Tensor weight) -> Tensor");
  m.def("channel_linear_out(Tensor x, Tensor weight, Tensor(a!) out) -> ()");
  m.def("channel_linear_backward(Tensor grad_y, Tensor x, Tensor weight) -> (Tensor, Tensor)");
}

namespace {

void implement(torch::stable::detail::StableLibrary& m) {
#define FLOWKIT_IMPL(name) m.impl(#name, TORCH_BOX(&flowkit::name))
#define FLOWKIT_IMPL_FAMILY(name) \
  FLOWKIT_IMPL(name);             \
  FLOWKIT_IMPL(name##_out);       \
  FLOWKIT_IMPL(name##_backward)
  FLOWKIT_IMPL_FAMILY(affine_coupling);
  FLOWKIT_IMPL_FAMILY(additive_coupling);
  FLOWKIT_IMPL_FAMILY(actnorm);
  FLOWKIT_IMPL_FAMILY(leaky_relu);
  FLOWKIT_IMPL_FAMILY(permute_channels);
  FLOWKIT_IMPL_FAMILY(channel_linear);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(FLOWKIT_NAMESPACE, CPU, m) { implement(m); }
#ifdef FLOWKIT_CUDA
STABLE_TORCH_LIBRARY_IMPL(FLOWKIT_NAMESPACE, CUDA, m) { implement(m); }
#endif
