// The couplings for float16 storage; one file a type, so that they compile side by side.
#include "coupling.cuh"

namespace flowkit::cuda {

template void launch_coupling<__half>(const CouplingForward&, const ActNormParams<float>&, Stream);
template void launch_coupling_backward<__half>(const CouplingBackward&, Stream);

}  // namespace flowkit::cuda
