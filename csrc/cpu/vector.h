// SIMD vectors that the formulas of csrc/math are instantiated with: N lanes of float or double, their masks, select.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "../math/elementary.h"

namespace flowkit::cpu::FLOWKIT_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

// Lanes of a full register of S.
template <class S>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(S));

template <class S>
struct Register;
template <>
struct Register<float> {
  typedef float Values __attribute__((vector_size(vector_bytes)));
  typedef int32_t Integers __attribute__((vector_size(vector_bytes)));
};
template <>
struct Register<double> {
  typedef double Values __attribute__((vector_size(vector_bytes)));
  typedef int64_t Integers __attribute__((vector_size(vector_bytes)));
};

template <class S>
struct Mask {
  using Raw = typename Register<S>::Integers;
  Raw raw;

  friend FLOWKIT_HD Mask operator&(Mask a, Mask b) { return {a.raw & b.raw}; }
  friend FLOWKIT_HD Mask operator|(Mask a, Mask b) { return {a.raw | b.raw}; }
  friend FLOWKIT_HD Mask operator!(Mask a) { return {~a.raw}; }
};

template <class S>
struct Vec {
  using Raw = typename Register<S>::Values;
  static constexpr int size = lanes<S>;
  Raw raw;

  Vec() = default;
  FLOWKIT_HD Vec(Raw r) : raw(r) {}
  FLOWKIT_HD Vec(S value) : raw(value - Raw{}) {}  // minus keeps the sign of zero

  static FLOWKIT_HD Vec load(const S* from) {
    Vec v;
    std::memcpy(&v.raw, from, sizeof v.raw);
    return v;
  }
  FLOWKIT_HD void store(S* to) const { std::memcpy(to, &raw, sizeof raw); }

  FLOWKIT_HD Vec operator-() const { return -raw; }
  friend FLOWKIT_HD Vec operator+(Vec a, Vec b) { return a.raw + b.raw; }
  friend FLOWKIT_HD Vec operator-(Vec a, Vec b) { return a.raw - b.raw; }
  friend FLOWKIT_HD Vec operator*(Vec a, Vec b) { return a.raw * b.raw; }
  friend FLOWKIT_HD Vec operator/(Vec a, Vec b) { return a.raw / b.raw; }
  FLOWKIT_HD Vec& operator+=(Vec b) { return *this = *this + b; }
  FLOWKIT_HD Vec& operator-=(Vec b) { return *this = *this - b; }
  FLOWKIT_HD Vec& operator*=(Vec b) { return *this = *this * b; }

  friend FLOWKIT_HD Mask<S> operator<(Vec a, Vec b) { return {a.raw < b.raw}; }
  friend FLOWKIT_HD Mask<S> operator>(Vec a, Vec b) { return {a.raw > b.raw}; }
  friend FLOWKIT_HD Mask<S> operator<=(Vec a, Vec b) { return {a.raw <= b.raw}; }
  friend FLOWKIT_HD Mask<S> operator>=(Vec a, Vec b) { return {a.raw >= b.raw}; }
  friend FLOWKIT_HD Mask<S> operator==(Vec a, Vec b) { return {a.raw == b.raw}; }
};

template <class S>
FLOWKIT_HD Vec<S> select(Mask<S> mask, Vec<S> a, Vec<S> b) {
  return mask.raw ? a.raw : b.raw;
}

template <class S>
FLOWKIT_HD bool any(Mask<S> mask) {
  bool found = false;
  for (int i = 0; i < lanes<S>; ++i) found |= mask.raw[i] != 0;
  return found;
}

template <class S>
FLOWKIT_HD Vec<S> sqrt(Vec<S> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(S) == 4)
    return {
        reinterpret_cast<typename Vec<S>::Raw>(_mm512_maskz_sqrt_ps(__mmask16(-1), reinterpret_cast<__m512>(v.raw)))};
  else
    return {
        reinterpret_cast<typename Vec<S>::Raw>(_mm512_maskz_sqrt_pd(__mmask8(-1), reinterpret_cast<__m512d>(v.raw)))};
#elif defined(__AVX2__)
  if constexpr (sizeof(S) == 4)
    return {reinterpret_cast<typename Vec<S>::Raw>(_mm256_sqrt_ps(reinterpret_cast<__m256>(v.raw)))};
  else
    return {reinterpret_cast<typename Vec<S>::Raw>(_mm256_sqrt_pd(reinterpret_cast<__m256d>(v.raw)))};
#else
  for (int i = 0; i < Vec<S>::size; ++i) v.raw[i] = std::sqrt(v.raw[i]);
  return v;
#endif
}

}  // namespace flowkit::cpu::FLOWKIT_ISA

namespace flowkit::math {

template <class S>
struct Lanes<cpu::FLOWKIT_ISA::Vec<S>> {
  using Scalar = S;
  using Int = typename cpu::FLOWKIT_ISA::Mask<S>::Raw;
  FLOWKIT_HD static cpu::FLOWKIT_ISA::Vec<S> from_int(Int i) {
    return __builtin_convertvector(i, typename cpu::FLOWKIT_ISA::Vec<S>::Raw);
  }
};

}  // namespace flowkit::math

#if defined(__AVX512F__)
namespace flowkit::cpu::FLOWKIT_ISA {

// Those of elementary.h in fewer instructions.
FLOWKIT_HD __m512 native(Vec<float> v) { return reinterpret_cast<__m512>(v.raw); }
FLOWKIT_HD Vec<float> from_native(__m512 v) { return reinterpret_cast<Vec<float>::Raw>(v); }

// min and max give the second operand where one is NaN.
FLOWKIT_HD Vec<float> clamp(Vec<float> x, Vec<float> low, Vec<float> high) {
  const __mmask16 all(-1);
  return from_native(_mm512_maskz_max_ps(all, native(low), _mm512_maskz_min_ps(all, native(high), native(x))));
}

FLOWKIT_HD Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  using K = math::Constants<float>;
  x = clamp(x, V(-K::exp_limit), V(K::exp_limit));
  const V k = x * V(1.4426950408889634f) + V(K::round) - V(K::round);
  const V r = (x - k * V(K::ln2_high)) - k * V(K::ln2_low);
  const V power = V(1.0f) + (r + r * r * math::exp_tail<V>(r));
  return from_native(_mm512_maskz_scalef_ps(__mmask16(-1), native(power), native(k)));
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
#endif
