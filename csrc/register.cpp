// Operator schemas and their registration with torch, on the LibTorch Stable ABI.
//
// With FLOWKIT_EMULATE_CUDA the same schemas are registered in the namespace flowkit_emulated, for CPU tensors, and run
// the kernels of csrc/cuda through the emulation: the tests' view of the CUDA back end on a machine without a GPU.
#include <torch/csrc/stable/library.h>

#include "operators/operators.h"

#ifdef FLOWKIT_EMULATE_CUDA
#define FLOWKIT_NAMESPACE flowkit_emulated
#else
#define FLOWKIT_NAMESPACE flowkit
#endif

#define FLOWKIT_COUPLING                                                                                         \
  "Tensor? permutation, int begin, int layout, int clamp, float bound, float gain, float offset, float factor, " \
  "int form, float shift_gain, bool inverse"
#define FLOWKIT_RATIONAL_QUADRATIC                                                                      \
  "Tensor x, Tensor params, Tensor? permutation, int begin, int bins, int map, int tails, float left, " \
  "float right, float bottom, float top, float min_size, float min_slope, float gain, float beta, bool inverse"
#define FLOWKIT_MIXTURE_LOGISTIC                                                                                \
  "Tensor x, Tensor params, Tensor? permutation, int begin, int components, float bound, float min_log_scale, " \
  "bool inverse"
#define FLOWKIT_BACKWARD "Tensor grad_y, Tensor grad_logdet, "
#define FLOWKIT_STEP                                                                                           \
  "Tensor norm_scale, Tensor norm_shift, Tensor? permutation, int begin, int layout, int clamp, float bound, " \
  "float gain, float offset, float factor, int form, float shift_gain, bool log_scale, bool inverse"
#define FLOWKIT_ADDITIVE_STEP \
  "Tensor norm_scale, Tensor norm_shift, Tensor? permutation, int begin, bool log_scale, bool inverse"
#define FLOWKIT_MLP_COUPLING                                                                                      \
  "Tensor x, Tensor? condition, Tensor[] weights, Tensor[] biases, int activation, int tanhs, Tensor? norm_scale, " \
  "Tensor? norm_shift, bool log_scale, " FLOWKIT_COUPLING
#define FLOWKIT_OUT "Tensor(a!) out, Tensor(b!) logdet) -> ()"

STABLE_TORCH_LIBRARY(FLOWKIT_NAMESPACE, m) {
  m.def("affine_coupling(Tensor x, Tensor params, Tensor? shift, " FLOWKIT_COUPLING ") -> (Tensor, Tensor)");
  m.def("affine_coupling_out(Tensor x, Tensor params, Tensor? shift, " FLOWKIT_COUPLING ", " FLOWKIT_OUT);
  m.def(
      "affine_coupling_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor params, Tensor? shift, " FLOWKIT_COUPLING
      ") -> (Tensor, Tensor, Tensor)");
  m.def("additive_coupling(Tensor x, Tensor shift, Tensor? permutation, int begin, bool inverse) -> (Tensor, Tensor)");
  m.def("additive_coupling_out(Tensor x, Tensor shift, Tensor? permutation, int begin, bool inverse, " FLOWKIT_OUT);
  m.def(
      "additive_coupling_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor shift, Tensor? permutation, "
      "int begin, bool inverse) -> (Tensor, Tensor)");
  m.def("affine_step(Tensor x, Tensor params, Tensor? shift, " FLOWKIT_STEP ") -> (Tensor, Tensor)");
  m.def("affine_step_out(Tensor x, Tensor params, Tensor? shift, " FLOWKIT_STEP ", " FLOWKIT_OUT);
  m.def("affine_step_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor params, Tensor? shift, " FLOWKIT_STEP
        ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("additive_step(Tensor x, Tensor shift, " FLOWKIT_ADDITIVE_STEP ") -> (Tensor, Tensor)");
  m.def("additive_step_out(Tensor x, Tensor shift, " FLOWKIT_ADDITIVE_STEP ", " FLOWKIT_OUT);
  m.def("additive_step_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor shift, " FLOWKIT_ADDITIVE_STEP
        ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("actnorm(Tensor x, Tensor scale, Tensor shift, bool log_scale, bool inverse) -> (Tensor, Tensor)");
  m.def("actnorm_out(Tensor x, Tensor scale, Tensor shift, bool log_scale, bool inverse, " FLOWKIT_OUT);
  m.def(
      "actnorm_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, Tensor scale, Tensor shift, bool log_scale, "
      "bool inverse) -> (Tensor, Tensor, Tensor)");
  m.def("leaky_relu(Tensor x, float slope, bool inverse) -> (Tensor, Tensor)");
  m.def("leaky_relu_out(Tensor x, float slope, bool inverse, " FLOWKIT_OUT);
  m.def("leaky_relu_backward(Tensor grad_y, Tensor grad_logdet, Tensor y, float slope, bool inverse) -> Tensor");
  m.def("permute_channels(Tensor x, Tensor permutation, bool inverse) -> Tensor");
  m.def("permute_channels_out(Tensor x, Tensor permutation, bool inverse, Tensor(a!) out) -> ()");
  m.def("permute_channels_backward(Tensor grad_y, Tensor y, Tensor permutation, bool inverse) -> Tensor");
  m.def("channel_linear(Tensor x, Tensor weight) -> Tensor");
  m.def("channel_linear_out(Tensor x, Tensor weight, Tensor(a!) out) -> ()");
  m.def("channel_linear_backward(Tensor grad_y, Tensor x, Tensor weight) -> (Tensor, Tensor)");
  m.def(
      "made_affine_inverse(Tensor y, Tensor[] weights, Tensor[] biases, Tensor units, Tensor counts, int activation, "
      "int residual, int layout, int clamp, float bound, float gain, float offset, float factor, int form) "
      "-> (Tensor, Tensor)");
  m.def("rational_quadratic_coupling(" FLOWKIT_RATIONAL_QUADRATIC ") -> (Tensor, Tensor)");
  m.def("rational_quadratic_coupling_out(" FLOWKIT_RATIONAL_QUADRATIC ", " FLOWKIT_OUT);
  m.def("rational_quadratic_coupling_backward(" FLOWKIT_BACKWARD FLOWKIT_RATIONAL_QUADRATIC ") -> (Tensor, Tensor)");
  m.def("masked_conv_solve(Tensor x, Tensor weight, int[] dilation, bool reverse) -> Tensor");
  m.def("masked_conv_solve_out(Tensor x, Tensor weight, int[] dilation, bool reverse, Tensor(a!) out) -> ()");
  m.def(
      "masked_conv_solve_backward(Tensor grad_y, Tensor y, Tensor weight, int[] dilation, bool reverse) -> (Tensor, "
      "Tensor)");
  m.def("mixture_logistic_coupling(" FLOWKIT_MIXTURE_LOGISTIC ") -> (Tensor, Tensor)");
  m.def("mixture_logistic_coupling_out(" FLOWKIT_MIXTURE_LOGISTIC ", " FLOWKIT_OUT);
  m.def("mixture_logistic_coupling_backward(" FLOWKIT_BACKWARD FLOWKIT_MIXTURE_LOGISTIC ") -> (Tensor, Tensor)");
  m.def("stacked_linear(Tensor x, Tensor weight, Tensor bias) -> Tensor");
  m.def(
      "stacked_linear_backward(Tensor grad_y, Tensor x, Tensor weight, bool wants_x, bool wants_weight) -> (Tensor, "
      "Tensor, Tensor)");
  m.def("stacked_mlp(Tensor x, Tensor[] weights, Tensor[] biases, int activation, int tanhs) -> Tensor");
  m.def("mlp_coupling(" FLOWKIT_MLP_COUPLING ") -> (Tensor, Tensor)");
  m.def("mlp_coupling_out(" FLOWKIT_MLP_COUPLING ", " FLOWKIT_OUT);
}

namespace {

void implement(torch::stable::detail::StableLibrary& m) {
#define FLOWKIT_IMPL(name) m.impl(#name, TORCH_BOX(&flowkit::name))
#define FLOWKIT_IMPL_FAMILY(name) \
  FLOWKIT_IMPL(name);             \
  FLOWKIT_IMPL(name##_out);       \
  FLOWKIT_IMPL(name##_backward)
  FLOWKIT_IMPL_FAMILY(affine_coupling);
  FLOWKIT_IMPL_FAMILY(additive_coupling);
  FLOWKIT_IMPL_FAMILY(affine_step);
  FLOWKIT_IMPL_FAMILY(additive_step);
  FLOWKIT_IMPL_FAMILY(actnorm);
  FLOWKIT_IMPL_FAMILY(leaky_relu);
  FLOWKIT_IMPL_FAMILY(permute_channels);
  FLOWKIT_IMPL_FAMILY(channel_linear);
  FLOWKIT_IMPL_FAMILY(rational_quadratic_coupling);
  FLOWKIT_IMPL_FAMILY(masked_conv_solve);
  FLOWKIT_IMPL(made_affine_inverse);
  FLOWKIT_IMPL_FAMILY(mixture_logistic_coupling);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(FLOWKIT_NAMESPACE, CPU, m) {
  implement(m);
#ifndef FLOWKIT_EMULATE_CUDA
  FLOWKIT_IMPL(stacked_linear);
  FLOWKIT_IMPL(stacked_linear_backward);
  FLOWKIT_IMPL(stacked_mlp);
  FLOWKIT_IMPL(mlp_coupling);
  FLOWKIT_IMPL(mlp_coupling_out);
#endif
}
#ifdef FLOWKIT_CUDA
STABLE_TORCH_LIBRARY_IMPL(FLOWKIT_NAMESPACE, CUDA, m) { implement(m); }
#endif
