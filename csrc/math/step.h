// What a flow step (coupling, permutation, actnorm) adds to math/coupling.h and math/actnorm.h.
#pragma once

#include "elementary.h"

namespace flowkit::math {

// One term of actnorm's sum_gy (see ActNormGrad) in the inverse step's backward: grad_z * (z - offset), where z is what
// the actnorm gave and the inverse coupling read. z itself is not at hand, but grad_z * z = grad_x * x - grad_t * t in
// every coupling: x = (z - t) * f has z = x / f + t, grad_z = grad_x * f = -grad_t; x = z * f - t likewise. A channel
// that the coupling leaves alone has t = 0.
template <class T>
FLOWKIT_HD T step_grad_product(T grad_x, T x, T grad_z, T t, T grad_t, T offset) {
  return grad_x * x - grad_t * t - grad_z * offset;
}

}  // namespace flowkit::math
