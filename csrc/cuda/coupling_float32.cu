// The couplings for float32 storage; one file a type, so that they compile side by side.
#include "coupling.cuh"

namespace flowkit::cuda {

template void launch_coupling<float>(const CouplingForward&, const ActNormParams<float>&, Stream);
template void launch_coupling_backward<float>(const CouplingBackward&, Stream);

}  // namespace flowkit::cuda
