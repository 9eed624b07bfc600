// Leaky ReLU.
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

void run_leaky_relu(const Tensor& x, double slope, bool inverse, const Tensor& out, const Tensor& sum,
                    bool accumulate) {
  check_x(x);
  check_out(x, out, "out");
  check_sum(x, sum, "logdet");
  check_overlap(x, out, true);
  const Shape shape = shape_of(x);
  if (nothing_to_do(shape, sum, accumulate)) return;
  const Tensor input = prepare(x, shape.channels_last);
  Target target(out, shape);
  const Sum s(x, shape, sum, accumulate);
  LeakyReluForward a{shape, dtype_of(x), view(input), target.view(), slope, inverse, s.logdet};
  FLOWKIT_RUN(leaky_relu, x, a);
  target.finish();
}

}  // namespace

void leaky_relu_out(const Tensor& x, double slope, bool inverse, const Tensor& out, const Tensor& logdet) {
  run_leaky_relu(x, slope, inverse, out, logdet, true);
}

std::tuple<Tensor, Tensor> leaky_relu(const Tensor& x, double slope, bool inverse) {
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_leaky_relu(x, slope, inverse, y, logdet, false);
  return {y, logdet};
}

Tensor leaky_relu_backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, double slope,
                           bool inverse) {
  check_x(y);
  check_out(y, grad_y, "grad_y");
  const Shape shape = shape_of(y);
  const Tensor output = prepare(y, shape.channels_last), grad = prepare(grad_y, shape.channels_last);
  Tensor grad_x = empty_output(y);
  if (shape.size() == 0) return grad_x;
  LeakyReluBackward a{shape, dtype_of(y), view(grad), view(output), view(grad_x), slope, inverse};
  FLOWKIT_RUN(leaky_relu_backward, y, a);
  return grad_x;
}

}  // namespace flowkit
