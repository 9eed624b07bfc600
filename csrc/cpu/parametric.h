// Couplings whose elements have parameters of their own: the loop over memory, for any map of csrc/math.
#pragma once

#include "simd.h"
#include "vector.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

template <class T>
T* parameters_at(const ParameterView& v, int64_t batch, int64_t channel, int64_t pixel) {
  return static_cast<T*>(v.data) + batch * v.batch + channel * v.channel + pixel * v.pixel;
}

template <class T>
struct ElementParams {
  static constexpr bool remembers = false;
  const T* data;
  int64_t stride;

  Compute<T> operator()(int i) const { return static_cast<Compute<T>>(data[i * stride]); }
};

template <class T>
struct ElementGrads {
  T* data;
  int64_t stride;

  void operator()(int i, Compute<T> value) const { data[i * stride] = static_cast<T>(value); }
};

template <template <class> class Map, class Options>
void parametric_forward(const ParametricForward<Options>& a) {
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const Map<C> map(a.options);
    const auto* permutation = get<int64_t>(a.permutation);
    const PartialSums<C> sums(a.logdet, a.shape);
    for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
      double logdet = 0;
      const bool cl = a.shape.channels_last;
      for (int64_t r = first; r < last; ++r)
        for (int64_t i = 0; i < (cl ? a.shape.channels : a.shape.pixels); ++i) {
          const int64_t j = cl ? i : r, pixel = cl ? r : i, k = permutation ? permutation[j] : j;
          const T x = *at<T>(a.x, b, a.inverse ? j : k, pixel);
          T& y = *at<T>(a.y, b, a.inverse ? k : j, pixel);
          if (k < a.begin || k >= a.begin + a.count) {
            y = x;
            continue;
          }
          const ElementParams<T> p{parameters_at<T>(a.params, b, k - a.begin, pixel), a.params.parameter};
          C l = 0;
          y = static_cast<T>(a.inverse ? map.inverse(static_cast<C>(x), p, l) : map.forward(static_cast<C>(x), p, l));
          logdet += l;
        }
      sums.put(b, unit, logdet);
    });
    sums.finish();
  });
}

template <template <class> class Map, class Options>
void parametric_backward(const ParametricBackward<Options>& a) {
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const Map<C> map(a.options);
    const auto* permutation = get<int64_t>(a.permutation);
    for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
      const bool cl = a.shape.channels_last;
      const C grad_l = get<C>(a.grad_logdet)[b];
      for (int64_t r = first; r < last; ++r)
        for (int64_t i = 0; i < (cl ? a.shape.channels : a.shape.pixels); ++i) {
          const int64_t j = cl ? i : r, pixel = cl ? r : i, k = permutation ? permutation[j] : j;
          const T grad = *at<T>(a.grad_y, b, a.inverse ? k : j, pixel);
          T& grad_x = *at<T>(a.grad_x, b, a.inverse ? j : k, pixel);
          if (k < a.begin || k >= a.begin + a.count) {
            grad_x = grad;
            continue;
          }
          const ElementParams<T> p{parameters_at<T>(a.params, b, k - a.begin, pixel), a.params.parameter};
          const ElementGrads<T> g{parameters_at<T>(a.grad_params, b, k - a.begin, pixel), a.grad_params.parameter};
          grad_x = static_cast<T>(
              map.backward(static_cast<C>(grad), grad_l, static_cast<C>(*at<T>(a.x, b, k, pixel)), p, g, a.inverse));
        }
    });
  });
}

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
