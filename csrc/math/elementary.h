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

// exp(r) - 1 for |r| <= ln(2)/2.
template <class T, int n = 2>
FLOWKIT_HD T exp_tail(T r) {
  if constexpr (n == Constants<T>::exp_terms)
    return inverse_factorial<T>(n);
  else
    return inverse_factorial<T>(n) + r * exp_tail<T, n + 1>(r);
}

// 1 + z2/3 + z2^2/5 + ... (atanh), or alternating (atan).
template <class T, int terms, bool alternate, int n = 0>
FLOWKIT_HD T odd_series(T z2) {
  constexpr T c = (alternate && n % 2 ? T(-1) : T(1)) / T(2 * n + 1);
  if constexpr (n + 1 == terms)
    return c;
  else
    return c + z2 * odd_series<T, terms, alternate, n + 1>(z2);
}

// x = k ln2 + r: returns r and 2^(k/2), 2^(k - k/2), so that k may leave the range of one exponent.
template <class T>
FLOWKIT_HD void exp_reduce(T x, T& r, T& first, T& second) {
  using C = Constants<T>;
  using Int = typename C::Int;
  const T shifted = x * T(1.4426950408889634) + C::round;
  const T k = shifted - C::round;
  r = (x - k * C::ln2_high) - k * C::ln2_low;
  const Int whole = bits<Int>(shifted) - bits<Int>(C::round);
  const Int half = whole >> 1;
  first = bits<T>((half + C::exponent_bias) << C::mantissa_bits);
  second = bits<T>((whole - half + C::exponent_bias) << C::mantissa_bits);
}

template <class T>
FLOWKIT_HD T exp(T x) {
#ifdef __CUDA_ARCH__
  return ::exp(x);
#else
  const T limit = Constants<T>::exp_limit;
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
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
  const T limit = Constants<T>::tanh_limit;
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
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
  using C = Constants<T>;
  using Int = typename C::Int;
  const Int sqrt_half = bits<Int>(T(0.70710678118654752));
  const Int i = bits<Int>(x);
  const Int k = (i - sqrt_half) >> C::mantissa_bits;
  const T m = bits<T>(i - (k << C::mantissa_bits));
  const T z = (m - T(1)) / (m + T(1));
  return T(k) * T(0.69314718055994531) + (z + z) * odd_series<T, C::log_terms, false>(z * z) + (x - x);
#endif
}

template <class T>
FLOWKIT_HD T atan(T x) {
#ifdef __CUDA_ARCH__
  return ::atan(x);
#else
  const T a = x < T(0) ? -x : x;
  const bool large = a > T(1);
  const T b = large ? T(1) / a : a;                // in [0, 1]
  const bool middle = b > T(0.41421356237309503);  // tan(pi/8)
  const T z = middle ? (b - T(1)) / (b + T(1)) : b;
  T y = z * odd_series<T, Constants<T>::atan_terms, true>(z * z);
  y = middle ? y + T(0.78539816339744831) : y;
  y = large ? T(1.5707963267948966) - y : y;
  return x < T(0) ? -y : y;
#endif
}

template <class T>
FLOWKIT_HD T abs(T x) {
  return x < T(0) ? -x : x;
}

// log(1 + x) for x in [0, 1], to the last bits also near 0.
template <class T>
FLOWKIT_HD T log1p(T x) {
#ifdef __CUDA_ARCH__
  return ::log1p(x);
#else
  const T z = x / (x + T(2));
  return (z + z) * odd_series<T, Constants<T>::log1p_terms, false>(z * z);
#endif
}

template <class T>
FLOWKIT_HD T sigmoid(T x) {
  const T e = exp(x < T(0) ? x : -x);
  const T s = T(1) / (T(1) + e);
  return x < T(0) ? e * s : s;
}

// log(1 + exp(x)).
template <class T>
FLOWKIT_HD T softplus(T x) {
  return (x > T(0) ? x : T(0)) + log1p(exp(x < T(0) ? x : -x));
}

}  // namespace flowkit::math
