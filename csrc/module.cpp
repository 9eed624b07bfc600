// The pybind11 module flowkit._C: importing it registers the operators; it tells the facts of the build.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cpu/dispatch.h"

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

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of flowkit; importing this module registers torch.ops.flowkit.*";
  m.def("version", [] { return FLOWKIT_VERSION; }, "Version that was built.");
  m.def("cpu_capability", &cpu_capability, "Instruction set that the CPU kernels run with: avx512, avx2 or generic.");
  m.def("cuda_architectures", &cuda_architectures, "Architectures that the CUDA kernels were compiled for.");
  m.def("has_cuda", [] { return !cuda_architectures().empty(); }, "Whether the CUDA back end was built.");
}
