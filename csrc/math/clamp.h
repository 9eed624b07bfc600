// Clamped log-scales l(u) of affine couplings and their slopes dl/du.
#pragma once

#include "../launch.h"
#include "elementary.h"

namespace flowkit::math {

template <class T>
struct LogScale {
  T value, slope;
};

template <class T, Clamp clamp>
struct ClampFn {
  T bound, gain;

  FLOWKIT_HD LogScale<T> operator()(T u) const {
    u *= gain;
    if constexpr (clamp == Clamp::tanh) {
      const T t = tanh(u);
      return {bound * t, bound * gain * (T(1) - t * t)};
    } else if constexpr (clamp == Clamp::atan) {
      const T c = bound * T(0.636);  // FrEIA's stand-in for 2/pi
      return {c * atan(u), c * gain / (T(1) + u * u)};
    } else if constexpr (clamp == Clamp::sigmoid) {
      const T v = u + T(2);  // Glow
      const T s = sigmoid(v);
      return {bound > T(0) ? log(s + bound) : log_sigmoid(v), gain * s * (T(1) - s) / (s + bound)};
    } else {
      return {u, gain};
    }
  }
};

}  // namespace flowkit::math
