// Entry points of the couplings, alone and with the actnorm of a flow step: choose the storage type. The kernels are
// compiled in coupling_<type>.cu.
#include "logdet.cuh"
#include "norm.cuh"

namespace flowkit::cuda {

template <class S>
void launch_coupling(const CouplingForward&, const ActNormParams<Compute<S>>&, Stream);
template <class S>
void launch_coupling_backward(const CouplingBackward&, Stream);

int64_t partial_size(const Shape& shape) {
  const int64_t chunks = Walk::chunks_of(shape.channels * shape.pixels);
  return chunks > 1 ? shape.batch * chunks : 0;
}

void coupling(const CouplingForward& c, Stream stream) {
  if (c.shape.batch == 0) return;
  dispatch(c.dtype, [&](auto s) { launch_coupling<decltype(s)>(c, {}, stream); });
}

void step(const StepForward& c, Stream stream) {
  if (c.shape.batch == 0) return;
  dispatch(c.dtype, [&](auto s) {
    using S = decltype(s);
    launch_coupling<S>(c, actnorm_params<Compute<S>>(c.norm.scale, c.norm.shift, c.norm.log_scale, c.inverse), stream);
  });
}

void coupling_backward(const CouplingBackward& c, Stream stream) {
  if (c.shape.batch == 0) return;
  dispatch(c.dtype, [&](auto s) { launch_coupling_backward<decltype(s)>(c, stream); });
}

}  // namespace flowkit::cuda
