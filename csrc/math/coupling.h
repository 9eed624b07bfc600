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
  ClampFn<T, clamp, inverse> scale;

  // Adds this direction's log-derivative to logdet.
  FLOWKIT_HD T forward(T x, T u, T t, T& logdet) const {
    const Scale<T> s = scale(u);
    logdet += inverse ? -s.log : s.log;
    return inverse ? (x - t) * s.factor : x * s.factor + t;
  }

  FLOWKIT_HD CouplingGrad<T> backward(T grad, T grad_logdet, T out, T u, T t) const {
    const Scale<T> s = scale(u);
    if constexpr (inverse)
      return {grad * s.factor, s.slope * (-grad * out - grad_logdet), -grad * s.factor};
    else
      return {grad * s.factor, s.slope * (grad * (out - t) + grad_logdet), grad};
  }
};

// x' = x + t.
template <class T, bool inverse>
struct Additive {
  FLOWKIT_HD T forward(T x, T, T t, T&) const { return inverse ? x - t : x + t; }

  FLOWKIT_HD CouplingGrad<T> backward(T grad, T, T, T, T) const { return {grad, T(0), inverse ? -grad : grad}; }
};

}  // namespace flowkit::math
