// Elementary functions for host and device: branch-free on the host, so that loops over them vectorise.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#define FLOWKIT_HD __host__ __device__ __forceinline__
#else
#define FLOWKIT_HD inline __attribute__((always_inline))
#endif

namespace flowkit::math {

template <class T>
struct Constants;

template <>
struct Constants<float> {
  using Int = int32_t;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float exp_limit = 120.0f, tanh_limit = 10.0f;
  static constexpr float sigmoid_is_exp = -20.0f;  // below, sigmoid(x) = exp(x) to the last bit
  static constexpr int mantissa_bits = 23, exponent_bias = 127;
  static constexpr int exp_terms = 7, log_terms = 6, log1p_terms = 8, atan_terms = 10;
};

template <>
struct Constants<double> {
  using Int = int64_t;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr double exp_limit = 1100.0, tanh_limit = 20.0;
  static constexpr double sigmoid_is_exp = -40.0;
  static constexpr int mantissa_bits = 52, exponent_bias = 1023;
  static constexpr int exp_terms = 13, log_terms = 12, log1p_terms = 17, atan_terms = 21;
};

// What a numeric type T is made of: itself, or for the SIMD vectors of csrc/cpu/vector.h their lanes. Formulas over T
// know no data-dependent branch: they select.
template <class T>
struct Lanes {
  using Scalar = T;
  using Int = typename Constants<T>::Int;
  FLOWKIT_HD static T from_int(Int i) { return T(i); }
};
template <class T>
using Scalar = typename Lanes<T>::Scalar;

template <class T>
FLOWKIT_HD T select(bool mask, T a, T b) {
  return mask ? a : b;
}

template <class To, class From>
FLOWKIT_HD To bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// 1/0! + ... as Taylor coefficients of exp: 1/n!.
template <class T>
constexpr T inverse_factorial(int n) {
  T f = 1;
  for (int i = 2; i <= n; ++i) f *= T(i);
  return T(1) / f;
}

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2.
template <class T, int n = 2>
FLOWKIT_HD T exp_tail(T r) {
  constexpr Scalar<T> c = inverse_factorial<Scalar<T>>(n);
  if constexpr (n == Constants<Scalar<T>>::exp_terms)
    return T(c);
  else
    return T(c) + r * exp_tail<T, n + 1>(r);
}

// 1 + z2/3 + z2^2/5 + ... (atanh), or alternating (atan).
template <class T, int terms, bool alternate, int n = 0>
FLOWKIT_HD T odd_series(T z2) {
  constexpr Scalar<T> c = (alternate && n % 2 ? Scalar<T>(-1) : Scalar<T>(1)) / Scalar<T>(2 * n + 1);
  if constexpr (n + 1 == terms)
    return T(c);
  else
    return T(c) + z2 * odd_series<T, terms, alternate, n + 1>(z2);
}

// x = k ln2 + r: returns r and 2^(k/2), 2^(k - k/2), so that k may leave the range of one exponent.
template <class T>
FLOWKIT_HD void exp_reduce(T x, T& r, T& first, T& second) {
  using C = Constants<Scalar<T>>;
  using Int = typename Lanes<T>::Int;
  const T shifted = x * T(1.4426950408889634) + T(C::round);
  const T k = shifted - T(C::round);
  r = (x - k * T(C::ln2_high)) - k * T(C::ln2_low);
  const Int whole = bits<Int>(shifted) - bits<typename C::Int>(C::round);
  const Int half = whole >> 1;
  first = bits<T>((half + C::exponent_bias) << C::mantissa_bits);
  second = bits<T>((whole - half + C::exponent_bias) << C::mantissa_bits);
}

// x within [low, high]; NaN stays NaN.
template <class T>
FLOWKIT_HD T clamp(T x, T low, T high) {
  x = select(x > high, high, x);
  return select(x < low, low, x);
}

template <class T>
FLOWKIT_HD T exp(T x) {
#ifdef __CUDA_ARCH__
  return ::exp(x);
#else
  const T limit = T(Constants<Scalar<T>>::exp_limit);
  x = clamp(x, -limit, limit);
  T r, first, second;
  exp_reduce(x, r, first, second);
  return (T(1) + (r + r * r * exp_tail<T>(r))) * first * second;
#endif
}

template <class T>
FLOWKIT_HD T tanh(T x) {
#ifdef __CUDA_ARCH__
  return ::tanh(x);
#else
  const T limit = T(Constants<Scalar<T>>::tanh_limit);
  x = clamp(x, -limit, limit);
  T r, first, second;
  exp_reduce(x + x, r, first, second);
  const T power = first * second;
  const T expm1 = power * (r + r * r * exp_tail<T>(r)) + (power - T(1));
  return expm1 / (expm1 + T(2));
#endif
}

// log(x) for positive normal x; NaN for NaN.
template <class T>
FLOWKIT_HD T log(T x) {
#ifdef __CUDA_ARCH__
  return ::log(x);
#else
  using C = Constants<Scalar<T>>;
  using Int = typename Lanes<T>::Int;
  const Int i = bits<Int>(x);
  const Int k = (i - bits<typename C::Int>(Scalar<T>(0.70710678118654752))) >> C::mantissa_bits;
  const T m = bits<T>(i - (k << C::mantissa_bits));
  const T z = (m - T(1)) / (m + T(1));
  return Lanes<T>::from_int(k) * T(0.69314718055994531) + (z + z) * odd_series<T, C::log_terms, false>(z * z) + (x - x);
#endif
}

template <class T>
FLOWKIT_HD T abs(T x) {
  return select(x < T(0), -x, x);
}

template <class T>
FLOWKIT_HD T sqrt(T x) {
  return ::sqrt(x);
}

// The largest whole number <= x, for |x| < 2^21.
template <class T>
FLOWKIT_HD T floor(T x) {
  const T near = (x + T(Constants<Scalar<T>>::round)) - T(Constants<Scalar<T>>::round);
  return select(near > x, near - T(1), near);
}

template <class T>
FLOWKIT_HD T atan(T x) {
#ifdef __CUDA_ARCH__
  return ::atan(x);
#else
  const T a = abs(x);
  const auto large = a > T(1);
  const T b = select(large, T(1) / a, a);          // in [0, 1]
  const auto middle = b > T(0.41421356237309503);  // tan(pi/8)
  const T z = select(middle, (b - T(1)) / (b + T(1)), b);
  T y = z * odd_series<T, Constants<Scalar<T>>::atan_terms, true>(z * z);
  y = select(middle, y + T(0.78539816339744831), y);
  y = select(large, T(1.5707963267948966) - y, y);
  return select(x < T(0), -y, y);
#endif
}

// log(1 + x) for x in [0, 1], to the last bits also near 0.
template <class T>
FLOWKIT_HD T log1p(T x) {
#ifdef __CUDA_ARCH__
  return ::log1p(x);
#else
  const T z = x / (x + T(2));
  return (z + z) * odd_series<T, Constants<Scalar<T>>::log1p_terms, false>(z * z);
#endif
}

template <class T>
FLOWKIT_HD T sigmoid(T x) {
  const T e = exp(-abs(x));
  const T s = T(1) / (T(1) + e);
  return select(x < T(0), e * s, s);
}

// log(1 + exp(x)).
template <class T>
FLOWKIT_HD T softplus(T x) {
  return select(x > T(0), x, T(0)) + log1p(exp(-abs(x)));
}

}  // namespace flowkit::math
