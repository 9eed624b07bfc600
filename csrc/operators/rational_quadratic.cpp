// Rational-quadratic spline coupling.
#include "parametric.h"

namespace flowkit {
namespace {

struct Run {
  static void forward(const Tensor& x, const ParametricForward<RationalQuadraticOptions>& a) {
    FLOWKIT_RUN(rational_quadratic, x, a);
  }
  static void backward(const Tensor& x, const ParametricBackward<RationalQuadraticOptions>& a) {
    FLOWKIT_RUN(rational_quadratic_backward, x, a);
  }
};

ParametricCoupling<RationalQuadraticOptions, Run> make(const Tensor& x, const Tensor& params,
                                                       const Optional& permutation, int64_t begin, int64_t bins,
                                                       int64_t map, int64_t tails, double left, double right,
                                                       double bottom, double top, double min_size, double min_slope,
                                                       double gain, double beta, bool inverse) {
  FLOWKIT_CHECK(bins >= 1 && bins <= 1024, "flowkit: bins must be in 1 .. 1024");
  FLOWKIT_CHECK(map >= 0 && map <= 3 && tails >= 0 && tails <= 3, "flowkit: unknown map or tails");
  const RationalQuadraticOptions o{
      bins, static_cast<KnotMap>(map), static_cast<Tails>(tails), left, right, bottom, top, min_size, min_slope, gain,
      beta};
  const int64_t position = o.map == KnotMap::free ? 2 : o.map == KnotMap::square ? 1 : 0;
  const int64_t slopes = o.tails == Tails::interval ? bins + 1 : o.tails == Tails::circular ? bins : bins - 1;
  return {x, params, permutation, begin, 2 * bins + position + slopes, o, inverse};
}

}  // namespace

void rational_quadratic_coupling_out(const Tensor& x, const Tensor& params, Optional permutation, int64_t begin,
                                     int64_t bins, int64_t map, int64_t tails, double left, double right, double bottom,
                                     double top, double min_size, double min_slope, double gain, double beta,
                                     bool inverse, const Tensor& out, const Tensor& logdet) {
  make(x, params, permutation, begin, bins, map, tails, left, right, bottom, top, min_size, min_slope, gain, beta,
       inverse)
      .into(out, logdet);
}

std::tuple<Tensor, Tensor> rational_quadratic_coupling(const Tensor& x, const Tensor& params, Optional permutation,
                                                       int64_t begin, int64_t bins, int64_t map, int64_t tails,
                                                       double left, double right, double bottom, double top,
                                                       double min_size, double min_slope, double gain, double beta,
                                                       bool inverse) {
  return make(x, params, permutation, begin, bins, map, tails, left, right, bottom, top, min_size, min_slope, gain,
              beta, inverse)
      .fresh(x);
}

std::tuple<Tensor, Tensor> rational_quadratic_coupling_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& x, const Tensor& params, Optional permutation,
    int64_t begin, int64_t bins, int64_t map, int64_t tails, double left, double right, double bottom, double top,
    double min_size, double min_slope, double gain, double beta, bool inverse) {
  return make(x, params, permutation, begin, bins, map, tails, left, right, bottom, top, min_size, min_slope, gain,
              beta, inverse)
      .backward(grad_y, grad_logdet, x);
}

}  // namespace flowkit
