// One element of Flow++'s coupling (Ho et al., arXiv 1902.00275, eq. 5): y = logit(F(x)) exp(A) + b, where F is the
// distribution function of a mixture of logistics.
#pragma once

#include "../launch_mixture.h"
#include "elementary.h"

namespace flowkit::math {

FLOWKIT_HD bool any(bool mask) { return mask; }

// Raw parameters of one element: a, b, then for each of K components its logit, mean and log-scale: all logits first.
// A = a, or bound * tanh(a) if bound > 0. Log-scales below min_log_scale are taken as that.
//
// F and 1 - F are both sums of positive terms: 1 - F is never formed by subtraction. Far outside, where all components
// agree that one of them vanishes, it is carried as a factor exp(-far) apart, which cancels in all but logit(F).
template <class T>
struct MixtureLogistic {
  using S = Scalar<T>;
  static constexpr int steps = sizeof(S) == 4 ? 64 : 96;  // of the inverse at most; few elements need more than 8

  int components;
  S bound, min_log_scale;

  explicit MixtureLogistic(const MixtureLogisticOptions& o)
      : components(static_cast<int>(o.components)),
        bound(static_cast<S>(o.bound)),
        min_log_scale(static_cast<S>(o.min_log_scale)) {}

  // Adds log|dy/dx|.
  template <class Params>
  FLOWKIT_HD T forward(T x, const Params& p, T& logdet) const {
    const Weights w = weights(p);
    const Sums s = sums(limit(x), p, w);
    const T a = log_factor(p(0));
    logdet += log(s.slope()) + a;
    return s.logit() * exp(a) + p(1);
  }

  // Adds log|dx/dy|. The quantile lies between those of the components; Newton's steps that leave the bracket, or
  // shrink it too slowly, are replaced by bisection.
  template <class Params>
  FLOWKIT_HD T inverse(T y, const Params& p, T& logdet) const {
    const Weights w = weights(p);
    const T a = log_factor(p(0)), target = limit((y - p(1)) * exp(-a));
    T low = T(0), high = T(0), x = T(0);
    for (int i = 0; i < components; ++i) {
      const T quantile = limit(mean(p, i) + target / rate(p, i));
      low = i == 0 ? quantile : select(quantile < low, quantile, low);
      high = i == 0 ? quantile : select(quantile > high, quantile, high);
      x += share(p, i, w) * quantile;
    }
    x = clamp(x, low, high);
    T width = high - low;
    auto active = T(0) < T(1);  // an element that has converged rests, or rounding would drive it out of its bracket
    for (int step = 0; step < steps; ++step) {
      const Sums s = sums(x, p, w);
      const T error = s.logit() - target;
      low = select(error < T(0), x, low);
      high = select(error > T(0), x, high);
      const T newton = x - error / s.slope();
      // Every second step the bracket must have halved, or the next one bisects it.
      const auto slow = step % 2 == 1 ? high - low > T(S(0.5)) * width : T(1) < T(0);
      if (step % 2 == 1) width = high - low;
      const T next = select((newton < low) | (newton > high) | slow, low + T(S(0.5)) * (high - low), newton);
      active = active & (abs(error) > T(S(4) * epsilon()) * (T(1) + abs(target))) &
               (abs(newton - x) > T(epsilon()) * abs(x));
      x = select(active, next, x);
      if (!any(active)) break;
    }
    logdet -= log(sums(x, p, w).slope()) + a;
    return x;
  }

  // x: the domain side. grad: that of the output of the direction; returns that of its input. g(i, value) takes the
  // gradient of raw parameter i.
  template <class Params, class Grads>
  FLOWKIT_HD T backward(T grad, T grad_logdet, T x, const Params& p, const Grads& g, bool inverse) const {
    x = limit(x);
    const Weights w = weights(p);
    const Sums s = sums(x, p, w);
    const T a = log_factor(p(0)), factor = exp(a), slope = s.slope();
    const T difference = s.above_true() - s.below_true();  // 1 - 2 F
    T log_density_x = T(0);
    for (int i = 0; i < components; ++i) {
      const Term t = term(x, p, i, s.far, s.fading);
      const T r = rate(p, i);
      log_density_x += share(p, i, w) * t.below * t.above * r * r * (t.above_true - t.below_true);
    }
    log_density_x = log_density_x / s.density;
    const T log_x = log_density_x - slope * difference;
    const T v = inverse ? -grad_logdet : grad_logdet;
    const T u = inverse ? -(grad + v * log_x) / (factor * slope) : grad;
    const T of_logit = u * factor - v * difference;  // through logit(F), of which log-det is a function too
    const T inverse_both = T(1) / (s.below * s.above), inverse_density = T(1) / s.density;
    for (int i = 0; i < components; ++i) {
      const Term t = term(x, p, i, s.far, s.fading);
      const T pi = share(p, i, w), r = rate(p, i), both = pi * t.below * t.above;
      const T through_logit = of_logit * both * inverse_both, portion = both * r * inverse_density;
      const T turn = v * portion * (t.above_true - t.below_true);
      g(2 + i, log_share_free(p, i, w) *
                   (of_logit * pi * (t.below * s.above - t.above * s.below) * inverse_both + v * (portion - pi)));
      g(2 + components + i, -(through_logit + turn) * r);
      g(2 + 2 * components + i, log_scale_free(p, i) * -((through_logit + turn) * t.z + v * portion));
    }
    const T a_raw = p(0), t = tanh(a_raw);
    g(0, (u * s.logit() * factor + v) * (bound > S(0) ? T(bound) * (T(1) - t * t) : T(1)));
    g(1, u);
    return inverse ? -u : of_logit * slope + v * log_density_x;
  }

 private:
  struct Weights {
    T highest, sum;
  };
  // One component: sigmoid(z) and sigmoid(-z), as they are and without the factor exp(-far).
  struct Term {
    T z, below, above, below_true, above_true;
  };
  // F, 1 - F and the density, without that factor; it belongs to 1 - F if right, otherwise to F.
  struct Sums {
    T below, above, density, far, fading, side;  // fading = exp(-far); side: 1 right of all means, -1 left of all, 0

    FLOWKIT_HD T logit() const { return log(positive(below / above)) + side * far; }
    FLOWKIT_HD T slope() const { return positive(density / (below * above)); }
    FLOWKIT_HD T below_true() const { return select(side < T(0), below * fading, below); }
    FLOWKIT_HD T above_true() const { return select(side > T(0), above * fading, above); }
  };

  static constexpr S epsilon() { return sizeof(S) == 4 ? S(1.2e-7) : S(2.3e-16); }
  FLOWKIT_HD static T limit(T x) { return clamp(x, T(S(-1e18)), T(S(1e18))); }
  FLOWKIT_HD static T positive(T x) { return select(x < T(S(1e-37)), T(S(1e-37)), x); }

  FLOWKIT_HD T log_factor(T raw) const { return bound > S(0) ? T(bound) * tanh(raw) : clamp(raw, T(S(-80)), T(S(80))); }

  template <class Params>
  FLOWKIT_HD Weights weights(const Params& p) const {
    T highest = limit(p(2));
    for (int i = 1; i < components; ++i) {
      const T value = limit(p(2 + i));
      highest = select(value > highest, value, highest);
    }
    Weights w{highest, T(0)};
    for (int i = 0; i < components; ++i) {
      const T weight = exp(relative(p, i, w));
      w.sum += weight;
      if constexpr (Params::remembers) {
        p.remember(2 + i, weight);
        p.remember(2 + 2 * components + i, exp(-log_scale(p, i)));
      }
    }
    return w;
  }

  // Log-weights to the highest one; none so small that all that is near a point could vanish.
  template <class Params>
  FLOWKIT_HD T relative(const Params& p, int i, const Weights& w) const {
    const T value = limit(p(2 + i)) - w.highest;
    return select(value < T(S(-50)), T(S(-50)), value);
  }
  template <class Params>
  FLOWKIT_HD T log_share_free(const Params& p, int i, const Weights& w) const {
    return select(limit(p(2 + i)) - w.highest < T(S(-50)), T(0), T(1));
  }

  template <class Params>
  FLOWKIT_HD T share(const Params& p, int i, const Weights& w) const {
    if constexpr (Params::remembers) return p.recall(2 + i) / w.sum;
    return exp(relative(p, i, w)) / w.sum;
  }

  template <class Params>
  FLOWKIT_HD T mean(const Params& p, int i) const {
    return limit(p(2 + components + i));
  }

  template <class Params>
  FLOWKIT_HD T log_scale(const Params& p, int i) const {
    return clamp(p(2 + 2 * components + i), T(min_log_scale), T(S(20)));
  }
  template <class Params>
  FLOWKIT_HD T log_scale_free(const Params& p, int i) const {
    const T raw = p(2 + 2 * components + i);
    return select((raw < T(min_log_scale)) | (raw > T(S(20))), T(0), T(1));
  }

  // 1 / scale.
  template <class Params>
  FLOWKIT_HD T rate(const Params& p, int i) const {
    if constexpr (Params::remembers) return p.recall(2 + 2 * components + i);
    return exp(-log_scale(p, i));
  }

  template <class Params>
  FLOWKIT_HD Term term(T x, const Params& p, int i, T far, T fading) const {
    const T z = (x - mean(p, i)) * rate(p, i);
    const T e = exp(far - abs(z)), big = T(1) / (T(1) + e * fading), small = e * big, small_true = small * fading;
    const auto right = z > T(0);
    return {z, select(right, big, small), select(right, small, big), select(right, big, small_true),
            select(right, small_true, big)};
  }

  template <class Params>
  FLOWKIT_HD Sums sums(T x, const Params& p, const Weights& w) const {
    T lowest = T(0), highest = T(0);
    for (int i = 0; i < components; ++i) {
      const T z = (x - mean(p, i)) * rate(p, i);
      lowest = i == 0 ? z : select(z < lowest, z, lowest);
      highest = i == 0 ? z : select(z > highest, z, highest);
    }
    Sums s{T(0), T(0), T(0), T(0), T(0), T(0)};
    s.side = select(lowest > T(0), T(1), select(highest < T(0), T(-1), T(0)));
    s.far = select(lowest > T(0), lowest, select(highest < T(0), -highest, T(0)));
    s.fading = exp(-s.far);
    for (int i = 0; i < components; ++i) {
      const Term t = term(x, p, i, s.far, s.fading);
      const T pi = share(p, i, w);
      s.below += pi * t.below;
      s.above += pi * t.above;
      s.density += pi * t.below * t.above * rate(p, i);
    }
    return s;
  }
};

}  // namespace flowkit::math
