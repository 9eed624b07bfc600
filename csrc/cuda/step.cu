// Flow steps: kernels to come; until then a call on CUDA says so.
#include <stdexcept>

#include "../launch.h"

namespace flowkit::cuda {

int64_t step_partial_size(const Shape&) { return 0; }

void step(const StepForward&, Stream) { throw std::runtime_error("flowkit: steps have no CUDA kernel yet"); }

void step_backward(const StepBackward&, Stream) { throw std::runtime_error("flowkit: steps have no CUDA kernel yet"); }

}  // namespace flowkit::cuda
