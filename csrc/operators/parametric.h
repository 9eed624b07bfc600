// Couplings whose elements have parameters of their own: from tensors to the structs of launch.h.
#pragma once

#include "operators.h"
#include "tensors.h"

namespace flowkit {

// Channel c * parameters + i of `t` is parameter i of the coupling's channel c.
inline ParameterView parameter_view(const Tensor& t, int64_t parameters) {
  const View v = view(t);
  return {v.data, v.batch, v.channel * parameters, v.channel, v.pixel, v.extent};
}

// Runs the entry points of one family, which `Run` knows: Run::forward and Run::backward.
template <class Options, class Run>
class ParametricCoupling {
 public:
  ParametricCoupling(const Tensor& x, const Tensor& params, const Optional& permutation, int64_t begin,
                     int64_t parameters, const Options& options, bool inverse) {
    check_x(x);
    check_permutation(x, permutation);
    check_like(x, params, "params");
    FLOWKIT_CHECK(parameters > 0 && params.size(1) % parameters == 0, "flowkit: params must have ", parameters,
                  " channels for each transformed one");
    const int64_t count = params.size(1) / parameters;
    FLOWKIT_CHECK(begin >= 0 && count <= x.size(1) && begin <= x.size(1) - count, "flowkit: ", count,
                  " transformed channels from ", begin, " on leave x with ", x.size(1), " channels");
    c_.shape = shape_of(x);
    x_ = prepare(x, c_.shape.channels_last);
    params_ = prepare_params(params, c_.shape.channels_last);
    c_.dtype = dtype_of(x);
    c_.params = parameter_view(*params_, parameters);
    c_.permutation = array(permutation);
    c_.begin = begin;
    c_.count = count;
    c_.parameters = parameters;
    c_.inverse = inverse;
    c_.options = options;
  }

  void into(const Tensor& out, const Tensor& sum, bool accumulate = true) const {
    check_out(*x_, out, "out");
    check_sum(*x_, sum, "logdet");
    if (nothing_to_do(c_.shape, sum, accumulate)) return;
    Target target(out, c_.shape);
    check_overlap(*x_, out, !c_.permutation.data);
    const Sum s(*x_, c_.shape, sum, accumulate);
    Run::forward(*x_, ParametricForward<Options>{c_, view(*x_), target.view(), s.logdet});
    target.finish();
  }

  std::tuple<Tensor, Tensor> fresh(const Tensor& x) const {
    Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
    into(y, logdet, false);
    return {y, logdet};
  }

  // x is the domain side; gradients are dense in its layout.
  std::tuple<Tensor, Tensor> backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& x) const {
    const bool last = is_channels_last(x);
    check_out(*x_, grad_y, "grad_y");
    const Tensor grad = prepare(grad_y, c_.shape.channels_last);
    const Tensor grad_sum = grad_logdet.is_contiguous() ? grad_logdet : torch::stable::contiguous(grad_logdet);
    check_sum(x, grad_sum, "grad_logdet");
    Tensor grad_x = empty_dense(x, sizes_of(x), last), grad_params = empty_dense(x, sizes_of(*params_), last);
    if (c_.shape.size() == 0) return {grad_x, grad_params};
    Run::backward(x, ParametricBackward<Options>{c_, view(grad), view(*x_), view(grad_x),
                                                 parameter_view(grad_params, c_.parameters), array(grad_sum)});
    return {grad_x, grad_params};
  }

 private:
  Parametric<Options> c_;
  Optional x_, params_;  // as the kernels take them
};

}  // namespace flowkit
