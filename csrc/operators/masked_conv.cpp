// Triangular solve with an autoregressive convolution.
#include <array>

#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

// A torch operator that the stable headers do not wrap, and its first `results` tensors.
template <size_t results, class... Arguments>
std::array<Tensor, results> call(const char* name, const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(Arguments)> stack{torch::stable::detail::from(arguments)...};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  std::array<Tensor, results> tensors;
  for (size_t i = 0; i < results; ++i) tensors[i] = torch::stable::detail::to<Tensor>(stack[i]);
  return tensors;
}

Tensor contiguous_kernel(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& dilation) {
  check_x(x);
  FLOWKIT_CHECK(weight.dim() == x.dim() && weight.size(0) == x.size(1) && weight.size(1) == x.size(1) &&
                    weight.scalar_type() == x.scalar_type() && same_device(x, weight),
                "flowkit: weight must be (", x.size(1), ", ", x.size(1),
                ", *kernel) in the rank, dtype and device of x");
  FLOWKIT_CHECK(static_cast<int64_t>(dilation.size()) == x.dim() - 2, "flowkit: dilation must have ", x.dim() - 2,
                " entries");
  for (int64_t d = 2; d < weight.dim(); ++d)
    FLOWKIT_CHECK(weight.size(d) % 2 == 1 && dilation[d - 2] >= 1,
                  "flowkit: kernel sizes must be odd and dilations positive, got ", weight.size(d), " and ",
                  dilation[d - 2]);
  return weight.is_contiguous() ? weight : torch::stable::contiguous(weight);
}

// The least skew with which every tap before the centre lies on an earlier wavefront.
void set_skew(MaskedConvSolve& a) {
  int64_t reach = 0;  // the furthest that a tap of the dimensions so far leads ahead
  for (int d = 2; d >= 0; --d) {
    a.dilation[d] = std::min(a.dilation[d], std::max<int64_t>(a.size[d], 1));  // further taps reach nothing
    const int64_t taps = std::min(a.kernel[d] / 2, (a.size[d] - 1) / a.dilation[d]);
    a.skew[d] = taps == 0 ? 0 : reach / a.dilation[d] + 1;
    reach += taps * a.dilation[d] * a.skew[d];
  }
}

void solve_into(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& dilation, bool reverse,
                bool transposed, const Tensor& out) {
  const Tensor kernel = contiguous_kernel(x, weight, dilation);
  check_out(x, out, "out");
  check_overlap(x, out, true);
  const Shape shape = shape_of(x);
  if (shape.size() == 0) return;
  const Tensor input = prepare(x, shape.channels_last);
  Target target(out, shape);
  MaskedConvSolve a{shape,     dtype_of(x), view(input), target.view(), array(kernel), {1, 1, 1},
                    {1, 1, 1}, {1, 1, 1},   {0, 0, 0},   reverse,       transposed};
  const int64_t rank = x.dim() - 2;
  for (int64_t d = 0; d < rank; ++d) {
    a.size[3 - rank + d] = x.size(2 + d);
    a.kernel[3 - rank + d] = kernel.size(2 + d);
    a.dilation[3 - rank + d] = dilation[d];
  }
  set_skew(a);
#ifdef FLOWKIT_CUDA_KERNELS
  Optional scratch;
  if (on_cuda(x)) {
    scratch = empty_vector(x, cuda::masked_conv_scratch_size(a), accumulator(x));
    a.scratch = array(scratch);
  }
#endif
  FLOWKIT_RUN(masked_conv_solve, x, a);
  target.finish();
}

// At least float32, and one spatial dimension.
Tensor wide(const Tensor& t) {
  Tensor copy = t;
  if (t.scalar_type() != accumulator(t)) {
    copy = empty(t, sizes_of(t), dense_strides(sizes_of(t), is_channels_last(t)), accumulator(t));
    torch::stable::copy_(copy, t);
  }
  return t.dim() == 2 ? torch::stable::unsqueeze(copy, 2) : copy;
}

// d(sum of grad * conv(y))/d(weight), where the weight counts.
void weight_gradient(const Tensor& grad, const Tensor& y, const Tensor& weight, std::vector<int64_t> dilation,
                     bool reverse, Tensor& into) {
  const Tensor kernel = wide(weight);
  if (dilation.empty()) dilation.push_back(1);
  const std::vector<int64_t> ones(dilation.size(), 1), zeros(dilation.size(), 0);
  std::vector<int64_t> padding;
  for (size_t d = 0; d < dilation.size(); ++d)
    padding.push_back(kernel.size(2 + static_cast<int64_t>(d)) / 2 * dilation[d]);
  const bool wanted[] = {false, true, false};
  const auto found =
      call<3>("aten::convolution_backward", wide(grad), wide(y), kernel, std::nullopt, ones, padding, dilation, false,
              zeros, int64_t(1), torch::headeronly::HeaderOnlyArrayRef<bool>(wanted, 3));
  Tensor taps = torch::stable::flatten(found[1], 2, -1);
  const int64_t centre = taps.size(2) / 2;
  Tensor outside = torch::stable::narrow(taps, 2, reverse ? 0 : centre + 1, centre);
  torch::stable::zero_(outside);
  call<1>(reverse ? "aten::triu_" : "aten::tril_", torch::stable::select(taps, 2, centre), int64_t(0));
  torch::stable::copy_(into, torch::stable::reshape(taps, sizes_of(into).ref()));
}

}  // namespace

void masked_conv_solve_out(const Tensor& x, const Tensor& weight, std::vector<int64_t> dilation, bool reverse,
                           const Tensor& out) {
  solve_into(x, weight, dilation, reverse, false, out);
}

Tensor masked_conv_solve(const Tensor& x, const Tensor& weight, std::vector<int64_t> dilation, bool reverse) {
  Tensor y = empty_output(x);
  solve_into(x, weight, dilation, reverse, false, y);
  return y;
}

std::tuple<Tensor, Tensor> masked_conv_solve_backward(const Tensor& grad_y, const Tensor& y, const Tensor& weight,
                                                      std::vector<int64_t> dilation, bool reverse) {
  const Tensor kernel = contiguous_kernel(y, weight, dilation);
  check_out(y, grad_y, "grad_y");
  const Shape shape = shape_of(y);
  Tensor grad_x = empty_output(y);
  Tensor grad_weight = empty_dense(weight, sizes_of(weight), is_channels_last(y));
  if (shape.size() == 0) {
    torch::stable::zero_(grad_weight);
    return {grad_x, grad_weight};
  }
  solve_into(prepare(grad_y, shape.channels_last), kernel, dilation, reverse, true, grad_x);
  weight_gradient(grad_x, y, kernel, dilation, reverse, grad_weight);
  call<1>("aten::neg_", grad_weight);
  return {grad_x, grad_weight};
}

}  // namespace flowkit
