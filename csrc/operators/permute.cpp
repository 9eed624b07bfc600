// Channel permutation.
#include "operators.h"
#include "tensors.h"

namespace flowkit {

void permute_channels_out(const Tensor& x, const Tensor& permutation, bool inverse, const Tensor& out) {
  check_x(x);
  check_permutation(x, permutation);
  check_out(x, out, "out");
  check_overlap(x, out, false);
  const Shape shape = shape_of(x);
  if (shape.size() == 0) return;
  const Tensor input = prepare(x, shape.channels_last);
  Target target(out, shape);
  Permute a{shape, dtype_of(x), view(input), target.view(), array(permutation), inverse};
  FLOWKIT_RUN(permute, x, a);
  target.finish();
}

Tensor permute_channels(const Tensor& x, const Tensor& permutation, bool inverse) {
  Tensor y = empty_output(x);
  permute_channels_out(x, permutation, inverse, y);
  return y;
}

Tensor permute_channels_backward(const Tensor& grad_y, const Tensor& y, const Tensor& permutation, bool inverse) {
  Tensor grad_x = empty_output(y);
  check_out(y, grad_y, "grad_y");
  permute_channels_out(prepare(grad_y, shape_of(y).channels_last), permutation, !inverse, grad_x);
  return grad_x;
}

}  // namespace flowkit
