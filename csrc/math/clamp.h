// Clamped log-scales l(u) of affine couplings, their slopes dl/du, and the factors exp(l), exp(-l).
#pragma once

#include "../launch.h"
#include "elementary.h"

namespace flowkit::math {

template <class T>
struct Scale {
  T log, slope, factor;  // l, dl/du, and exp(l) or, for the inverse, exp(-l)
};

// With v = gain * u + offset:
//   none      v
//   tanh      bound * tanh(v)
//   atan      bound * 0.636 * atan(v)
//   sigmoid   log(factor * sigmoid(v) + bound)
//   softplus  log(factor * softplus(v) + bound)
//   softclip  v / (1 + |v| / bound)
//   hard      gain * u between offset and bound; the gradient ignores the limits
// divide: 0, or 1 for the negative of that; a T, since loops over a struct with a bool in it do not vectorise (g++ 12).
template <class T, Clamp clamp, bool inverse>
struct ClampFn {
  T bound, gain, offset, factor, divide;

  FLOWKIT_HD Scale<T> operator()(T u) const {
    if constexpr (clamp == Clamp::hard) {
      const T v = gain * u, above = v < offset ? offset : v;
      return of_log(above > bound ? bound : above, T(1));
    } else {
      return of(gain * u + offset);
    }
  }

 private:
  FLOWKIT_HD Scale<T> of(T v) const {
    if constexpr (clamp == Clamp::tanh) {
      const T t = tanh(v);
      return of_log(bound * t, bound * (T(1) - t * t));
    } else if constexpr (clamp == Clamp::atan) {
      const T c = bound * T(0.636);  // FrEIA's stand-in for 2/pi
      return of_log(c * atan(v), c / (T(1) + v * v));
    } else if constexpr (clamp == Clamp::softclip) {
      const T r = T(1) / (T(1) + abs(v) / bound);
      return of_log(v * r, r * r);
    } else if constexpr (clamp == Clamp::sigmoid) {
      const T sigma = sigmoid(v);
      return of_scale(v, sigma, T(1) - sigma, sigma * (T(1) - sigma));
    } else if constexpr (clamp == Clamp::softplus) {
      return of_scale(v, softplus(v), T(1), sigmoid(v));
    } else {
      return of_log(v, T(1));
    }
  }

  // dl/dv is `slope`.
  FLOWKIT_HD Scale<T> of_log(T l, T slope) const {
    const T sign = divide != T(0) ? T(-1) : T(1);
    return {sign * l, sign * gain * slope, exp(inverse ? -sign * l : sign * l)};
  }

  // The scale is factor * positive(v) + bound, of derivative factor * derivative. Far below 0, positive(v) is exp(v) to
  // the last bit and may vanish: there, without a bound, l = v + log(factor) and dl/dv = far_slope.
  FLOWKIT_HD Scale<T> of_scale(T v, T positive, T far_slope, T derivative) const {
    const T s = factor * positive + bound;
    const bool far = (bound == T(0)) & (v < Constants<T>::sigmoid_is_exp);  // & keeps loops free of branches
    const T sign = divide != T(0) ? T(-1) : T(1);
    const T log_s = log(s), far_log = v + log(factor), quotient = factor * derivative / s;
    const T l = far ? far_log : log_s, slope = far ? far_slope : quotient;
    return {sign * l, sign * gain * slope, inverse != (divide != T(0)) ? T(1) / s : s};
  }
};

}  // namespace flowkit::math
