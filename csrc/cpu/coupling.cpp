// Affine and additive couplings: one pass over x and its parameters.
#include "../math/coupling.h"

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// Rows are channels with pixels inside, or pixels with channels inside.
template <class T, class Fn>
class Kernel {
  using C = Compute<T>;

 public:
  Kernel(const Coupling& c, const Fn& fn)
      : c_(c), fn_(fn), permutation_(get<int64_t>(c.permutation)), end_(c.begin + c.count) {}

  // Output channel j shows input channel source(j) in the forward direction, the other way round in the inverse.
  int64_t source(int64_t j) const { return permutation_ ? permutation_[j] : j; }

  double forward_channels(const CouplingForward& a, int64_t b, int64_t first, int64_t last) const {
    double logdet = 0;
    for (int64_t j = first; j < last; ++j) {
      const int64_t k = source(j);  // the channel before the permutation
      const T* x = at<T>(a.x, b, c_.inverse ? j : k);
      T* y = at<T>(a.y, b, c_.inverse ? k : j);
      if (k < c_.begin || k >= end_)
        copy(x, a.x.pixel, c_.shape.pixels, y, a.y.pixel);
      else
        logdet += run(x, a.x.pixel, at<T>(c_.scale, b, k - c_.begin), c_.scale.pixel,
                      at<T>(c_.shift, b, k - c_.begin), c_.shift.pixel, y, a.y.pixel, c_.shape.pixels);
    }
    return logdet;
  }

  double forward_pixels(const CouplingForward& a, int64_t b, int64_t first, int64_t last) const {
    double logdet = 0;
    const int64_t channels = c_.shape.channels;
    T* row = permutation_ ? scratch<T>(channels) : nullptr;
    for (int64_t p = first; p < last; ++p) {
      const T* x = at<T>(a.x, b, 0, p);
      T* y = at<T>(a.y, b, 0, p);
      if (permutation_ && c_.inverse) {
        for (int64_t j = 0; j < channels; ++j) row[permutation_[j]] = x[j * a.x.channel];
        x = row;
      }
      const int64_t xs = x == row ? 1 : a.x.channel;
      T* to = permutation_ && !c_.inverse ? row : y;
      const int64_t ys = to == row ? 1 : a.y.channel;
      copy(x, xs, c_.begin, to, ys);
      logdet += run(x + c_.begin * xs, xs, at<T>(c_.scale, b, 0, p), c_.scale.channel, at<T>(c_.shift, b, 0, p),
                    c_.shift.channel, to + c_.begin * ys, ys, c_.count);
      copy(x + end_ * xs, xs, channels - end_, to + end_ * ys, ys);
      if (to == row)
        for (int64_t j = 0; j < channels; ++j) y[j * a.y.channel] = row[permutation_[j]];
    }
    return logdet;
  }

  void backward_channels(const CouplingBackward& a, C grad_logdet, int64_t b, int64_t first, int64_t last) const {
    for (int64_t j = first; j < last; ++j) {
      const int64_t k = source(j);
      const int64_t out = c_.inverse ? k : j, in = c_.inverse ? j : k;
      const T* grad = at<T>(a.grad_y, b, out);
      T* grad_x = at<T>(a.grad_x, b, in);
      if (k < c_.begin || k >= end_)
        copy(grad, a.grad_y.pixel, c_.shape.pixels, grad_x, a.grad_x.pixel);
      else
        run_backward(grad_logdet, grad, a.grad_y.pixel, at<T>(a.y, b, out), a.y.pixel, b, k - c_.begin, 0,
                     &View::pixel, grad_x, a.grad_x.pixel, a, c_.shape.pixels);
    }
  }

  void backward_pixels(const CouplingBackward& a, C grad_logdet, int64_t b, int64_t first, int64_t last) const {
    const int64_t channels = c_.shape.channels;
    T* row = permutation_ ? scratch<T>(channels) : nullptr;
    T* row2 = permutation_ ? scratch<T, 1>(channels) : nullptr;
    for (int64_t p = first; p < last; ++p) {
      const T* grad = at<T>(a.grad_y, b, 0, p);
      const T* y = at<T>(a.y, b, 0, p);
      T* grad_x = at<T>(a.grad_x, b, 0, p);
      int64_t gs = a.grad_y.channel, ys = a.y.channel;
      if (permutation_ && !c_.inverse) {
        for (int64_t j = 0; j < channels; ++j) {
          row[permutation_[j]] = grad[j * gs];
          row2[permutation_[j]] = y[j * ys];
        }
        grad = row, y = row2, gs = ys = 1;
      }
      T* to = permutation_ && c_.inverse ? row : grad_x;
      const int64_t ts = to == row ? 1 : a.grad_x.channel;
      copy(grad, gs, c_.begin, to, ts);
      run_backward(grad_logdet, grad + c_.begin * gs, gs, y + c_.begin * ys, ys, b, 0, p, &View::channel,
                   to + c_.begin * ts, ts, a, c_.count);
      copy(grad + end_ * gs, gs, channels - end_, to + end_ * ts, ts);
      if (to == row)
        for (int64_t j = 0; j < channels; ++j) grad_x[j * a.grad_x.channel] = row[permutation_[j]];
    }
  }

 private:
  __attribute__((noinline)) double run(
      const T* x, int64_t xs, const T* u, int64_t us, const T* t, int64_t ts, T* y, int64_t ys, int64_t n) const {
    double logdet = 0;
    Input<T> x_in, u_in, t_in;
    Output<T> y_out;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      const C* xi = x_in.get(x + i * xs, xs, m);
      const C* ui = c_.scale.data ? u_in.get(u + i * us, us, m) : xi;
      const C* ti = t_in.get(t + i * ts, ts, m);
      C* yi = y_out.get(y + i * ys, ys);
      const Fn fn = fn_;
      C sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t e = 0; e < m; ++e) yi[e] = fn.forward(xi[e], ui[e], ti[e], sum);
      y_out.put(y + i * ys, ys, m);
      logdet += sum;
    }
    return logdet;
  }

  __attribute__((noinline)) void run_backward(
      C grad_logdet, const T* grad, int64_t gs, const T* y, int64_t ys, int64_t b, int64_t channel, int64_t pixel,
      int64_t View::* inner, T* grad_x, int64_t xs, const CouplingBackward& a, int64_t n) const {
    const bool affine = c_.scale.data != nullptr;
    const T* u = affine ? at<T>(c_.scale, b, channel, pixel) : nullptr;
    const T* t = affine ? at<T>(c_.shift, b, channel, pixel) : nullptr;
    T* grad_u = affine ? at<T>(a.grad_scale, b, channel, pixel) : nullptr;
    T* grad_t = at<T>(a.grad_shift, b, channel, pixel);
    const int64_t us = c_.scale.*inner, ts = c_.shift.*inner, gus = a.grad_scale.*inner, gts = a.grad_shift.*inner;
    Input<T> g_in, y_in, u_in, t_in;
    Output<T> x_out, u_out, t_out;
    alignas(64) C unused[block];
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      const C* gi = g_in.get(grad + i * gs, gs, m);
      const C* yi = affine ? y_in.get(y + i * ys, ys, m) : gi;
      const C* ui = affine ? u_in.get(u + i * us, us, m) : gi;
      const C* ti = affine ? t_in.get(t + i * ts, ts, m) : gi;
      C* gx = x_out.get(grad_x + i * xs, xs);
      C* gu = affine ? u_out.get(grad_u + i * gus, gus) : unused;
      C* gt = t_out.get(grad_t + i * gts, gts);
      const Fn fn = fn_;
#pragma omp simd
      for (int64_t e = 0; e < m; ++e) {
        const auto g = fn.backward(gi[e], grad_logdet, yi[e], ui[e], ti[e]);
        gx[e] = g.x;
        gu[e] = g.scale;
        gt[e] = g.shift;
      }
      x_out.put(grad_x + i * xs, xs, m);
      if (affine) u_out.put(grad_u + i * gus, gus, m);
      t_out.put(grad_t + i * gts, gts, m);
    }
  }

  const Coupling& c_;
  const Fn fn_;
  const int64_t* permutation_;
  int64_t end_;
};

// Calls f(storage type, element function) for the options of c.
template <class F>
void dispatch_coupling(const Coupling& c, const F& f) {
  dispatch(c.dtype, [&](auto value) {
    using T = decltype(value);
    using C = Compute<T>;
    const auto direction = [&](auto inverse) {
      constexpr bool inv = decltype(inverse)::value;
      if (!c.scale.data) return f(value, math::Additive<C, inv>{});
      const C bound = static_cast<C>(c.bound), gain = static_cast<C>(c.gain);
      switch (c.clamp) {
        case Clamp::none: return f(value, math::Affine<C, Clamp::none, inv>{{bound, gain}});
        case Clamp::tanh: return f(value, math::Affine<C, Clamp::tanh, inv>{{bound, gain}});
        case Clamp::atan: return f(value, math::Affine<C, Clamp::atan, inv>{{bound, gain}});
        case Clamp::sigmoid: return f(value, math::Affine<C, Clamp::sigmoid, inv>{{bound, gain}});
      }
    };
    if (c.inverse)
      direction(std::true_type());
    else
      direction(std::false_type());
  });
}

}  // namespace

void coupling(const CouplingForward& a) {
  dispatch_coupling(a, [&](auto value, auto fn) {
    using T = decltype(value);
    using C = Compute<T>;
    const Kernel<T, decltype(fn)> kernel(a, fn);
    const PartialSums<C> sums(a.logdet, a.shape);
    for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
      sums.put(b, unit,
               a.shape.channels_last ? kernel.forward_pixels(a, b, first, last)
                                     : kernel.forward_channels(a, b, first, last));
    });
    sums.finish();
  });
}

void coupling_backward(const CouplingBackward& a) {
  dispatch_coupling(a, [&](auto value, auto fn) {
    using T = decltype(value);
    using C = Compute<T>;
    const Kernel<T, decltype(fn)> kernel(a, fn);
    const C* grad_logdet = get<C>(a.grad_logdet);
    for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
      if (a.shape.channels_last)
        kernel.backward_pixels(a, grad_logdet[b], b, first, last);
      else
        kernel.backward_channels(a, grad_logdet[b], b, first, last);
    });
  });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
