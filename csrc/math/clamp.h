// Clamped log-scales l(u) of affine couplings, their slopes dl/du, and the factors exp(l), exp(-l).
#pragma once

#include "../launch.h"
#include "elementary.h"

namespace flowkit::math {

template <class T>
struct Scale {
  T log, slope, factor;  // l, dl/du, and exp(l) or, for the inverse, exp(-l)
};

template <class T, Clamp clamp, bool inverse>
struct ClampFn {
  T bound, gain;

  FLOWKIT_HD Scale<T> operator()(T u) const {
    u *= gain;
    if constexpr (clamp == Clamp::tanh) {
      const T t = tanh(u);
      return with_factor(bound * t, bound * gain * (T(1) - t * t));
    } else if constexpr (clamp == Clamp::atan) {
      const T c = bound * T(0.636);  // FrEIA's stand-in for 2/pi
      return with_factor(c * atan(u), c * gain / (T(1) + u * u));
    } else if constexpr (clamp == Clamp::sigmoid) {
      const T v = u + T(2);  // Glow
      const T sigma = sigmoid(v), s = sigma + bound;
      const T l = bound == T(0) && v < Constants<T>::sigmoid_is_exp ? v : log(s);
      return {l, gain * sigma * (T(1) - sigma) / s, inverse ? T(1) / s : s};
    } else {
      return with_factor(u, gain);
    }
  }

 private:
  FLOWKIT_HD static Scale<T> with_factor(T l, T slope) { return {l, slope, exp(inverse ? -l : l)}; }
};

}  // namespace flowkit::math
