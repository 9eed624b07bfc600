// Coupling by distribution functions of mixtures of logistics.
#include "../launch_mixture.h"
#include "parametric.h"

namespace flowkit {
namespace {

struct Run {
  static void forward(const Tensor& x, const ParametricForward<MixtureLogisticOptions>& a) {
    FLOWKIT_RUN(mixture_logistic, x, a);
  }
  static void backward(const Tensor& x, const ParametricBackward<MixtureLogisticOptions>& a) {
    FLOWKIT_RUN(mixture_logistic_backward, x, a);
  }
};

ParametricCoupling<MixtureLogisticOptions, Run> make(const Tensor& x, const Tensor& params, const Optional& permutation,
                                                     int64_t begin, int64_t components, double bound,
                                                     double min_log_scale, bool inverse) {
  FLOWKIT_CHECK(components >= 1 && components <= 1024, "flowkit: components must be in 1 .. 1024");
  return {x, params, permutation, begin, 3 * components + 2, {components, bound, min_log_scale}, inverse};
}

}  // namespace

void mixture_logistic_coupling_out(const Tensor& x, const Tensor& params, Optional permutation, int64_t begin,
                                   int64_t components, double bound, double min_log_scale, bool inverse,
                                   const Tensor& out, const Tensor& logdet) {
  make(x, params, permutation, begin, components, bound, min_log_scale, inverse).into(out, logdet);
}

std::tuple<Tensor, Tensor> mixture_logistic_coupling(const Tensor& x, const Tensor& params, Optional permutation,
                                                     int64_t begin, int64_t components, double bound,
                                                     double min_log_scale, bool inverse) {
  return make(x, params, permutation, begin, components, bound, min_log_scale, inverse).fresh(x);
}

std::tuple<Tensor, Tensor> mixture_logistic_coupling_backward(const Tensor& grad_y, const Tensor& grad_logdet,
                                                              const Tensor& x, const Tensor& params,
                                                              Optional permutation, int64_t begin, int64_t components,
                                                              double bound, double min_log_scale, bool inverse) {
  return make(x, params, permutation, begin, components, bound, min_log_scale, inverse)
      .backward(grad_y, grad_logdet, x);
}

}  // namespace flowkit
