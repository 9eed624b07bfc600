// One channel of actnorm as y = a * x + b, and one element of its gradients in terms of the output.
#pragma once

#include <limits>

#include "elementary.h"

namespace flowkit::math {

// log_scale: y = x * exp(scale) + shift; otherwise y = scale * (x + shift). The inverse is of the same form.
template <class T>
struct ActNormChannel {
  T a, b, log_abs_a;

  FLOWKIT_HD ActNormChannel(T scale, T shift, bool log_scale, bool inverse) {
    if (log_scale) {
      a = exp(inverse ? -scale : scale);
      b = inverse ? -shift * a : shift;
      log_abs_a = inverse ? -scale : scale;
    } else {
      a = inverse ? T(1) / scale : scale;
      b = inverse ? -shift : shift * scale;
      const T log_abs = log(scale < T(0) ? -scale : scale);  // on the host, log(0) is no infinity
      log_abs_a = (scale == T(0) ? -std::numeric_limits<T>::infinity() : log_abs) * (inverse ? T(-1) : T(1));
    }
  }
};

// What is subtracted from the output before it is summed against its gradient.
template <class T>
FLOWKIT_HD T actnorm_offset(T shift, bool log_scale, bool inverse) {
  if (log_scale) return inverse ? T(0) : shift;
  return inverse ? -shift : T(0);
}

// The gradients of scale and shift from sum_g = sum(grad_y), sum_gy = sum(grad_y * (y - actnorm_offset)) over batch and
// pixels, and grad_l = pixels * sum(grad_logdet).
template <class T>
struct ActNormGrad {
  T scale, shift;

  FLOWKIT_HD ActNormGrad(T s, T sum_g, T sum_gy, T grad_l, bool log_scale, bool inverse) {
    const T total = inverse ? -(sum_gy + grad_l) : sum_gy + grad_l;
    scale = log_scale ? total : total / s;
    if (log_scale)
      shift = inverse ? -sum_g * exp(-s) : sum_g;
    else
      shift = inverse ? -sum_g : sum_g * s;
  }
};

}  // namespace flowkit::math
