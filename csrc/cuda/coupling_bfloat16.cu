// The couplings for bfloat16 storage; one file a type, so that they compile side by side.
#include "coupling.cuh"

namespace flowkit::cuda {

template void launch_coupling<__nv_bfloat16>(const CouplingForward&, const ActNormParams<float>&, Stream);
template void launch_coupling_backward<__nv_bfloat16>(const CouplingBackward&, Stream);

}  // namespace flowkit::cuda
