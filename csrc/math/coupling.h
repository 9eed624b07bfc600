// One element of a coupling: both directions and their gradients, in terms of the output.
#pragma once

#include "clamp.h"

namespace flowkit::math {

template <class T>
struct CouplingGrad {
  T x, scale, shift;
};

// x' = x * exp(l(u)) + t with t = shift_gain * raw; shift_first (0 or 1): x' = (x + t) * exp(l(u)).
template <class T, Clamp clamp, bool inverse>
struct Affine {
  ClampFn<T, clamp, inverse> scale;
  T shift_gain, shift_first;

  // Adds this direction's log-derivative to logdet.
  FLOWKIT_HD T forward(T x, T u, T raw, T& logdet) const {
    const Scale<T> s = scale(u);
    const T t = shift_gain * raw;
    logdet += inverse ? -s.log : s.log;
    if constexpr (inverse)
      return adds_first() ? x * s.factor - t : (x - t) * s.factor;
    else
      return adds_first() ? (x + t) * s.factor : x * s.factor + t;
  }

  FLOWKIT_HD CouplingGrad<T> backward(T grad, T grad_logdet, T out, T u, T raw) const {
    const Scale<T> s = scale(u);
    const T t = shift_gain * raw, moved = grad * s.factor;
    if constexpr (inverse)
      return {moved, s.slope * (-grad * (adds_first() ? out + t : out) - grad_logdet),
              shift_gain * (adds_first() ? -grad : -moved)};
    else
      return {moved, s.slope * (grad * (adds_first() ? out : out - t) + grad_logdet),
              shift_gain * (adds_first() ? moved : grad)};
  }

 private:
  FLOWKIT_HD bool adds_first() const { return shift_first != T(0); }
};

// x' = x + t.
template <class T, bool inverse>
struct Additive {
  FLOWKIT_HD T forward(T x, T, T t, T&) const { return inverse ? x - t : x + t; }

  FLOWKIT_HD CouplingGrad<T> backward(T grad, T, T, T, T) const { return {grad, T(0), inverse ? -grad : grad}; }
};

// Calls run(formula) with the struct of the coupling's clamp in the direction `inverse`.
#pragma nv_exec_check_disable
template <class T, bool inverse, class Run>
FLOWKIT_HD void with_formula(const Coupling& c, const Run& run) {
  if (c.scale.data == nullptr) return run(Additive<T, inverse>{});
  const auto affine = [&](auto clamp) {
    run(Affine<T, decltype(clamp)::value, inverse>{
        {static_cast<T>(c.bound), static_cast<T>(c.gain), static_cast<T>(c.offset), static_cast<T>(c.factor),
         static_cast<T>(c.divide)},
        static_cast<T>(c.shift_gain),
        static_cast<T>(c.shift_first)});
  };
  switch (c.clamp) {
    case Clamp::none: return affine(std::integral_constant<Clamp, Clamp::none>());
    case Clamp::tanh: return affine(std::integral_constant<Clamp, Clamp::tanh>());
    case Clamp::atan: return affine(std::integral_constant<Clamp, Clamp::atan>());
    case Clamp::sigmoid: return affine(std::integral_constant<Clamp, Clamp::sigmoid>());
    case Clamp::softplus: return affine(std::integral_constant<Clamp, Clamp::softplus>());
    case Clamp::softclip: return affine(std::integral_constant<Clamp, Clamp::softclip>());
    case Clamp::hard: return affine(std::integral_constant<Clamp, Clamp::hard>());
  }
}

template <class T, class Run>
void with_formula(const Coupling& c, const Run& run) {
  if (c.inverse)
    with_formula<T, true>(c, run);
  else
    with_formula<T, false>(c, run);
}

}  // namespace flowkit::math
