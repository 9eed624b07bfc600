// One element of the leaky ReLU; the inverse is the same with 1/slope.
#pragma once

#include "elementary.h"

namespace flowkit::math {

template <class T>
struct LeakyRelu {
  T slope;

  FLOWKIT_HD T forward(T x) const { return x < T(0) ? x * slope : x; }

  FLOWKIT_HD T backward(T grad, T out) const { return out < T(0) ? grad * slope : grad; }
};

}  // namespace flowkit::math
