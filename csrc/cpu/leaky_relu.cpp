// Leaky ReLU: the log-det counts the negative elements.
#include "../math/leaky_relu.h"

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// body(sample, unit, offset of the row's start in each view, row size), with the inner strides.
struct Rows {
  const Shape& shape;

  int64_t size() const { return shape.channels_last ? shape.channels : shape.pixels; }
  int64_t stride(const View& v) const { return shape.channels_last ? v.channel : v.pixel; }
  template <class T>
  T* start(const View& v, int64_t b, int64_t r) const {
    return shape.channels_last ? at<T>(v, b, 0, r) : at<T>(v, b, r);
  }
};

}  // namespace

void leaky_relu(const LeakyReluForward& a) {
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const Rows rows{a.shape};
    const double slope = a.inverse ? 1 / a.slope : a.slope;
    const math::LeakyRelu<C> fn{static_cast<C>(slope)};
    const PartialSums<C> sums(a.logdet, a.shape);
    for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
      Input<T> in;
      Output<T> out;
      const int64_t xs = rows.stride(a.x), ys = rows.stride(a.y);
      int64_t negative = 0;
      for (int64_t r = first; r < last; ++r) {
        const T* x = rows.template start<T>(a.x, b, r);
        T* y = rows.template start<T>(a.y, b, r);
        for (int64_t i = 0; i < rows.size(); i += block) {
          const int64_t m = std::min(block, rows.size() - i);
          const C* xi = in.get(x + i * xs, xs, m);
          C* yi = out.get(y + i * ys, ys);
          int32_t count = 0;
#pragma omp simd reduction(+ : count)
          for (int64_t e = 0; e < m; ++e) {
            count += xi[e] < C(0) ? 1 : 0;
            yi[e] = fn.forward(xi[e]);
          }
          negative += count;
          out.put(y + i * ys, ys, m);
        }
      }
      sums.put(b, unit, negative * std::log(slope));
    });
    sums.finish();
  });
}

void leaky_relu_backward(const LeakyReluBackward& a) {
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const Rows rows{a.shape};
    const math::LeakyRelu<C> fn{static_cast<C>(a.inverse ? 1 / a.slope : a.slope)};
    for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
      Input<T> g_in, y_in;
      Output<T> out;
      const int64_t gs = rows.stride(a.grad_y), ys = rows.stride(a.y), xs = rows.stride(a.grad_x);
      for (int64_t r = first; r < last; ++r) {
        const T* grad = rows.template start<T>(a.grad_y, b, r);
        const T* y = rows.template start<T>(a.y, b, r);
        T* grad_x = rows.template start<T>(a.grad_x, b, r);
        for (int64_t i = 0; i < rows.size(); i += block) {
          const int64_t m = std::min(block, rows.size() - i);
          const C* gi = g_in.get(grad + i * gs, gs, m);
          const C* yi = y_in.get(y + i * ys, ys, m);
          C* xi = out.get(grad_x + i * xs, xs);
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) xi[e] = fn.backward(gi[e], yi[e]);
          out.put(grad_x + i * xs, xs, m);
        }
      }
    });
  });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
