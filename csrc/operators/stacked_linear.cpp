// Stacked linear maps of few samples: a kernel for the CPU only, where torch's matrix products are slow at them.
#ifndef FLOWKIT_EMULATE_CUDA
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

Tensor dense(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

void check_stack(const Tensor& x, const Tensor& weight) {
  check_x(x);
  FLOWKIT_CHECK(x.is_cpu() && (x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double),
                "flowkit: x must be float32 or float64 on the CPU");
  FLOWKIT_CHECK(x.dim() == 3 && weight.dim() == 3 && weight.size(0) == x.size(0) && weight.size(2) == x.size(1) &&
                    weight.scalar_type() == x.scalar_type() && weight.is_cpu(),
                "flowkit: x must be (G, in, N) and weight (G, out, in) of the same type on the CPU");
}

template <class Arguments>
Arguments arguments_of(const Tensor& x, const Tensor& weight) {
  Arguments a{};
  a.dtype = dtype_of(x);
  a.groups = weight.size(0);
  a.out = weight.size(1);
  a.in = weight.size(2);
  a.samples = x.size(2);
  a.x = array(x);
  a.weight = array(weight);
  return a;
}

}  // namespace

Tensor stacked_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_stack(x, weight);
  FLOWKIT_CHECK(bias.dim() == 2 && bias.size(0) == weight.size(0) && bias.size(1) == weight.size(1) &&
                    bias.scalar_type() == x.scalar_type() && bias.is_cpu(),
                "flowkit: bias must be (G, out) of the type of x, on the CPU");
  const Tensor xs = dense(x), w = dense(weight), b = dense(bias);
  Tensor y = empty_dense(x, {3, {x.size(0), weight.size(1), x.size(2)}}, false);
  auto a = arguments_of<StackedLinear>(xs, w);
  a.bias = array(b);
  a.y = array(y);
  if (y.numel() > 0) cpu::stacked_linear(a);
  return y;
}

std::tuple<Tensor, Tensor, Tensor> stacked_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& weight,
                                                           bool wants_x, bool wants_weight) {
  check_stack(x, weight);
  FLOWKIT_CHECK(grad_y.dim() == 3 && grad_y.size(0) == x.size(0) && grad_y.size(1) == weight.size(1) &&
                    grad_y.size(2) == x.size(2) && grad_y.scalar_type() == x.scalar_type() && grad_y.is_cpu(),
                "flowkit: grad_y must be (G, out, N) of the type of x, on the CPU");
  const Tensor g = dense(grad_y), xs = dense(x), w = dense(weight);
  const Sizes none{1, {0}};
  Tensor grad_x = empty_dense(x, wants_x ? sizes_of(x) : none, false);
  Tensor grad_weight = empty_dense(x, wants_weight ? sizes_of(weight) : none, false);
  Tensor grad_bias = empty_dense(x, wants_weight ? Sizes{2, {weight.size(0), weight.size(1)}} : none, false);
  auto a = arguments_of<StackedLinearBackward>(xs, w);
  a.grad_y = array(g);
  if (wants_x) a.grad_x = array(grad_x);
  if (wants_weight) {
    a.grad_weight = array(grad_weight);
    a.grad_bias = array(grad_bias);
  }
  cpu::stacked_linear_backward(a);
  return {grad_x, grad_weight, grad_bias};
}

Tensor stacked_mlp(const Tensor& x, std::vector<Tensor> weights, std::vector<Tensor> biases, int64_t activation,
                   int64_t tanhs) {
  check_x(x);
  FLOWKIT_CHECK(
      x.is_cpu() && x.dim() == 2 && (x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double),
      "flowkit: x must be (N, in), float32 or float64, on the CPU");
  FLOWKIT_CHECK(!weights.empty() && weights.size() == biases.size(), "flowkit: one bias is needed for each weight");
  FLOWKIT_CHECK(activation >= 0 && activation <= static_cast<int64_t>(Activation::softplus),
                "flowkit: unknown activation");
  const auto type = weights[0].scalar_type();
  FLOWKIT_CHECK(type == x.scalar_type() || (type == ScalarType::BFloat16 && x.scalar_type() == ScalarType::Float),
                "flowkit: weights must be of the type of x, or bfloat16 where x is float32");
  std::vector<Tensor> kept;  // dense copies, where some are needed
  std::vector<StackedLayer> layers;
  int64_t in = x.size(1);
  const int64_t first = weights[0].dim() - 2;  // where `out` stands
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor w = dense(weights[l]), b = dense(biases[l]);
    FLOWKIT_CHECK((first == 0 || first == 1) && w.dim() == first + 2 && b.dim() == first + 1 &&
                      w.size(0) == (first ? weights[0] : w).size(0) && w.size(first + 1) == in &&
                      b.size(0) == w.size(0) && b.size(first) == w.size(first) && w.is_cpu() && b.is_cpu() &&
                      w.scalar_type() == type && b.scalar_type() == x.scalar_type(),
                  "flowkit: weights must be (G, out, in), or (out, in) of one network, of one type, with `in` the "
                  "`out` of the layer before, and biases (G, out) or (out,) of the type of x, on the CPU");
    layers.push_back({array(w), array(b), in, w.size(first)});
    in = w.size(first);
    kept.insert(kept.end(), {w, b});
  }
  const Tensor xs = dense(x);
  StackedMlp a{};
  a.dtype = dtype_of(x);
  a.weight_dtype = dtype_of(weights[0]);
  a.groups = first ? weights[0].size(0) : 1;
  a.samples = x.size(0);
  a.depth = static_cast<int64_t>(layers.size());
  a.layers = layers.data();
  a.activation = static_cast<Activation>(activation);
  a.tanhs = static_cast<uint64_t>(tanhs);
  a.x = array(xs);
  FLOWKIT_CHECK(a.groups <= 64, "flowkit: at most 64 networks run as one, got ", a.groups);
  Tensor y = empty_dense(x, {2, {a.samples, a.groups * in}}, false);
  a.y = array(y);
  if (y.numel() > 0) cpu::stacked_mlp(a);
  return y;
}

}  // namespace flowkit
#endif
