// An affine coupling or step in one call with its network: for few samples on a CPU, where the calls between the parts
// take as long as small networks do.
#ifndef FLOWKIT_EMULATE_CUDA
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

// What the network gives for x or, with `inverse`, for what the coupling had been given.
Tensor parameters(const Tensor& x, const Optional& condition, std::vector<Tensor> weights, std::vector<Tensor> biases,
                  int64_t activation, int64_t tanhs, const Optional& norm_scale, const Optional& norm_shift,
                  bool log_scale, const Optional& permutation, int64_t begin, bool inverse) {
  check_x(x);
  FLOWKIT_CHECK(
      x.is_cpu() && x.dim() == 2 && (x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double),
      "flowkit: x must be (N, C), float32 or float64, on the CPU");
  check_permutation(x, permutation);
  if (condition) check_like(x, *condition, "condition");
  FLOWKIT_CHECK(norm_scale.has_value() == norm_shift.has_value(), "flowkit: an actnorm has a scale and a shift");
  const int64_t channels = x.size(1), moved = biases.empty() ? 0 : biases.back().numel() / 2;
  FLOWKIT_CHECK(begin >= 0 && moved <= channels && begin <= channels - moved, "flowkit: ", moved,
                " transformed channels from ", begin, " on leave x with ", channels, " channels");
  const Tensor y = inverse && norm_scale ? std::get<0>(actnorm(x, *norm_scale, *norm_shift, log_scale, true)) : x;
  const int64_t more = condition ? condition->size(1) : 0;
  const Tensor given = empty_dense(x, {2, {x.size(0), channels - moved + more}}, false);
  cpu::passive_part({dtype_of(x), x.size(0), channels, more, view(y), condition ? view(*condition) : View(),
                     inverse ? array(permutation) : Array(), begin, begin + moved, array(given)});
  return stacked_mlp(given, std::move(weights), std::move(biases), activation, tanhs);
}

}  // namespace

void mlp_coupling_out(const Tensor& x, Optional condition, std::vector<Tensor> weights, std::vector<Tensor> biases,
                      int64_t activation, int64_t tanhs, Optional norm_scale, Optional norm_shift, bool log_scale,
                      Optional permutation, int64_t begin, int64_t layout, int64_t clamp, double bound, double gain,
                      double offset, double factor, int64_t form, double shift_gain, bool inverse, const Tensor& out,
                      const Tensor& logdet) {
  const Tensor params = parameters(x, condition, std::move(weights), std::move(biases), activation, tanhs, norm_scale,
                                   norm_shift, log_scale, permutation, begin, inverse);
  if (norm_scale)
    affine_step_out(x, params, std::nullopt, *norm_scale, *norm_shift, permutation, begin, layout, clamp, bound, gain,
                    offset, factor, form, shift_gain, log_scale, inverse, out, logdet);
  else
    affine_coupling_out(x, params, std::nullopt, permutation, begin, layout, clamp, bound, gain, offset, factor, form,
                        shift_gain, inverse, out, logdet);
}

std::tuple<Tensor, Tensor> mlp_coupling(const Tensor& x, Optional condition, std::vector<Tensor> weights,
                                        std::vector<Tensor> biases, int64_t activation, int64_t tanhs,
                                        Optional norm_scale, Optional norm_shift, bool log_scale, Optional permutation,
                                        int64_t begin, int64_t layout, int64_t clamp, double bound, double gain,
                                        double offset, double factor, int64_t form, double shift_gain, bool inverse) {
  const Tensor params = parameters(x, condition, std::move(weights), std::move(biases), activation, tanhs, norm_scale,
                                   norm_shift, log_scale, permutation, begin, inverse);
  if (norm_scale)
    return affine_step(x, params, std::nullopt, *norm_scale, *norm_shift, permutation, begin, layout, clamp, bound,
                       gain, offset, factor, form, shift_gain, log_scale, inverse);
  return affine_coupling(x, params, std::nullopt, permutation, begin, layout, clamp, bound, gain, offset, factor, form,
                         shift_gain, inverse);
}

}  // namespace flowkit
#endif
