// Linear map over channels.
#include <array>

#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

Tensor transpose(const Tensor& t) { return torch::stable::transpose(t, -2, -1); }

// (B, C, pixels) or, channels last, (B * pixels, C).
Tensor as_matrix(const Tensor& x, const Shape& shape) {
  if (x.dim() == 2) return x;
  if (!shape.channels_last) return torch::stable::reshape(x, {shape.batch, shape.channels, shape.pixels});
  const Tensor flat = transpose(torch::stable::flatten(x, 2, -1));
  return torch::stable::reshape(flat, {shape.batch * shape.pixels, shape.channels});
}

void matmul_into(const Tensor& a, const Tensor& b, const Tensor& out) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::matmul", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // takes back the reference that the call returns
}

void linear_into(const Tensor& x, const Tensor& weight, bool transposed, const Tensor& out) {
  const Shape shape = shape_of(x);
  if (shape.size() == 0) return;
  check_overlap(x, out, false);
#ifdef FLOWKIT_CUDA_KERNELS
  if (on_cuda(x) && shape.channels <= cuda::max_linear_channels) {
    const Tensor input = prepare(x, shape.channels_last);
    Target target(out, shape);
    Linear a{shape, dtype_of(x), view(input), target.view(), array(weight), transposed};
    FLOWKIT_RUN_CUDA(linear, x, a);
    target.finish();
    return;
  }
#endif
  const bool dense = as_matrix(out, shape).data_ptr() == out.data_ptr();  // otherwise reshape has copied
  Tensor y = dense ? out : empty_dense(out, sizes_of(out), shape.channels_last && out.dim() > 2);
  const Tensor from = as_matrix(prepare(x, shape.channels_last), shape), to = as_matrix(y, shape);
  if (shape.channels_last)
    matmul_into(from, transposed ? weight : transpose(weight), to);
  else
    matmul_into(transposed ? transpose(weight) : weight, from, to);
  if (!dense) {
    Tensor target = out;
    torch::stable::copy_(target, y);
  }
}

Tensor contiguous_weight(const Tensor& x, const Tensor& weight) {
  check_x(x);
  FLOWKIT_CHECK(weight.dim() == 2 && weight.size(0) == x.size(1) && weight.size(1) == x.size(1) &&
                    weight.scalar_type() == x.scalar_type() && same_device(x, weight),
                "flowkit: weight must be (", x.size(1), ", ", x.size(1), ") in the dtype and on the device of x");
  return weight.is_contiguous() ? weight : torch::stable::contiguous(weight);
}

}  // namespace

void channel_linear_out(const Tensor& x, const Tensor& weight, const Tensor& out) {
  check_out(x, out, "out");
  linear_into(x, contiguous_weight(x, weight), false, out);
}

Tensor channel_linear(const Tensor& x, const Tensor& weight) {
  Tensor y = empty_output(x);
  linear_into(x, contiguous_weight(x, weight), false, y);
  return y;
}

std::tuple<Tensor, Tensor> channel_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& weight) {
  Tensor grad_x = empty_output(x);
  check_out(x, grad_y, "grad_y");
  const Shape shape = shape_of(x);
  const Tensor grad = prepare(grad_y, shape.channels_last);
  linear_into(grad, contiguous_weight(x, weight), true, grad_x);
  const Tensor g = as_matrix(grad, shape), m = as_matrix(prepare(x, shape.channels_last), shape);
  // Into given tensors, since a plain product would follow autocast.
  Tensor grad_weight = empty_dense(x, {2, {shape.channels, shape.channels}}, false);
  if (shape.channels_last) {
    matmul_into(transpose(g), m, grad_weight);
    return {grad_x, grad_weight};
  }
  Tensor products = empty_dense(x, {3, {shape.batch, shape.channels, shape.channels}}, false);
  matmul_into(g, transpose(m), products);
  const std::vector<int64_t> batch{0};
  return {grad_x, torch::stable::sum(products, batch)};
}

}  // namespace flowkit
