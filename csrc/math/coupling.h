// One element of a coupling: both directions and their gradients, in terms of the output.
#pragma once

#include "clamp.h"

namespace flowkit::math {

template <class T>
struct CouplingGrad {
  T x, scale, shift;
};

// x' = x * exp(l(u)) + t.
template <class T, Clamp clamp, bool inverse>
struct Affine {
  ClampFn<T, clamp> log_scale;

  // Adds this direction's log-derivative to logdet.
  FLOWKIT_HD T forward(T x, T u, T t, T& logdet) const {
    const T l = log_scale(u).value;
    logdet += inverse ? -l : l;
    return inverse ? (x - t) * exp(-l) : x * exp(l) + t;
  }

  FLOWKIT_HD CouplingGrad<T> backward(T grad, T grad_logdet, T out, T u, T t) const {
    const LogScale<T> l = log_scale(u);
    if constexpr (inverse) {
      const T grad_x = grad * exp(-l.value);
      return {grad_x, l.slope * (-grad * out - grad_logdet), -grad_x};
    } else {
      return {grad * exp(l.value), l.slope * (grad * (out - t) + grad_logdet), grad};
    }
  }
};

// x' = x + t.
template <class T, bool inverse>
struct Additive {
  FLOWKIT_HD T forward(T x, T, T t, T&) const { return inverse ? x - t : x + t; }

  FLOWKIT_HD CouplingGrad<T> backward(T grad, T, T, T, T) const { return {grad, T(0), inverse ? -grad : grad}; }
};

}  // namespace flowkit::math
