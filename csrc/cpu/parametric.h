// Couplings whose elements have parameters of their own: the loop over memory, a vector of elements at a time, for any
// map of csrc/math over T: forward, inverse and backward.
#pragma once

#include "channels.h"
#include "element_params.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// What a map sees: parameters, scratch of the same size, gradients of parameters.
template <class C>
struct VectorParams {
  static constexpr bool remembers = true;
  const C* data;
  int64_t pitch;
  C* memory;

  FLOWKIT_HD Vec<C> operator()(int i) const { return Vec<C>::load(data + i * pitch); }
  FLOWKIT_HD void remember(int i, Vec<C> value) const { value.store(memory + i * lanes<C>); }
  FLOWKIT_HD Vec<C> recall(int i) const { return Vec<C>::load(memory + i * lanes<C>); }
};

template <class C>
struct VectorGrads {
  C* data;
  int64_t pitch;

  FLOWKIT_HD void operator()(int i, Vec<C> value) const { value.store(data + i * pitch); }
};

// The arithmetic, the only code that is compiled for every map. x and y may be the same.
template <class C, class Map>
__attribute__((noinline, noclone)) void forward_vector(const Map& map, bool inverse, const C* x,
                                                       const VectorParams<C>& p, C* y, C* logs) {
  const Vec<C> in = Vec<C>::load(x);
  Vec<C> log(C(0));
  (inverse ? map.inverse(in, p, log) : map.forward(in, p, log)).store(y);
  log.store(logs);
}

template <class C, class Map>
__attribute__((noinline, noclone)) void backward_vector(const Map& map, bool inverse, const C* grad,
                                                        const C* grad_logdet, const C* x, const VectorParams<C>& p,
                                                        const VectorGrads<C>& g, C* grad_x) {
  map.backward(Vec<C>::load(grad), Vec<C>::load(grad_logdet), Vec<C>::load(x), p, g, inverse).store(grad_x);
}

// Rows are channels with pixels inside, or pixels with channels inside.
template <class T, class Map, class Options>
class ParametricKernel : Channels<T> {
  using C = Compute<T>;
  using Channels<T>::source, Channels<T>::is_moved, Channels<T>::moved, Channels<T>::for_blocks;
  using Channels<T>::copy_others, Channels<T>::group_;
  static constexpr int n = lanes<C>;
  static constexpr int64_t padded = block + 16;

 public:
  explicit ParametricKernel(const Parametric<Options>& c) : Channels<T>(c), c_(c), map_(c.options) {}

  // Rows [first, last) of sample b. Returns the log-det, or adds it up for each pixel into per_pixel, if that is given.
  double forward(const ParametricForward<Options>& a, int64_t b, int64_t first, int64_t last, C* per_pixel) const {
    double logdet = 0;
    alignas(64) C xs[padded], logs[padded];
    int64_t offsets[padded];
    ElementParams<T> params(c_.params, c_.parameters, !c_.shape.channels_last && c_.params.pixel == 1);
    std::vector<C> memory(c_.parameters * n);
    const auto run = [&](const T* base, int64_t m) {
      for (int64_t i = 0; i < m; i += n) {
        const auto rows = params.load(base, offsets + i, static_cast<int>(std::min<int64_t>(n, m - i)));
        forward_vector<C>(map_, c_.inverse, xs + i, {rows.data, rows.pitch, memory.data()}, xs + i, logs + i);
      }
    };
    if (c_.shape.channels_last) {
      const Pixels<T> x = moved(a.x, c_.inverse, group_), y = moved(a.y, !c_.inverse, group_);
      for_blocks(first, last, [&](int64_t p, int64_t group, int64_t k, int64_t count) {
        x.read(b, p, group, k, count, xs);
        channel_offsets(c_.params, group, count, offsets);
        pad(xs, group * count);
        run(params.at(b, k, p), group * count);
        for (int64_t g = 0; g < group; ++g) {
          const C sum = sum_of(logs + g * count, count);
          if (per_pixel) per_pixel[p + g] += sum;
          logdet += sum;
        }
        y.write(b, p, group, k, count, xs);
      });
      if (a.x.data != a.y.data) copy_others(x, y, b, first, last);
      return logdet;
    }
    for (int64_t i = 0; i < block; ++i) offsets[i] = i * c_.params.pixel;
    for_channels(first, last, [&](int64_t k, int64_t after) {
      const T* x = at<T>(a.x, b, c_.inverse ? after : k);
      T* y = at<T>(a.y, b, c_.inverse ? k : after);
      if (!is_moved(k)) return copy(x, a.x.pixel, c_.shape.pixels, y, a.y.pixel);
      for (int64_t i = 0; i < c_.shape.pixels; i += block) {
        const int64_t m = std::min(block, c_.shape.pixels - i);
        load(x + i * a.x.pixel, a.x.pixel, m, xs);
        pad(xs, m);
        run(params.at(b, k - c_.begin, i), m);
        logdet += sum_of(logs, m);
        store(xs, m, y + i * a.y.pixel, a.y.pixel);
      }
    });
    return logdet;
  }

  // grad_logdet: that of sample b, or one for each pixel (step 1).
  void backward(const ParametricBackward<Options>& a, const C* grad_logdet, int64_t step, int64_t b, int64_t first,
                int64_t last) const {
    alignas(64) C xs[padded], gs[padded], ls[padded];
    int64_t offsets[padded], grad_offsets[padded];
    const bool pixels_inside = !c_.shape.channels_last;
    ElementParams<T> params(c_.params, c_.parameters, pixels_inside && c_.params.pixel == 1);
    ElementParams<T> grads(a.grad_params, c_.parameters, pixels_inside && a.grad_params.pixel == 1);
    std::vector<C> memory(c_.parameters * n);
    const auto run = [&](const T* base, T* grad_base, int64_t m) {
      for (int64_t i = 0; i < m; i += n) {
        const int used = static_cast<int>(std::min<int64_t>(n, m - i));
        const auto rows = params.load(base, offsets + i, used);
        const auto target = grads.target(grad_base, grad_offsets + i, used);
        backward_vector<C>(map_, c_.inverse, gs + i, ls + i, xs + i, {rows.data, rows.pitch, memory.data()},
                           {target.data, target.pitch}, gs + i);
        grads.store(grad_base, grad_offsets + i, used);
      }
    };
    if (c_.shape.channels_last) {
      const Pixels<T> grad = moved(a.grad_y, !c_.inverse, group_), grad_x = moved(a.grad_x, c_.inverse, group_);
      const Pixels<T> x = moved(a.x, false, group_);
      copy_others(grad, grad_x, b, first, last);
      for_blocks(first, last, [&](int64_t p, int64_t group, int64_t k, int64_t count) {
        grad.read(b, p, group, k, count, gs);
        x.read(b, p, group, k, count, xs);
        for (int64_t g = 0; g < group; ++g)
          std::fill(ls + g * count, ls + (g + 1) * count, grad_logdet[(p + g) * step]);
        channel_offsets(c_.params, group, count, offsets);
        channel_offsets(a.grad_params, group, count, grad_offsets);
        for (C* values : {gs, xs, ls}) pad(values, group * count);
        run(params.at(b, k, p), grads.at(b, k, p), group * count);
        grad_x.write(b, p, group, k, count, gs);
      });
      return;
    }
    std::fill(ls, ls + padded, *grad_logdet);
    for (int64_t i = 0; i < block; ++i) offsets[i] = i * c_.params.pixel;
    for (int64_t i = 0; i < block; ++i) grad_offsets[i] = i * a.grad_params.pixel;
    for_channels(first, last, [&](int64_t k, int64_t after) {
      const T* grad = at<T>(a.grad_y, b, c_.inverse ? k : after);
      T* grad_x = at<T>(a.grad_x, b, c_.inverse ? after : k);
      if (!is_moved(k)) return copy(grad, a.grad_y.pixel, c_.shape.pixels, grad_x, a.grad_x.pixel);
      const T* x = at<T>(a.x, b, k);
      for (int64_t i = 0; i < c_.shape.pixels; i += block) {
        const int64_t m = std::min(block, c_.shape.pixels - i);
        load(grad + i * a.grad_y.pixel, a.grad_y.pixel, m, gs);
        load(x + i * a.x.pixel, a.x.pixel, m, xs);
        for (C* values : {gs, xs}) pad(values, m);
        run(params.at(b, k - c_.begin, i), grads.at(b, k - c_.begin, i), m);
        store(gs, m, grad_x + i * a.grad_x.pixel, a.grad_x.pixel);
      }
    });
  }

 private:
  static C sum_of(const C* values, int64_t count) {
    C sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) sum += values[i];
    return sum;
  }

  // The last vector of m values is filled up with harmless ones.
  static void pad(C* values, int64_t m) { std::fill(values + m, values + (m + n - 1) / n * n, values[0]); }

  static void channel_offsets(const ParameterView& v, int64_t group, int64_t count, int64_t* offsets) {
    for (int64_t g = 0; g < group; ++g)
      for (int64_t k = 0; k < count; ++k) *offsets++ = g * v.pixel + k * v.channel;
  }

  // body(channel, as numbered before the permutation, and its place after it) for rows [first, last).
  template <class Body>
  void for_channels(int64_t first, int64_t last, const Body& body) const {
    for (int64_t j = first; j < last; ++j) body(source(j), j);
  }

  const Parametric<Options>& c_;
  const Map map_;
};

// Samples without space are to the loops what pixels are: rows of channels. Whether that is so here.
template <class Arguments>
bool samples_as_pixels(Arguments& a, std::initializer_list<View Arguments::*> views,
                       std::initializer_list<ParameterView Arguments::*> params) {
  if (!a.shape.channels_last || a.shape.pixels != 1) return false;
  a.shape = {1, a.shape.channels, a.shape.batch, true};
  for (const auto v : views) (a.*v).pixel = std::exchange((a.*v).batch, 0);
  for (const auto v : params) (a.*v).pixel = std::exchange((a.*v).batch, 0);
  return true;
}

template <template <class> class Map, class Options>
void parametric_forward(ParametricForward<Options> a) {
  using A = ParametricForward<Options>;
  const bool vectors = samples_as_pixels<A>(a, {&A::x, &A::y}, {&A::params});
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const ParametricKernel<T, Map<Vec<C>>, Options> kernel(a);
    if (vectors) {
      auto* logdet = static_cast<C*>(a.logdet.sum.data);
      if (!a.logdet.accumulate) std::fill(logdet, logdet + a.shape.pixels, C(0));
      for_units(a.shape,
                [&](int64_t b, int64_t, int64_t first, int64_t last) { kernel.forward(a, b, first, last, logdet); });
      return;
    }
    const PartialSums<C> sums(a.logdet, a.shape);
    for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
      sums.put(b, unit, kernel.forward(a, b, first, last, nullptr));
    });
    sums.finish();
  });
}

template <template <class> class Map, class Options>
void parametric_backward(ParametricBackward<Options> a) {
  using A = ParametricBackward<Options>;
  const bool vectors = samples_as_pixels<A>(a, {&A::grad_y, &A::x, &A::grad_x}, {&A::params, &A::grad_params});
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const ParametricKernel<T, Map<Vec<C>>, Options> kernel(a);
    const C* grad_logdet = get<C>(a.grad_logdet);
    for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
      kernel.backward(a, grad_logdet + b, vectors ? 1 : 0, b, first, last);
    });
  });
}

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
