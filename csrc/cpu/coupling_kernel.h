// The loops of couplings over memory, with the actnorm that may follow: one pass over x and its parameters.
#pragma once

#include "../math/coupling.h"

#include <utility>

#include "coupling_rows.h"
#include "norm_rows.h"
#include "pixels.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// Rows are channels with pixels inside, or pixels with channels inside.
template <class T>
class Kernel {
  using C = Compute<T>;
  using Span = ChannelSpan<C>;

 public:
  // norm: the actnorm that follows, null for none.
  Kernel(const Coupling& c, const Arithmetic<C>& arithmetic, const NormTables<C>* norm)
      : c_(c),
        arithmetic_(arithmetic),
        norm_(norm),
        permutation_(get<int64_t>(c.permutation)),
        end_(c.begin + c.count) {
    if (!c.shape.channels_last) return;
    moved_ = span(c.begin, c.count);
    others_[0] = span(0, c.begin);
    others_[1] = span(end_, c.shape.channels - end_);
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
      if (k >= c_.begin && k < end_)
        logdet += run(k, x, a.x.pixel, at<T>(c_.scale, b, k - c_.begin), c_.scale.pixel,
                      at<T>(c_.shift, b, k - c_.begin), c_.shift.pixel, y, a.y.pixel, c_.shape.pixels);
      else if (norm_)
        run_normalise(k, x, a.x.pixel, y, a.y.pixel, c_.shape.pixels);
      else
        copy(x, a.x.pixel, c_.shape.pixels, y, a.y.pixel);
    }
    return logdet;
  }

  // Channels that the coupling leaves alone.
  struct Others {
    Pixels<T> from, to;
  };
  struct Forward {
    Pixels<T> x, y, u, t;
    Others others[2];
  };

  Forward pixels(const CouplingForward& a) const {
    const bool in_place = rows_in_place({&a.x, &a.y, &c_.scale, &c_.shift});
    const auto others = [&](int i) {
      return Others{pixels(others_[i], a.x, a.inverse, !norm_), pixels(others_[i], a.y, !a.inverse, !norm_)};
    };
    return {pixels(moved_, a.x, a.inverse, in_place),
            pixels(moved_, a.y, !a.inverse, in_place),
            parameter(a.scale, in_place),
            parameter(a.shift, in_place),
            {others(0), others(1)}};
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
          RowsOf<const C> x = rows<const C>(a.x, b, c_.begin, p);
          const RowsOf<C> y = rows<C>(a.y, b, c_.begin, p);
          if (norm_ && c_.inverse) x = normalise_rows(x, y, step);
          const double sum = arithmetic_.forward(x, c_.scale.data ? rows<const C>(c_.scale, b, 0, p) : x,
                                                 rows<const C>(c_.shift, b, 0, p), y, step, c_.count, sums);
          if (norm_ && !c_.inverse) normalise_rows({y.data, y.pitch}, y, step);
          if (per_pixel) per_pixel[p] += static_cast<C>(sum);
          logdet += sum;
        }
      }
    } else {
      moved_.for_blocks(first, last, [&](int64_t p, int64_t group, int64_t k, int64_t count) {
        v.x.read(b, p, group, k, count, xs);
        if (norm_ && c_.inverse) normalise<1>(moved_.factors(k), xs, xs, group * count);
        if (c_.scale.data) v.u.read(b, p, group, k, count, us);
        v.t.read(b, p, group, k, count, ts);
        logdet += arithmetic_.forward({xs, 0}, {us, 0}, {ts, 0}, {xs, 0}, 1, group * count, sums);
        for (int64_t g = 0; per_pixel && g < group; ++g) per_pixel[p + g] += sum_of(sums + g * count, count);
        if (norm_ && !c_.inverse) normalise<1>(moved_.factors(k), xs, xs, group * count);
        v.y.write(b, p, group, k, count, xs);
      });
    }
    for (int i = 0; norm_ && i < 2; ++i)
      others_[i].for_blocks(first, last, [&](int64_t p, int64_t group, int64_t k, int64_t count) {
        v.others[i].from.read(b, p, group, k, count, xs);
        normalise<1>(others_[i].factors(k), xs, xs, group * count);
        v.others[i].to.write(b, p, group, k, count, xs);
      });
    if (!norm_ && a.x.data != a.y.data) copy_others(v.x, v.y, b, first, last);
    return logdet;
  }

  // `part`: where this sample's sums for the actnorm go, by channel as before the permutation; null without one.
  void backward_channels(const CouplingBackward& a, C grad_logdet, int64_t b, int64_t first, int64_t last,
                         C* part) const {
    NormSums<C> sums;
    for (int64_t j = first; j < last; ++j) {
      const int64_t k = source(j);
      const int64_t out = c_.inverse ? k : j, in = c_.inverse ? j : k;
      const T* grad = at<T>(a.grad_y, b, out);
      T* grad_x = at<T>(a.grad_x, b, in);
      if (part) sums.clear(std::min(block, c_.shape.pixels));
      if (k >= c_.begin && k < end_)
        run_backward(k, grad_logdet, grad, at<T>(a.y, b, out), b, grad_x, a, sums);
      else if (part)
        run_norm_backward(k, grad, at<T>(a.y, b, out), grad_x, a, sums);
      else
        copy(grad, a.grad_y.pixel, c_.shape.pixels, grad_x, a.grad_x.pixel);
      if (part) leave(sums, std::min(block, c_.shape.pixels), k, 1, part);
    }
  }

  struct Backward {
    Pixels<T> grad, y, u, t, grad_x, grad_u, grad_t;
    Pixels<T> others[2][3];  // grad, y, grad_x
  };

  Backward pixels(const CouplingBackward& a) const {
    const auto three = [&](const Span& s, int i) {
      const View* views[] = {&a.grad_y, &a.y, &a.grad_x};
      return pixels(s, *views[i], (i == 2) == a.inverse, &s != &moved_ && !norm_);
    };
    return {three(moved_, 0),
            three(moved_, 1),
            parameter(a.scale, false),
            parameter(a.shift, false),
            three(moved_, 2),
            parameter(a.grad_scale, false),
            parameter(a.grad_shift, false),
            {{three(others_[0], 0), three(others_[0], 1), three(others_[0], 2)},
             {three(others_[1], 0), three(others_[1], 1), three(others_[1], 2)}}};
  }

  // grad_logdet: that of sample b, or one for each pixel (step 1). `part`: as in backward_channels, this work unit's.
  void backward_pixels(const CouplingBackward& a, const Backward& v, const C* grad_logdet, int64_t step, int64_t b,
                       int64_t first, int64_t last, C* part) const {
    if (part)
      others_backward(v, b, first, last, part);
    else
      copy_others(v.grad, v.grad_x, b, first, last);
    if (!part && c_.scale.data &&
        rows_in_place({&a.grad_y, &a.y, &a.grad_x, &c_.scale, &c_.shift, &a.grad_scale, &a.grad_shift})) {
      if constexpr (std::is_same_v<T, C>) {
        C* repeated = scratch<C>(c_.count);
        const int64_t count = step ? 1 : last - first;
        for (int64_t p = first; p < last; p += count) {
          std::fill(repeated, repeated + c_.count, grad_logdet[p * step]);
          arithmetic_.backward(
              repeated,
              {rows<const C>(a.grad_y, b, c_.begin, p), rows<const C>(a.y, b, c_.begin, p),
               rows<const C>(c_.scale, b, 0, p), rows<const C>(c_.shift, b, 0, p), rows<C>(a.grad_x, b, c_.begin, p),
               rows<C>(a.grad_scale, b, 0, p), rows<C>(a.grad_shift, b, 0, p)},
              count, c_.count);
        }
      }
      return;
    }
    alignas(64) C gs[block], xs[block], ys[block], us[block], ts[block], grad_ts[block], ls[block];
    NormSums<C> sums;
    moved_.for_blocks(
        first, last,
        [&](int64_t p, int64_t group, int64_t k, int64_t count) {
          const int64_t n = group * count;
          v.grad.read(b, p, group, k, count, gs);
          if (c_.scale.data || part) {
            v.y.read(b, p, group, k, count, ys);
            v.t.read(b, p, group, k, count, ts);
          }
          if (c_.scale.data) {
            v.u.read(b, p, group, k, count, us);
            for (int64_t g = 0; g < group; ++g)
              std::fill(ls + g * count, ls + (g + 1) * count, grad_logdet[(p + g) * step]);
          }
          if (part && p == first) sums.clear(n);
          if (part && !c_.inverse) norm_backward<1>(moved_.factors(k), gs, ys, gs, ys, sums, n);
          arithmetic_.backward(ls, {{gs, 0}, {ys, 0}, {us, 0}, {ts, 0}, {xs, 0}, {us, 0}, {grad_ts, 0}}, 1, n);
          if (part && c_.inverse) norm_inverse_backward<1>(moved_.factors(k), gs, ys, ts, grad_ts, xs, sums, n);
          v.grad_x.write(b, p, group, k, count, xs);
          if (c_.scale.data) v.grad_u.write(b, p, group, k, count, us);
          v.grad_t.write(b, p, group, k, count, grad_ts);
        },
        [&](int64_t group, int64_t k, int64_t count) {
          if (part) leave(sums, group, c_.begin + k, count, part);
        });
  }

 private:
  // Output channel j shows input channel source(j) in the forward direction, the other way round in the inverse.
  int64_t source(int64_t j) const { return permutation_ ? permutation_[j] : j; }

  Span span(int64_t first, int64_t count) const {
    Span s{first, count, std::clamp<int64_t>(block / std::max<int64_t>(count, 1), 1, c_.shape.pixels), {}};
    if (norm_) s.tables = norm_->tiled(first, count, s.group);
    return s;
  }

  // The channels of a span in a view from before (or after) the permutation, and those of a parameter; `alone`: none of
  // the tables of offsets is needed.
  Pixels<T> pixels(const Span& s, const View& v, bool after, bool alone) const {
    return {v, after && permutation_ ? after_.data() : nullptr, s.first, s.count, alone ? 0 : s.group};
  }
  Pixels<T> parameter(const View& v, bool alone) const { return {v, nullptr, 0, c_.count, alone ? 0 : moved_.group}; }

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

  // Rows of the transformed channels through the actnorm; returns them.
  RowsOf<const C> normalise_rows(RowsOf<const C> x, RowsOf<C> y, int64_t rows) const {
    for (int64_t r = 0; r < rows; ++r) normalise<1>(norm_->at(c_.begin), x.row(r), y.row(r), c_.count);
    return {y.data, y.pitch};
  }

  // The sums of `group` times `count` elements, of channels from k on, to their place in `part`: first those of the
  // gradient, then those of the product.
  void leave(const NormSums<C>& sums, int64_t group, int64_t k, int64_t count, C* part) const {
    const int64_t repeat = norm_->repeat(), channels = c_.shape.channels / repeat;
    for (int64_t i = 0; i < count; ++i) {
      C grad = 0, product = 0;
      for (int64_t e = i; e < group * count; e += count) {
        grad += sums.grad[e];
        product += sums.product[e];
      }
      part[(k + i) / repeat] += grad;
      part[channels + (k + i) / repeat] += product;
    }
  }

  void others_backward(const Backward& v, int64_t b, int64_t first, int64_t last, C* part) const {
    alignas(64) C gs[block], ys[block];
    NormSums<C> sums;
    for (int i = 0; i < 2; ++i)
      others_[i].for_blocks(
          first, last,
          [&](int64_t p, int64_t group, int64_t k, int64_t count) {
            v.others[i][0].read(b, p, group, k, count, gs);
            v.others[i][1].read(b, p, group, k, count, ys);
            if (p == first) sums.clear(group * count);
            norm_backward<1>(others_[i].factors(k), gs, ys, gs, ys, sums, group * count);
            v.others[i][2].write(b, p, group, k, count, gs);
          },
          [&](int64_t group, int64_t k, int64_t count) { leave(sums, group, others_[i].first + k, count, part); });
  }

  // Moves the channels that are not transformed.
  void copy_others(const Pixels<T>& from, const Pixels<T>& to, int64_t b, int64_t first, int64_t last) const {
    const std::pair<int64_t, int64_t> others[] = {{0, c_.begin}, {end_, c_.shape.channels}};
    for (int64_t p = first; p < last; ++p)
      for (const auto& [k, stop] : others) to.copy(from, b, p, k, stop);
  }

  // One channel that the coupling leaves alone.
  void run_normalise(int64_t k, const T* x, int64_t xs, T* y, int64_t ys, int64_t n) const {
    Input<T> in;
    Output<T> out;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      normalise<0>(norm_->at(k), in.get(x + i * xs, xs, m), out.get(y + i * ys, ys), m);
      out.put(y + i * ys, ys, m);
    }
  }

  // One channel that it transforms, k before the permutation.
  double run(int64_t k, const T* x, int64_t xs, const T* u, int64_t us, const T* t, int64_t ts, T* y, int64_t ys,
             int64_t n) const {
    double logdet = 0;
    Input<T> x_in, u_in, t_in;
    Output<T> y_out;
    alignas(64) C sums[block];
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      const C* xi = x_in.get(x + i * xs, xs, m);
      C* yi = y_out.get(y + i * ys, ys);
      if (norm_ && c_.inverse) {
        normalise<0>(norm_->at(k), xi, yi, m);
        xi = yi;
      }
      const C* ui = c_.scale.data ? u_in.get(u + i * us, us, m) : xi;
      const C* ti = t_in.get(t + i * ts, ts, m);
      logdet += arithmetic_.forward({xi, 0}, {ui, 0}, {ti, 0}, {yi, 0}, 1, m, sums);
      if (norm_ && !c_.inverse) normalise<0>(norm_->at(k), yi, yi, m);
      y_out.put(y + i * ys, ys, m);
    }
    return logdet;
  }

  void run_norm_backward(int64_t k, const T* grad, const T* y, T* grad_x, const CouplingBackward& a,
                         NormSums<C>& sums) const {
    Input<T> g_in, y_in;
    Output<T> out;
    alignas(64) C unused[block];
    const int64_t gs = a.grad_y.pixel, ys = a.y.pixel, xs = a.grad_x.pixel, n = c_.shape.pixels;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      norm_backward<0>(norm_->at(k), g_in.get(grad + i * gs, gs, m), y_in.get(y + i * ys, ys, m),
                       out.get(grad_x + i * xs, xs), unused, sums, m);
      out.put(grad_x + i * xs, xs, m);
    }
  }

  void run_backward(int64_t k, C grad_logdet, const T* grad, const T* y, int64_t b, T* grad_x,
                    const CouplingBackward& a, NormSums<C>& sums) const {
    const bool affine = c_.scale.data != nullptr;
    const int64_t channel = k - c_.begin;
    const T* u = affine ? at<T>(c_.scale, b, channel) : nullptr;
    const T* t = affine || norm_ ? at<T>(c_.shift, b, channel) : nullptr;
    T* grad_u = affine ? at<T>(a.grad_scale, b, channel) : nullptr;
    T* grad_t = at<T>(a.grad_shift, b, channel);
    const int64_t gs = a.grad_y.pixel, ys = a.y.pixel, us = c_.scale.pixel, ts = c_.shift.pixel;
    const int64_t xs = a.grad_x.pixel, gus = a.grad_scale.pixel, gts = a.grad_shift.pixel, n = c_.shape.pixels;
    Input<T> g_in, y_in, u_in, t_in;
    Output<T> x_out, u_out, t_out;
    alignas(64) C unused[block], repeated[block], grad_z[block], z[block];
    std::fill(repeated, repeated + std::min(block, n), grad_logdet);
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
      const C* gi = g_in.get(grad + i * gs, gs, m);
      const C* yi = affine || norm_ ? y_in.get(y + i * ys, ys, m) : gi;
      const C* ui = affine ? u_in.get(u + i * us, us, m) : gi;
      const C* ti = affine || norm_ ? t_in.get(t + i * ts, ts, m) : gi;
      C* xi = x_out.get(grad_x + i * xs, xs);
      if (norm_ && !c_.inverse) {
        norm_backward<0>(norm_->at(k), gi, yi, grad_z, z, sums, m);
        gi = grad_z;
        yi = z;
      }
      C *gui = affine ? u_out.get(grad_u + i * gus, gus) : unused, *gti = t_out.get(grad_t + i * gts, gts);
      arithmetic_.backward(repeated, {{gi, 0}, {yi, 0}, {ui, 0}, {ti, 0}, {xi, 0}, {gui, 0}, {gti, 0}}, 1, m);
      if (norm_ && c_.inverse) norm_inverse_backward<0>(norm_->at(k), gi, yi, ti, gti, xi, sums, m);
      x_out.put(grad_x + i * xs, xs, m);
      if (affine) u_out.put(grad_u + i * gus, gus, m);
      t_out.put(grad_t + i * gts, gts, m);
    }
  }

  const Coupling& c_;
  const Arithmetic<C> arithmetic_;
  const NormTables<C>* norm_;
  const int64_t* permutation_;
  int64_t end_;
  Span moved_, others_[2];      // if channels are inside
  std::vector<int64_t> after_;  // the inverse permutation
};

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
