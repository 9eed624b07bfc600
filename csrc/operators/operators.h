// The operators as functions of tensors; register.cpp gives their schemas, module.cpp binds them to Python directly.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

namespace flowkit {

using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

void affine_coupling_out(const Tensor& x, const Tensor& params, Optional shift, Optional permutation, int64_t begin,
                         int64_t layout, int64_t clamp, double bound, double gain, double offset, double factor,
                         int64_t form, double shift_gain, bool inverse, const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> affine_coupling(const Tensor& x, const Tensor& params, Optional shift, Optional permutation,
                                           int64_t begin, int64_t layout, int64_t clamp, double bound, double gain,
                                           double offset, double factor, int64_t form, double shift_gain, bool inverse);
void additive_coupling_out(const Tensor& x, const Tensor& shift, Optional permutation, int64_t begin, bool inverse,
                           const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> additive_coupling(const Tensor& x, const Tensor& shift, Optional permutation, int64_t begin,
                                             bool inverse);
std::tuple<Tensor, Tensor, Tensor> affine_coupling_backward(const Tensor& grad_y, const Tensor& grad_logdet,
                                                            const Tensor& y, const Tensor& params, Optional shift,
                                                            Optional permutation, int64_t begin, int64_t layout,
                                                            int64_t clamp, double bound, double gain, double offset,
                                                            double factor, int64_t form, double shift_gain,
                                                            bool inverse);
std::tuple<Tensor, Tensor> additive_coupling_backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y,
                                                      const Tensor& shift, Optional permutation, int64_t begin,
                                                      bool inverse);
void affine_step_out(const Tensor& x, const Tensor& params, Optional shift, const Tensor& norm_scale,
                     const Tensor& norm_shift, Optional permutation, int64_t begin, int64_t layout, int64_t clamp,
                     double bound, double gain, double offset, double factor, int64_t form, double shift_gain,
                     bool log_scale, bool inverse, const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> affine_step(const Tensor& x, const Tensor& params, Optional shift, const Tensor& norm_scale,
                                       const Tensor& norm_shift, Optional permutation, int64_t begin, int64_t layout,
                                       int64_t clamp, double bound, double gain, double offset, double factor,
                                       int64_t form, double shift_gain, bool log_scale, bool inverse);
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> affine_step_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, const Tensor& params, Optional shift,
    const Tensor& norm_scale, const Tensor& norm_shift, Optional permutation, int64_t begin, int64_t layout,
    int64_t clamp, double bound, double gain, double offset, double factor, int64_t form, double shift_gain,
    bool log_scale, bool inverse);
void additive_step_out(const Tensor& x, const Tensor& shift, const Tensor& norm_scale, const Tensor& norm_shift,
                       Optional permutation, int64_t begin, bool log_scale, bool inverse, const Tensor& out,
                       const Tensor& logdet);
std::tuple<Tensor, Tensor> additive_step(const Tensor& x, const Tensor& shift, const Tensor& norm_scale,
                                         const Tensor& norm_shift, Optional permutation, int64_t begin, bool log_scale,
                                         bool inverse);
std::tuple<Tensor, Tensor, Tensor, Tensor> additive_step_backward(const Tensor& grad_y, const Tensor& grad_logdet,
                                                                  const Tensor& y, const Tensor& shift,
                                                                  const Tensor& norm_scale, const Tensor& norm_shift,
                                                                  Optional permutation, int64_t begin, bool log_scale,
                                                                  bool inverse);
void actnorm_out(const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale, bool inverse,
                 const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> actnorm(const Tensor& x, const Tensor& scale, const Tensor& shift, bool log_scale,
                                   bool inverse);
std::tuple<Tensor, Tensor, Tensor> actnorm_backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y,
                                                    const Tensor& scale, const Tensor& shift, bool log_scale,
                                                    bool inverse);
void leaky_relu_out(const Tensor& x, double slope, bool inverse, const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> leaky_relu(const Tensor& x, double slope, bool inverse);
Tensor leaky_relu_backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, double slope,
                           bool inverse);
void permute_channels_out(const Tensor& x, const Tensor& permutation, bool inverse, const Tensor& out);
Tensor permute_channels(const Tensor& x, const Tensor& permutation, bool inverse);
Tensor permute_channels_backward(const Tensor& grad_y, const Tensor& y, const Tensor& permutation, bool inverse);
void channel_linear_out(const Tensor& x, const Tensor& weight, const Tensor& out);
Tensor channel_linear(const Tensor& x, const Tensor& weight);
std::tuple<Tensor, Tensor> channel_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& weight);
std::tuple<Tensor, Tensor> made_affine_inverse(const Tensor& y, std::vector<Tensor> weights, std::vector<Tensor> biases,
                                               const Tensor& units, const Tensor& counts, int64_t activation,
                                               int64_t residual, int64_t layout, int64_t clamp, double bound,
                                               double gain, double offset, double factor, int64_t form);
void rational_quadratic_coupling_out(const Tensor& x, const Tensor& params, Optional permutation, int64_t begin,
                                     int64_t bins, int64_t map, int64_t tails, double left, double right, double bottom,
                                     double top, double min_size, double min_slope, double gain, double beta,
                                     bool inverse, const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> rational_quadratic_coupling(const Tensor& x, const Tensor& params, Optional permutation,
                                                       int64_t begin, int64_t bins, int64_t map, int64_t tails,
                                                       double left, double right, double bottom, double top,
                                                       double min_size, double min_slope, double gain, double beta,
                                                       bool inverse);
std::tuple<Tensor, Tensor> rational_quadratic_coupling_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& x, const Tensor& params, Optional permutation,
    int64_t begin, int64_t bins, int64_t map, int64_t tails, double left, double right, double bottom, double top,
    double min_size, double min_slope, double gain, double beta, bool inverse);
void masked_conv_solve_out(const Tensor& x, const Tensor& weight, std::vector<int64_t> dilation, bool reverse,
                           const Tensor& out);
Tensor masked_conv_solve(const Tensor& x, const Tensor& weight, std::vector<int64_t> dilation, bool reverse);
std::tuple<Tensor, Tensor> masked_conv_solve_backward(const Tensor& grad_y, const Tensor& y, const Tensor& weight,
                                                      std::vector<int64_t> dilation, bool reverse);
void mixture_logistic_coupling_out(const Tensor& x, const Tensor& params, Optional permutation, int64_t begin,
                                   int64_t components, double bound, double min_log_scale, bool inverse,
                                   const Tensor& out, const Tensor& logdet);
std::tuple<Tensor, Tensor> mixture_logistic_coupling(const Tensor& x, const Tensor& params, Optional permutation,
                                                     int64_t begin, int64_t components, double bound,
                                                     double min_log_scale, bool inverse);
std::tuple<Tensor, Tensor> mixture_logistic_coupling_backward(const Tensor& grad_y, const Tensor& grad_logdet,
                                                              const Tensor& x, const Tensor& params,
                                                              Optional permutation, int64_t begin, int64_t components,
                                                              double bound, double min_log_scale, bool inverse);

Tensor stacked_linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
std::tuple<Tensor, Tensor, Tensor> stacked_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& weight,
                                                           bool wants_x, bool wants_weight);
Tensor stacked_mlp(const Tensor& x, std::vector<Tensor> weights, std::vector<Tensor> biases, int64_t activation,
                   int64_t tanhs);
void mlp_coupling_out(const Tensor& x, Optional condition, std::vector<Tensor> weights, std::vector<Tensor> biases,
                      int64_t activation, int64_t tanhs, Optional norm_scale, Optional norm_shift, bool log_scale,
                      Optional permutation, int64_t begin, int64_t layout, int64_t clamp, double bound, double gain,
                      double offset, double factor, int64_t form, double shift_gain, bool inverse, const Tensor& out,
                      const Tensor& logdet);
std::tuple<Tensor, Tensor> mlp_coupling(const Tensor& x, Optional condition, std::vector<Tensor> weights,
                                        std::vector<Tensor> biases, int64_t activation, int64_t tanhs,
                                        Optional norm_scale, Optional norm_shift, bool log_scale, Optional permutation,
                                        int64_t begin, int64_t layout, int64_t clamp, double bound, double gain,
                                        double offset, double factor, int64_t form, double shift_gain, bool inverse);

}  // namespace flowkit
