// Actnorm.
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

struct Options : ActNorm {
  Tensor dense_scale, dense_shift;

  Options(const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale, bool inverse)
      : dense_scale(channel_parameter(x, scale)), dense_shift(channel_parameter(x, shift)) {
    static_cast<ActNorm&>(*this) = {shape_of(x),        dtype_of(x), array(dense_scale),
                                    array(dense_shift), log_scale,   inverse};
  }
};

void run_actnorm(const ActNorm& n, const Tensor& x, const Tensor& out, const Tensor& sum, bool accumulate) {
  check_out(x, out, "out");
  check_sum(x, sum, "logdet");
  check_overlap(x, out, true);
  if (nothing_to_do(n.shape, sum, accumulate)) return;
  const Tensor input = prepare(x, n.shape.channels_last);
  Target target(out, n.shape);
  ActNormForward a{n, view(input), target.view(), {array(sum), Array(), accumulate}};
  FLOWKIT_RUN(actnorm, x, a);
  target.finish();
}

}  // namespace

void actnorm_out(const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale, bool inverse,
                 const Tensor& out, const Tensor& logdet) {
  run_actnorm(Options(x, scale, shift, log_scale, inverse), x, out, logdet, true);
}

std::tuple<Tensor, Tensor> actnorm(const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale,
                                   bool inverse) {
  const Options n(x, scale, shift, log_scale, inverse);
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_actnorm(n, x, y, logdet, false);
  return {y, logdet};
}

std::tuple<Tensor, Tensor, Tensor> actnorm_backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y,
                                                    const Tensor& scale, const Tensor& shift, bool log_scale,
                                                    bool inverse) {
  const Options n(y, scale, shift, log_scale, inverse);
  check_out(y, grad_y, "grad_y");
  const Tensor output = prepare(y, n.shape.channels_last), grad = prepare(grad_y, n.shape.channels_last);
  Tensor grad_sum = grad_logdet.is_contiguous() ? grad_logdet : torch::stable::contiguous(grad_logdet);
  check_sum(y, grad_sum, "grad_logdet");
  Tensor grad_x = empty_output(y);
  Tensor grad_scale = empty_vector(y, y.size(1), accumulator(y)),
         grad_shift = empty_vector(y, y.size(1), accumulator(y));
  if (n.shape.size() == 0) {
    torch::stable::zero_(grad_scale);
    torch::stable::zero_(grad_shift);
    return {grad_x, grad_scale, grad_shift};
  }
  Tensor partial = empty_vector(y, FLOWKIT_SIZE(actnorm_partial_size, y, n.shape), accumulator(y));
  ActNormBackward a{
      n, view(grad), view(output), view(grad_x), array(grad_sum), array(grad_scale), array(grad_shift), array(partial)};
  FLOWKIT_RUN(actnorm_backward, y, a);
  return {grad_x, grad_scale, grad_shift};
}

}  // namespace flowkit
