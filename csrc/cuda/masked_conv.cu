// The solve with an autoregressive convolution. Not written yet: it says so.
#include <stdexcept>

#include "../launch.h"

namespace flowkit::cuda {

void masked_conv_solve(const MaskedConvSolve&, Stream) {
  throw std::runtime_error("flowkit: no CUDA kernel for masked_conv_solve yet");
}

}  // namespace flowkit::cuda
