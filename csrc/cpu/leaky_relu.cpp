// Leaky ReLU: the log-det counts the negative elements.
#include "../math/leaky_relu.h"

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// Rows are channels with pixels inside, or pixels with channels inside.
struct Rows {
  const Shape& shape;

  int64_t size() const { return shape.channels_last ? shape.channels : shape.pixels; }
  int64_t stride(const View& v) const { return shape.channels_last ? v.channel : v.pixel; }
  template <class T>
  T* start(const View& v, int64_t b, int64_t r) const {
    return shape.channels_last ? at<T>(v, b, 0, r) : at<T>(v, b, r);
  }
};

// Channels do not matter here: dense samples are cut into rows of a good length.
template <class Arguments>
Arguments cut(const Arguments& a, std::initializer_list<View Arguments::*> views) {
  const int64_t size = a.shape.channels * a.shape.pixels, inner = Rows{a.shape}.size();
  for (const auto v : views)
    if (Rows{a.shape}.stride(a.*v) != 1 || (a.shape.channels_last ? (a.*v).pixel : (a.*v).channel) != inner) return a;
  int64_t row = std::min<int64_t>(4096, size);
  while (size % row != 0) --row;
  if (row <= inner) return a;
  Arguments rows = a;
  rows.shape = {a.shape.batch, size / row, row, false};
  for (const auto v : views) {
    (rows.*v).channel = row;
    (rows.*v).pixel = 1;
  }
  return rows;
}

}  // namespace

void leaky_relu(const LeakyReluForward& given) {
  const auto a = cut(given, {&LeakyReluForward::x, &LeakyReluForward::y});
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
          const auto f = fn;
          C count = 0;  // of the type that the lanes have; exact, since a block is short
#pragma omp simd reduction(+ : count)
          for (int64_t e = 0; e < m; ++e) {
            count += xi[e] < C(0) ? C(1) : C(0);
            yi[e] = f.forward(xi[e]);
          }
          negative += static_cast<int64_t>(count);
          out.put(y + i * ys, ys, m);
        }
      }
      sums.put(b, unit, negative * std::log(slope));
    });
    sums.finish();
  });
}

void leaky_relu_backward(const LeakyReluBackward& given) {
  using A = LeakyReluBackward;
  const A a = cut(given, {&A::grad_y, &A::y, &A::grad_x});
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
          const auto f = fn;
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) xi[e] = f.backward(gi[e], yi[e]);
          out.put(grad_x + i * xs, xs, m);
        }
      }
    });
  });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
