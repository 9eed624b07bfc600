// Activations of many values at once.
#pragma once

#include "../math/activation.h"

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {

template <class C>
void activate(const C* from, int64_t n, Activation kind, C* to) {
  const auto apply = [&](auto constant) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = math::activate(from[i], decltype(constant)::value);
  };
  switch (kind) {
#define FLOWKIT_CASE(name) \
  case Activation::name: return apply(std::integral_constant<Activation, Activation::name>());
    FLOWKIT_CASE(relu)
    FLOWKIT_CASE(leaky_relu)
    FLOWKIT_CASE(elu)
    FLOWKIT_CASE(silu)
    FLOWKIT_CASE(tanh)
    FLOWKIT_CASE(softplus)
#undef FLOWKIT_CASE
  }
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
