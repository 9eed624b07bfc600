// Couplings whose elements have parameters of their own. Not written yet: these say so.
#include <stdexcept>

#include "../launch.h"

namespace flowkit::cuda {

void rational_quadratic(const ParametricForward<RationalQuadraticOptions>&, Stream) {
  throw std::runtime_error("flowkit: no CUDA kernel for rational_quadratic_coupling yet");
}

void rational_quadratic_backward(const ParametricBackward<RationalQuadraticOptions>&, Stream) {
  throw std::runtime_error("flowkit: no CUDA kernel for rational_quadratic_coupling yet");
}

}  // namespace flowkit::cuda
