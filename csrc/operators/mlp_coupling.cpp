// An affine coupling and the networks that drive it as one call, for few samples: a kernel for the CPU only.
#ifndef FLOWKIT_EMULATE_CUDA
#include "../math/actnorm.h"
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

// Of y after an actnorm, what it was before.
struct Undone {
  Tensor scale, shift;
  bool log_scale;
};

// to (B, passive + K): the channels of x that drive the coupling, then the condition.
template <class C>
void gather(const Tensor& x, int64_t first, const int64_t* index, const Undone* norm, const Optional& condition,
            const Tensor& to) {
  const int64_t width = to.size(1), known = condition ? condition->size(1) : 0, passive = width - known;
  const auto *from = static_cast<const C*>(x.data_ptr()),
             *said = condition ? static_cast<const C*>(condition->data_ptr()) : nullptr;
  auto* out = static_cast<C*>(to.data_ptr());
  for (int64_t i = 0; i < passive; ++i) {
    const int64_t c = index ? index[i] : first + i;
    C a = 1, b = 0;
    if (norm) {
      const math::ActNormChannel<C> back(static_cast<const C*>(norm->scale.data_ptr())[c],
                                         static_cast<const C*>(norm->shift.data_ptr())[c], norm->log_scale, true);
      a = back.a;
      b = back.b;
    }
    for (int64_t n = 0; n < x.size(0); ++n) out[n * width + i] = a * from[n * x.stride(0) + c * x.stride(1)] + b;
  }
  for (int64_t n = 0; n < x.size(0); ++n)
    for (int64_t i = 0; i < known; ++i)
      out[n * width + passive + i] = said[n * condition->stride(0) + i * condition->stride(1)];
}

// What the networks give for x (before the coupling) or, with `norm`, for y after it.
Tensor driven(const Tensor& x, const Optional& condition, const std::vector<Tensor>& weights,
              const std::vector<Tensor>& biases, int64_t activation, int64_t tanhs, int64_t first,
              const Optional& passive, const Undone* norm) {
  check_x(x);
  FLOWKIT_CHECK(x.is_cpu() && x.dim() == 2, "flowkit: x must be (B, C) on the CPU");
  FLOWKIT_CHECK(!condition || (condition->dim() == 2 && condition->size(0) == x.size(0) && condition->is_cpu() &&
                               condition->scalar_type() == x.scalar_type()),
                "flowkit: condition must be (B, K) of the type of x, on the CPU");
  FLOWKIT_CHECK(!weights.empty() && weights[0].dim() == 3, "flowkit: weights must be (G, out, in)");
  const int64_t width = weights[0].size(2), count = width - (condition ? condition->size(1) : 0);
  FLOWKIT_CHECK(count >= 0 && first >= 0 && (passive || first + count <= x.size(1)), "flowkit: ", count,
                " passive channels from ", first, " on are not in x with ", x.size(1), " channels");
  const int64_t* index = nullptr;
  if (passive) {
    FLOWKIT_CHECK(passive->dim() == 1 && passive->size(0) == count && passive->is_contiguous() && passive->is_cpu() &&
                      passive->scalar_type() == ScalarType::Long,
                  "flowkit: passive must be a contiguous int64 tensor of ", count, " channels on the CPU");
    index = static_cast<const int64_t*>(passive->data_ptr());
    for (int64_t i = 0; i < count; ++i)
      FLOWKIT_CHECK(index[i] >= 0 && index[i] < x.size(1), "flowkit: passive has channel ", index[i], ", x has ",
                    x.size(1));
  }
  Tensor given = empty_dense(x, {2, {x.size(0), width}}, false);
  x.scalar_type() == ScalarType::Double ? gather<double>(x, first, index, norm, condition, given)
                                        : gather<float>(x, first, index, norm, condition, given);
  return stacked_mlp(given, weights, biases, activation, tanhs);
}

}  // namespace

void mlp_coupling_out(const Tensor& x, Optional condition, std::vector<Tensor> weights, std::vector<Tensor> biases,
                      int64_t activation, int64_t tanhs, int64_t first, Optional passive, Optional norm_scale,
                      Optional norm_shift, bool log_scale, Optional permutation, int64_t begin, int64_t layout,
                      int64_t clamp, double bound, double gain, double offset, double factor, int64_t form,
                      double shift_gain, bool inverse, const Tensor& out, const Tensor& logdet) {
  FLOWKIT_CHECK(norm_scale.has_value() == norm_shift.has_value(), "flowkit: norm_scale and norm_shift go together");
  std::optional<Undone> norm;
  if (norm_scale) norm = Undone{channel_parameter(x, *norm_scale), channel_parameter(x, *norm_shift), log_scale};
  const Tensor params = driven(x, condition, weights, biases, activation, tanhs, first, passive,
                               norm && inverse ? &*norm : nullptr);
  if (norm)
    affine_step_out(x, params, std::nullopt, norm->scale, norm->shift, permutation, begin, layout, clamp, bound, gain,
                    offset, factor, form, shift_gain, log_scale, inverse, out, logdet);
  else
    affine_coupling_out(x, params, std::nullopt, permutation, begin, layout, clamp, bound, gain, offset, factor, form,
                        shift_gain, inverse, out, logdet);
}

std::tuple<Tensor, Tensor> mlp_coupling(const Tensor& x, Optional condition, std::vector<Tensor> weights,
                                        std::vector<Tensor> biases, int64_t activation, int64_t tanhs, int64_t first,
                                        Optional passive, Optional norm_scale, Optional norm_shift, bool log_scale,
                                        Optional permutation, int64_t begin, int64_t layout, int64_t clamp,
                                        double bound, double gain, double offset, double factor, int64_t form,
                                        double shift_gain, bool inverse) {
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  torch::stable::zero_(logdet);
  mlp_coupling_out(x, condition, weights, biases, activation, tanhs, first, passive, norm_scale, norm_shift, log_scale,
                   permutation, begin, layout, clamp, bound, gain, offset, factor, form, shift_gain, inverse, y, logdet);
  return {y, logdet};
}

}  // namespace flowkit
#endif
