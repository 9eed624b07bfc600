// Activations of the masked networks whose inverse is fused.
#pragma once

#include "../launch.h"
#include "elementary.h"

namespace flowkit::math {

template <class T>
FLOWKIT_HD T activate(T x, Activation kind) {
  switch (kind) {
    case Activation::relu: return x < T(0) ? T(0) : x;
    case Activation::leaky_relu: return x < T(0) ? x * T(0.01) : x;
    case Activation::elu: return x > T(0) ? x : exp(x) - T(1);
    case Activation::silu: return x * sigmoid(x);
    case Activation::tanh: return tanh(x);
    case Activation::softplus: return softplus(x);
  }
  return x;
}

}  // namespace flowkit::math
