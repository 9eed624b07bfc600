// Affine and additive couplings: one pass over x and its parameters.
#include "../math/coupling.h"

#include <utility>

#include "coupling_rows.h"
#include "pixels.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// Rows are channels with pixels inside, or pixels with channels inside.
template <class T, class Fn>
class Kernel {
  using C = Compute<T>;

 public:
  Kernel(const Coupling& c, const Fn& fn)
      : c_(c), fn_(fn), permutation_(get<int64_t>(c.permutation)), end_(c.begin + c.count) {
    if (!c.shape.channels_last) return;
    group_ = std::clamp<int64_t>(block / std::max<int64_t>(c.count, 1), 1, c.shape.pixels);
    if (!permutation_) return;
    after_.resize(c.shape.channels);
    for (int64_t j = 0; j < c.shape.channels; ++j) after_[permutation_[j]] = j;
  }

  double forward_channels(const CouplingForward& a, int64_t b, int64_t first, int64_t last) const {
    double logdet = 0;
    for (int64_t j = first; j < last; ++j) {
      const int64_t k = source(j);  // the channel before the permutation
      const T* x = at<T>(a.x, b, c_.inverse ? j : k);
      T* y = at<T>(a.y, b, c_.inverse ? k : j);
      if (k < c_.begin || k >= end_)
        copy(x, a.x.pixel, c_.shape.pixels, y, a.y.pixel);
      else
        logdet += run(x, a.x.pixel, at<T>(c_.scale, b, k - c_.begin), c_.scale.pixel, at<T>(c_.shift, b, k - c_.begin),
                      c_.shift.pixel, y, a.y.pixel, c_.shape.pixels);
    }
    return logdet;
  }

  struct Forward {
    Pixels<T> x, y, u, t;
  };

  Forward pixels(const CouplingForward& a) const {
    const int64_t group = rows_in_place({&a.x, &a.y, &c_.scale, &c_.shift}) ? 0 : group_;
    return {moved(a.x, a.inverse, group), moved(a.y, !a.inverse, group), parameter(a.scale, group),
            parameter(a.shift, group)};
  }

  // Pixels [first, last) of sample b. Returns the log-det, or adds it up for each pixel into per_pixel, if that is
  // given.
  double forward_pixels(const CouplingForward& a, const Forward& v, int64_t b, int64_t first, int64_t last,
                        C* per_pixel) const {
    double logdet = 0;
    alignas(64) C xs[block], us[block], ts[block], sums[block];
    if (rows_in_place({&a.x, &a.y, &c_.scale, &c_.shift})) {
      if constexpr (std::is_same_v<T, C>) {
        const int64_t step = per_pixel ? 1 : last - first;
        for (int64_t p = first; p < last; p += step) {
          const RowsOf<const C> x = rows<const C>(a.x, b, c_.begin, p);
          const double sum =
              forward_rows<C>(fn_, x, c_.scale.data ? rows<const C>(c_.scale, b, 0, p) : x,
                              rows<const C>(c_.shift, b, 0, p), rows<C>(a.y, b, c_.begin, p), step, c_.count, sums);
          if (per_pixel) per_pixel[p] += static_cast<C>(sum);
          logdet += sum;
        }
      }
    } else {
      for_blocks(first, last, [&](int64_t p, int64_t group, int64_t k, int64_t count) {
        v.x.read(b, p, group, k, count, xs);
        if (c_.scale.data) v.u.read(b, p, group, k, count, us);
        v.t.read(b, p, group, k, count, ts);
        logdet += forward_rows<C>(fn_, {xs, 0}, {us, 0}, {ts, 0}, {xs, 0}, 1, group * count, sums);
        for (int64_t g = 0; per_pixel && g < group; ++g) per_pixel[p + g] += sum_of(sums + g * count, count);
        v.y.write(b, p, group, k, count, xs);
      });
    }
    if (a.x.data != a.y.data) copy_others(v.x, v.y, b, first, last);
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
        run_backward(grad_logdet, grad, at<T>(a.y, b, out), b, k - c_.begin, grad_x, a);
    }
  }

  struct Backward {
    Pixels<T> grad, y, u, t, grad_x, grad_u, grad_t;
  };

  Backward pixels(const CouplingBackward& a) const {
    return {moved(a.grad_y, !a.inverse, group_), moved(a.y, !a.inverse, group_),     parameter(a.scale, group_),
            parameter(a.shift, group_),          moved(a.grad_x, a.inverse, group_), parameter(a.grad_scale, group_),
            parameter(a.grad_shift, group_)};
  }

  // grad_logdet: that of sample b, or one for each pixel (step 1).
  void backward_pixels(const CouplingBackward& a, const Backward& v, const C* grad_logdet, int64_t step, int64_t b,
                       int64_t first, int64_t last) const {
    copy_others(v.grad, v.grad_x, b, first, last);
    if (rows_in_place({&a.grad_y, &a.y, &a.grad_x, &c_.scale, &c_.shift, &a.grad_scale, &a.grad_shift}) &&
        c_.scale.data) {
      if constexpr (std::is_same_v<T, C>) {
        C* repeated = scratch<C>(c_.count);
        const int64_t count = step ? 1 : last - first;
        for (int64_t p = first; p < last; p += count) {
          std::fill(repeated, repeated + c_.count, grad_logdet[p * step]);
          backward_rows<C>(
              fn_, repeated,
              {rows<const C>(a.grad_y, b, c_.begin, p), rows<const C>(a.y, b, c_.begin, p),
               rows<const C>(c_.scale, b, 0, p), rows<const C>(c_.shift, b, 0, p), rows<C>(a.grad_x, b, c_.begin, p),
               rows<C>(a.grad_scale, b, 0, p), rows<C>(a.grad_shift, b, 0, p)},
              count, c_.count);
        }
      }
      return;
    }
    alignas(64) C gs[block], ys[block], us[block], ts[block], ls[block];
    for_blocks(first, last, [&](int64_t p, int64_t group, int64_t k, int64_t count) {
      v.grad.read(b, p, group, k, count, gs);
      if (c_.scale.data) {
        v.y.read(b, p, group, k, count, ys);
        v.u.read(b, p, group, k, count, us);
        v.t.read(b, p, group, k, count, ts);
        for (int64_t g = 0; g < group; ++g)
          std::fill(ls + g * count, ls + (g + 1) * count, grad_logdet[(p + g) * step]);
      }
      backward_rows<C>(fn_, ls, {{gs, 0}, {ys, 0}, {us, 0}, {ts, 0}, {gs, 0}, {us, 0}, {ts, 0}}, 1, group * count);
      v.grad_x.write(b, p, group, k, count, gs);
      if (c_.scale.data) v.grad_u.write(b, p, group, k, count, us);
      v.grad_t.write(b, p, group, k, count, ts);
    });
  }

 private:
  // Output channel j shows input channel source(j) in the forward direction, the other way round in the inverse.
  int64_t source(int64_t j) const { return permutation_ ? permutation_[j] : j; }

  // The transformed channels of a view from before (or after) the permutation, and those of a parameter; group 0: no
  // table.
  Pixels<T> moved(const View& v, bool after, int64_t group) const {
    return {v, after && permutation_ ? after_.data() : nullptr, c_.begin, c_.count, group};
  }
  Pixels<T> parameter(const View& v, int64_t group) const { return {v, nullptr, 0, c_.count, group}; }

  // Whether the arithmetic can run where the rows of channels lie: dense, in the compute type, and long enough.
  bool rows_in_place(std::initializer_list<const View*> views) const {
    bool dense = std::is_same_v<T, C> && !permutation_ && c_.count >= 16;
    for (const View* v : views) dense = dense && (v->channel == 1 || !v->data);
    return dense;
  }

  template <class R>
  RowsOf<R> rows(const View& v, int64_t b, int64_t channel, int64_t pixel) const {
    return {at<R>(v, b, channel, pixel), v.pixel};
  }

  // body(pixel, pixels, channel, channels) over [first, last) x [0, count) in pieces of up to `block` elements.
  template <class Body>
  void for_blocks(int64_t first, int64_t last, const Body& body) const {
    for (int64_t k = 0; k < c_.count; k += block) {
      const int64_t count = std::min(block, c_.count - k);
      for (int64_t p = first; p < last; p += group_) body(p, std::min(group_, last - p), k, count);
    }
  }

  // Moves the channels that are not transformed.
  void copy_others(const Pixels<T>& from, const Pixels<T>& to, int64_t b, int64_t first, int64_t last) const {
    const std::pair<int64_t, int64_t> others[] = {{0, c_.begin}, {end_, c_.shape.channels}};
    for (int64_t p = first; p < last; ++p)
      for (const auto& [k, stop] : others) to.copy(from, b, p, k, stop);
  }

  double run(const T* x, int64_t xs, const T* u, int64_t us, const T* t, int64_t ts, T* y, int64_t ys,
             int64_t n) const {
    double logdet = 0;
    Input<T> x_in, u_in, t_in;
    Output<T> y_out;
    alignas(64) C sums[block];
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      const C* xi = x_in.get(x + i * xs, xs, m);
      const C* ui = c_.scale.data ? u_in.get(u + i * us, us, m) : xi;
      const C* ti = t_in.get(t + i * ts, ts, m);
      logdet += forward_rows<C>(fn_, {xi, 0}, {ui, 0}, {ti, 0}, {y_out.get(y + i * ys, ys), 0}, 1, m, sums);
      y_out.put(y + i * ys, ys, m);
    }
    return logdet;
  }

  // One channel: its pixels.
  void run_backward(C grad_logdet, const T* grad, const T* y, int64_t b, int64_t channel, T* grad_x,
                    const CouplingBackward& a) const {
    const bool affine = c_.scale.data != nullptr;
    const T* u = affine ? at<T>(c_.scale, b, channel) : nullptr;
    const T* t = affine ? at<T>(c_.shift, b, channel) : nullptr;
    T* grad_u = affine ? at<T>(a.grad_scale, b, channel) : nullptr;
    T* grad_t = at<T>(a.grad_shift, b, channel);
    const int64_t gs = a.grad_y.pixel, ys = a.y.pixel, us = c_.scale.pixel, ts = c_.shift.pixel;
    const int64_t xs = a.grad_x.pixel, gus = a.grad_scale.pixel, gts = a.grad_shift.pixel, n = c_.shape.pixels;
    Input<T> g_in, y_in, u_in, t_in;
    Output<T> x_out, u_out, t_out;
    alignas(64) C unused[block], repeated[block];
    std::fill(repeated, repeated + std::min(block, n), grad_logdet);
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      const C* gi = g_in.get(grad + i * gs, gs, m);
      const C* yi = affine ? y_in.get(y + i * ys, ys, m) : gi;
      const C* ui = affine ? u_in.get(u + i * us, us, m) : gi;
      const C* ti = affine ? t_in.get(t + i * ts, ts, m) : gi;
      backward_rows<C>(fn_, repeated,
                       {{gi, 0},
                        {yi, 0},
                        {ui, 0},
                        {ti, 0},
                        {x_out.get(grad_x + i * xs, xs), 0},
                        {affine ? u_out.get(grad_u + i * gus, gus) : unused, 0},
                        {t_out.get(grad_t + i * gts, gts), 0}},
                       1, m);
      x_out.put(grad_x + i * xs, xs, m);
      if (affine) u_out.put(grad_u + i * gus, gus, m);
      t_out.put(grad_t + i * gts, gts, m);
    }
  }

  const Coupling& c_;
  const Fn fn_;
  const int64_t* permutation_;
  int64_t end_;
  int64_t group_ = 1;           // pixels in a block
  std::vector<int64_t> after_;  // the inverse permutation
};

// Small images without a permutation are one long row of channels a sample, and samples of one row each are to the
// loops what pixels are: rows of channels. `vectors` tells whether pixels stand for samples.
template <class Arguments>
struct Reshaped {
  Arguments a;
  bool vectors;

  Reshaped(const Arguments& given, std::initializer_list<View Arguments::*> images,
           std::initializer_list<View Arguments::*> params)
      : a(given) {
    const int64_t pixels = a.shape.pixels;
    bool dense =
        !a.shape.channels_last && !a.permutation.data && pixels < 256 && a.shape.channels * pixels <= 4 * unit_elements;
    const auto for_views = [&](const auto& f) {
      for (const auto v : images) f(a.*v);
      for (const auto v : params) f(a.*v);
    };
    for_views([&](View& v) { dense = dense && (!v.data || (v.pixel == 1 && v.channel == pixels)); });
    if (dense) {
      a.shape = {a.shape.batch, a.shape.channels * pixels, 1, true};
      a.begin *= pixels;
      a.count *= pixels;
      for_views([](View& v) { v.channel = 1; });
    }
    vectors = a.shape.channels_last && a.shape.pixels == 1;
    if (!vectors) return;
    a.shape = {1, a.shape.channels, a.shape.batch, true};
    for_views([](View& v) { v.pixel = std::exchange(v.batch, 0); });
  }
};

// Calls f(storage type, element function) for the options of c.
template <class F>
void dispatch_coupling(const Coupling& c, const F& f) {
  dispatch(c.dtype, [&](auto value) {
    using T = decltype(value);
    math::with_formula<Compute<T>>(c, [&](const auto& formula) { f(value, formula); });
  });
}

}  // namespace

void coupling(const CouplingForward& given) {
  using A = CouplingForward;
  const Reshaped<A> reshaped(given, {&A::x, &A::y}, {&A::scale, &A::shift});
  const A& a = reshaped.a;
  dispatch_coupling(a, [&](auto value, auto fn) {
    using T = decltype(value);
    using C = Compute<T>;
    const Kernel<T, decltype(fn)> kernel(a, fn);
    const auto pixels = kernel.pixels(a);
    if (reshaped.vectors) {
      auto* logdet = static_cast<C*>(a.logdet.sum.data);
      if (!a.logdet.accumulate) std::fill(logdet, logdet + a.shape.pixels, C(0));
      for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
        kernel.forward_pixels(a, pixels, b, first, last, logdet);
      });
      return;
    }
    const PartialSums<C> sums(a.logdet, a.shape);
    for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
      sums.put(b, unit,
               a.shape.channels_last ? kernel.forward_pixels(a, pixels, b, first, last, nullptr)
                                     : kernel.forward_channels(a, b, first, last));
    });
    sums.finish();
  });
}

void coupling_backward(const CouplingBackward& given) {
  using A = CouplingBackward;
  const Reshaped<A> reshaped(given, {&A::grad_y, &A::y, &A::grad_x},
                             {&A::scale, &A::shift, &A::grad_scale, &A::grad_shift});
  const A& a = reshaped.a;
  dispatch_coupling(a, [&](auto value, auto fn) {
    using T = decltype(value);
    using C = Compute<T>;
    const Kernel<T, decltype(fn)> kernel(a, fn);
    const C* grad_logdet = get<C>(a.grad_logdet);
    const auto pixels = kernel.pixels(a);
    for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
      if (a.shape.channels_last)
        kernel.backward_pixels(a, pixels, grad_logdet + b, reshaped.vectors ? 1 : 0, b, first, last);
      else
        kernel.backward_channels(a, grad_logdet[b], b, first, last);
    });
  });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
