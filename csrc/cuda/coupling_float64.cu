// The couplings for float64 storage; one file a type, so that they compile side by side.
#include "coupling.cuh"

namespace flowkit::cuda {

template void launch_coupling<double>(const CouplingForward&, const ActNormParams<double>&, Stream);
template void launch_coupling_backward<double>(const CouplingBackward&, Stream);

}  // namespace flowkit::cuda
