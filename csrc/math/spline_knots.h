// From the raw parameters of one element to the knots of its spline and back with gradients: the conventions of nflows,
// normflows, zuko and FrEIA.
#pragma once

#include "../launch.h"
#include "elementary.h"

namespace flowkit::math {

// Raw parameters of one element: `bins` widths, `bins` heights, then for the map free the bottom and the left of the
// box, for the map square its size, then slopes at knots.
//   softmax   sizes are a softmax of gain * raw, none smaller than min_size of the box; slope min_slope + softplus
//   softclip  the same of raw / (1 + |2 raw / log 1e-3|); slope exp(raw / (1 + |raw / log 1e-3|))
//   free      sizes are min_size + softplus, at raw 0 those of the box; slope min_slope + softplus, at raw 0 it is 1
//   square    as softmax, in a box as high as it is wide around its middle, softplus the size; slopes as free
// Slopes at the ends, and the map outside of the box:
//   identity  1 (bins - 1 slopes); straight on with it: the identity where the box is as high as wide
//   interval  parameters too (bins + 1); straight on with them
//   circular  the same at both ends (bins slopes); f(x + width) = f(x) + height
//   affine    that of the box, height / width (bins - 1 slopes); straight on with it
// Params: p(i) is raw parameter i; Params::remembers tells whether p.remember(i, value) keeps a value for p.recall(i),
// i < 2 bins, so that exponentials need not be computed again. In forward and inverse p(i) is not read once remembered,
// in the backward p.recall(i) is not called once g has taken gradient i: a back end may let them share memory.
template <class T>
struct SplineKnots {
  using S = Scalar<T>;

  int bins;
  KnotMap map;
  Tails tails;
  S left, right, bottom, top, min_size, min_slope, gain, beta;
  S slope_offset = 0, width_offset = 0, height_offset = 0;  // added to raw values before the softplus
  int first_slope;                                          // index of the first raw slope

  explicit SplineKnots(const RationalQuadraticOptions& o)
      : bins(static_cast<int>(o.bins)),
        map(o.map),
        tails(o.tails),
        left(static_cast<S>(o.left)),
        right(static_cast<S>(o.right)),
        bottom(static_cast<S>(o.bottom)),
        top(static_cast<S>(o.top)),
        min_size(static_cast<S>(o.min_size)),
        min_slope(static_cast<S>(o.min_slope)),
        gain(static_cast<S>(o.gain)),
        beta(static_cast<S>(o.beta)),
        first_slope(2 * bins) {
    if (map == KnotMap::free || map == KnotMap::square) slope_offset = S(0.5413248546129181);  // softplus of it is 1
    if (map == KnotMap::square) first_slope += 1;
    if (map == KnotMap::free) {
      first_slope += 2;
      width_offset = static_cast<S>(std::log(std::expm1((o.right - o.left) / bins - o.min_size)));
      height_offset = static_cast<S>(std::log(std::expm1((o.top - o.bottom) / bins - o.min_size)));
    }
  }

  // Bins along x or y: bin i has the size floor + scale * weight(i).
  struct Axis {
    T start, end, extent, highest, floor, scale, sum;
    int first;  // index of its first raw parameter
    S offset;
  };
  struct Box {
    Axis x, y;
  };
  // The bin of one element: its corner, its size, the slopes at its ends and what they were made from.
  struct Bin {
    T index, x0, y0, w, h, d0, d1, raw0, raw1;
  };
  // A place along an axis: clamped into the box, and how far outside it is.
  using Mask = decltype(T() < T());
  struct Place {
    T inside, excess, turns;
    Mask outside, above;
  };
  // Gradients of the corner, the size and the slopes of a bin.
  struct Gradient {
    T x0, w, y0, h, d0, d1;
  };

  template <class Params>
  FLOWKIT_HD Box measure(const Params& p) const {
    Box box{{T(left), T(right), T(right - left), T(0), T(0), T(1), T(1), 0, width_offset},
            {T(bottom), T(top), T(top - bottom), T(0), T(0), T(1), T(1), bins, height_offset}};
    if (map == KnotMap::free) {
      box.x.start += position(p(2 * bins + 1));
      box.y.start += position(p(2 * bins));
      add_up(p, box.x);
      add_up(p, box.y);
      return box;
    }
    if (map == KnotMap::square) {
      T half = softplus(raw_slope(p(2 * bins)) + T(slope_offset));
      half = T(S(0.5) * (right - left)) * select(half < T(S(1e-6)), T(S(1e-6)), half);
      const T middle = T(S(0.5) * (right + left));
      box.x.start = box.y.start = middle - half;
      box.x.end = box.y.end = middle + half;
      box.x.extent = box.y.extent = half + half;
    }
    normalise(p, box.x);
    normalise(p, box.y);
    return box;
  }

  FLOWKIT_HD Place place(T x, const Axis& axis) const {
    Place at{x, T(0), T(0), x<axis.start, x> axis.end};
    if (tails == Tails::circular) {
      const T period = axis.extent, far = abs((x - axis.start) / period);
      const auto near = far < T(1048576);
      at.turns = floor(select(near, (x - axis.start) / period, T(0)));
      at.inside = x - at.turns * period;
      at.outside = (at.outside | at.above) & !near;
      at.above = at.outside & at.above;
    } else {
      at.outside = at.outside | at.above;
    }
    const T inside = clamp(at.inside, axis.start, axis.end);
    at.excess = select(at.outside, x - inside, T(0));
    at.inside = inside;
    return at;
  }

  // The result from that inside the box; `shift` is what identity tails add.
  FLOWKIT_HD T leave(const Place& at, T from, T to, T excess, const Axis& axis, S shift) const {
    if (tails == Tails::circular) to += at.turns * axis.extent;
    if (tails == Tails::identity || tails == Tails::circular) return select(at.outside, from + T(shift), to);
    return to + excess;
  }

  template <class Params>
  FLOWKIT_HD T edge_slope(const Place& at, const Params& p, const Box& box) const {
    if (tails == Tails::interval) return slope_of(select(at.above, knot(p, bins), knot(p, 0)));
    if (tails == Tails::affine) return box.y.extent / box.x.extent;
    return T(1);
  }

  // The bin whose widths, or heights, hold v.
  template <bool by_y, class Params>
  FLOWKIT_HD Bin find(T v, const Params& p, const Box& box) const {
    T x0 = bins == 1 ? box.x.end : box.x.start + size(p, box.x, 0);
    T y0 = bins == 1 ? box.y.end : box.y.start + size(p, box.y, 0);
    T x1 = x0, y1 = y0, raw0 = knot(p, 1);
    Bin b{T(0), box.x.start, box.y.start, T(0), T(0), T(0), T(0), knot(p, 0), raw0};
    for (int i = 1; i < bins; ++i) {
      const bool last = i + 1 == bins;
      const T next_x = last ? box.x.end : x0 + size(p, box.x, i);
      const T next_y = last ? box.y.end : y0 + size(p, box.y, i);
      const T raw1 = knot(p, i + 1);
      const auto here = (by_y ? y0 : x0) <= v;
      b.index = select(here, T(S(i)), b.index);
      b.x0 = select(here, x0, b.x0);
      b.y0 = select(here, y0, b.y0);
      x1 = select(here, next_x, x1);
      y1 = select(here, next_y, y1);
      b.raw0 = select(here, raw0, b.raw0);
      b.raw1 = select(here, raw1, b.raw1);
      x0 = next_x;
      y0 = next_y;
      raw0 = raw1;
    }
    b.w = at_least(x1 - b.x0);
    b.h = at_least(y1 - b.y0);
    b.d0 = slope_of(b.raw0);
    b.d1 = slope_of(b.raw1);
    if (tails == Tails::identity || tails == Tails::affine) {
      const T edge = edge_slope(Place(), p, box);
      b.d0 = select(b.index == T(0), edge, b.d0);
      b.d1 = select(b.index == T(S(bins - 1)), edge, b.d1);
    }
    return b;
  }

  // Spreads the gradients of a bin over the raw parameters. u, v: those of y and of log dy/dx at a fixed x.
  template <class Params, class Grads>
  FLOWKIT_HD void backward_knots(Gradient d, const Place& at, T u, T v, T edge, const Bin& b, const Params& p,
                                 const Box& box, const Grads& g) const {
    const T zero = T(0);
    const auto first = b.index == zero, last = b.index == T(S(bins - 1));
    const T of_edge = u * clamp(at.excess, T(S(-1e30)), T(S(1e30))) + v / edge;  // outside
    T x_all = zero, y_all = zero;
    if (map == KnotMap::free) {  // a box that moves and grows, also seen from outside
      d.w = select(at.outside, select(at.above, d.x0, zero), d.w);
      d.h = select(at.outside, select(at.above, d.y0, zero), d.h);
    } else {
      d.x0 = select(at.outside, zero, d.x0);
      d.w = select(at.outside, zero, d.w);
      d.y0 = select(at.outside, zero, d.y0);
      d.h = select(at.outside, zero, d.h);
    }
    d.d0 = select(at.outside, zero, d.d0);
    d.d1 = select(at.outside, zero, d.d1);
    if (tails == Tails::affine) {
      const T of_box = select(at.outside, of_edge, select(first, d.d0, zero) + select(last, d.d1, zero));
      y_all = of_box / box.x.extent;
      x_all = -y_all * edge;
    }
    const T slope0 = d.d0 * slope_derivative(b.raw0, b.d0), slope1 = d.d1 * slope_derivative(b.raw1, b.d1);
    const T edge_raw =
        tails == Tails::interval ? of_edge * slope_derivative(select(at.above, knot(p, bins), knot(p, 0)), edge) : zero;
    const int slopes = tails == Tails::interval ? bins + 1 : tails == Tails::circular ? bins : bins - 1;
    const int offset = tails == Tails::interval || tails == Tails::circular ? 0 : 1;  // knot of the first raw slope
    for (int i = 0; i < slopes; ++i) {
      const int j = i + offset;
      T value = select(b.index == T(S(j)), slope0, zero) + select(b.index == T(S(j - 1)), slope1, zero);
      if (tails == Tails::circular && j == 0) value += select(last, slope1, zero);
      if (tails == Tails::interval && j == 0) value += select(at.outside & !at.above, edge_raw, zero);
      if (tails == Tails::interval && j == bins) value += select(at.above, edge_raw, zero);
      g(first_slope + i, value);
    }
    backward_axis(d.x0, d.w, x_all, b.index, p, box.x, g);
    backward_axis(d.y0, d.h, y_all, b.index, p, box.y, g);
    if (map == KnotMap::free) {
      g(2 * bins, d.y0);
      g(2 * bins + 1, d.x0);
    }
    if (map == KnotMap::square) {
      const T of_extent =
          (d.x0 * (b.x0 - box.x.start) + d.w * b.w + d.y0 * (b.y0 - box.y.start) + d.h * b.h) / box.x.extent -
          T(S(0.5)) * (d.x0 + d.y0);
      g(2 * bins, of_extent * T(right - left) * sigmoid(raw_slope(p(2 * bins)) + T(slope_offset)));
    }
  }

 private:
  // Raw values that leave float's range are taken as its end; NaN stays NaN.
  FLOWKIT_HD static T position(T raw) { return clamp(raw, T(S(-1e30)), T(S(1e30))); }
  FLOWKIT_HD static T raw_slope(T raw) { return clamp(raw, T(S(-1e4)), T(S(1e4))); }
  // A bin that rounding leaves without a size.
  FLOWKIT_HD static T at_least(T size) { return select(size < T(S(1e-12)), T(S(1e-12)), size); }

  FLOWKIT_HD T log_weight(T raw) const {
    raw = position(raw);
    if (map != KnotMap::softclip) return raw * T(gain);
    return T(gain) * raw / (T(1) + abs(T(gain) * raw) * T(S(0.28952965460216787)));  // -2 / log(1e-3)
  }

  FLOWKIT_HD T log_weight_derivative(T raw) const {
    if (map != KnotMap::softclip) return T(gain);
    const T d = T(1) + abs(T(gain) * position(raw)) * T(S(0.28952965460216787));
    return T(gain) / (d * d);
  }

  // Every size is a share of the axis.
  template <class Params>
  FLOWKIT_HD void normalise(const Params& p, Axis& axis) const {
    T highest = log_weight(p(axis.first));
    for (int i = 1; i < bins; ++i) {
      const T value = log_weight(p(axis.first + i));
      highest = select(value > highest, value, highest);
    }
    T sum = T(0);
    axis.highest = highest;
    for (int i = 0; i < bins; ++i) {
      const T weight = exp(log_weight(p(axis.first + i)) - highest);
      if constexpr (Params::remembers) p.remember(axis.first + i, weight);
      sum += weight;
    }
    axis.sum = sum;
    axis.floor = T(min_size) * axis.extent;
    axis.scale = T(S(1) - S(bins) * min_size) * axis.extent / sum;
  }

  // Sizes stand for themselves.
  template <class Params>
  FLOWKIT_HD void add_up(const Params& p, Axis& axis) const {
    axis.end = axis.start;
    axis.extent = T(0);
    axis.floor = T(min_size);
    for (int i = 0; i < bins; ++i) {
      const T weight = softplus(raw_slope(p(axis.first + i)) + T(axis.offset));
      if constexpr (Params::remembers) p.remember(axis.first + i, weight);
      axis.end += axis.floor + axis.scale * weight;
      axis.extent += axis.floor + axis.scale * weight;
    }
  }

  template <class Params>
  FLOWKIT_HD T weight(const Params& p, const Axis& axis, int i) const {
    if constexpr (Params::remembers) return p.recall(axis.first + i);
    const T raw = p(axis.first + i);
    return map == KnotMap::free ? softplus(raw_slope(raw) + T(axis.offset)) : exp(log_weight(raw) - axis.highest);
  }

  template <class Params>
  FLOWKIT_HD T size(const Params& p, const Axis& axis, int i) const {
    return axis.floor + axis.scale * weight(p, axis, i);
  }

  // The raw slope at knot j = 0 .. bins; of no meaning where the slope has no parameter.
  template <class Params>
  FLOWKIT_HD T knot(const Params& p, int j) const {
    if (tails == Tails::interval) return p(first_slope + j);
    if (tails == Tails::circular) return p(first_slope + (j == bins ? 0 : j));
    return j == 0 || j == bins ? T(0) : p(first_slope + j - 1);
  }

  FLOWKIT_HD T slope_of(T raw) const {
    if (map == KnotMap::softclip) {
      raw = position(raw);
      return exp(raw / (T(1) + abs(raw) * T(S(0.14476482730108395))));  // -1 / log(1e-3)
    }
    return T(min_slope) + softplus(T(beta) * raw_slope(raw) + T(slope_offset)) / T(beta);
  }

  FLOWKIT_HD T slope_derivative(T raw, T slope) const {
    if (map == KnotMap::softclip) {
      const T d = T(1) + abs(position(raw)) * T(S(0.14476482730108395));
      return slope / (d * d);
    }
    return sigmoid(T(beta) * raw_slope(raw) + T(slope_offset));
  }

  // Gradients of the sizes of the bins before bin `index`, of that bin, and, on top, of all of them.
  template <class Params, class Grads>
  FLOWKIT_HD void backward_axis(T before, T inside, T all, T index, const Params& p, const Axis& axis,
                                const Grads& g) const {
    const auto gradient = [&](int i) {
      return select(T(S(i)) < index, before, select(index == T(S(i)), inside, T(0)));
    };
    if (map == KnotMap::free) {
      for (int i = 0; i < bins; ++i)
        g(axis.first + i, (all + gradient(i)) * sigmoid(raw_slope(p(axis.first + i)) + T(axis.offset)));
      return;
    }
    T mean = T(0);
    for (int i = 0; i < bins; ++i) mean += weight(p, axis, i) * gradient(i);
    mean = mean / axis.sum;
    for (int i = 0; i < bins; ++i)
      g(axis.first + i,
        axis.scale * weight(p, axis, i) * (gradient(i) - mean) * log_weight_derivative(p(axis.first + i)));
  }
};

}  // namespace flowkit::math
