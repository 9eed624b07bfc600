// One element of a rational-quadratic spline (Durkan et al., arXiv 1906.04032): the spline between knots in both
// directions, and the gradients of both. spline_knots.h makes the knots from raw parameters.
#pragma once

#include "spline_knots.h"

namespace flowkit::math {

// A bin in units of itself: x from 0 to 1, y from 0 to 1, slopes d0 and d1 at its ends relative to height / width.
// Written as sums of positive terms, so that nothing cancels.
template <class T>
struct UnitBin {
  T theta, tau;  // place in the bin and 1 - theta
  T d0, d1;

  FLOWKIT_HD T product() const { return theta * tau; }
  FLOWKIT_HD T denominator() const { return theta * theta + tau * tau + (d0 + d1) * product(); }
  FLOWKIT_HD T numerator() const { return theta * (theta + d0 * tau); }
  FLOWKIT_HD T slope_numerator() const { return d1 * theta * theta + T(2) * product() + d0 * tau * tau; }

  // The place where the spline takes the value eta: the root of a quadratic whose discriminant is a sum of squares.
  FLOWKIT_HD static UnitBin at_value(T eta, T d0, T d1) {
    const T zeta = T(1) - eta, r = d0 * zeta - d1 * eta;
    const T t = abs(r) + sqrt(r * r + T(4) * eta * zeta);
    const auto rising = r > T(0);
    const T a = select(rising, T(2) * eta, t), b = select(rising, t, T(2) * zeta);
    const T sum = a + b;
    return {a / sum, b / sum, d0, d1};
  }
};

template <class T>
struct RationalQuadratic : SplineKnots<T> {
  using S = Scalar<T>;
  using Knots = SplineKnots<T>;
  using Box = typename Knots::Box;
  using Bin = typename Knots::Bin;
  using Knots::Knots;

  // Adds log|dy/dx|.
  template <class Params>
  FLOWKIT_HD T forward(T x, const Params& p, T& logdet) const {
    const Box box = this->measure(p);
    const auto at = this->place(x, box.x);
    const Bin b = this->template find<false>(at.inside, p, box);
    const UnitBin<T> unit = in_units(b, at.inside, T(1) / b.w, T(1) / b.h);
    const T y = b.y0 + b.h * unit.numerator() / unit.denominator(), edge = this->edge_slope(at, p, box);
    logdet += log(select(at.outside, edge, slope(b, unit)));
    return this->leave(at, x, y, edge * at.excess, box.y, S(this->bottom - this->left));
  }

  // Adds log|dx/dy|.
  template <class Params>
  FLOWKIT_HD T inverse(T y, const Params& p, T& logdet) const {
    const Box box = this->measure(p);
    const auto at = this->place(y, box.y);
    const Bin b = this->template find<true>(at.inside, p, box);
    const T relative = b.w / b.h;
    const auto unit =
        UnitBin<T>::at_value(clamp((at.inside - b.y0) / b.h, T(0), T(1)), b.d0 * relative, b.d1 * relative);
    const T edge = this->edge_slope(at, p, box);
    logdet -= log(select(at.outside, edge, slope(b, unit)));
    return this->leave(at, y, b.x0 + b.w * unit.theta, at.excess / edge, box.x, S(this->left - this->bottom));
  }

  // x: the domain side. grad: that of the output of the direction; returns that of its input. g(i, value) takes the
  // gradient of raw parameter i.
  template <class Params, class Grads>
  FLOWKIT_HD T backward(T grad, T grad_logdet, T x, const Params& p, const Grads& g, bool inverse) const {
    const Box box = this->measure(p);
    const auto at = this->place(x, box.x);
    const Bin b = this->template find<false>(at.inside, p, box);
    const T inverse_w = T(1) / b.w, inverse_h = T(1) / b.h;
    const UnitBin<T> unit = in_units(b, at.inside, inverse_w, inverse_h);
    const T edge = this->edge_slope(at, p, box);

    // y = y0 + h * value and log dy/dx = log(h / w) + log slope, as functions of theta, d0, d1.
    const T product = unit.product(), inverse_den = T(1) / unit.denominator(), den2 = inverse_den * inverse_den;
    const T numerator = unit.numerator(), m = unit.slope_numerator(), value = numerator * inverse_den;
    const T value_theta = m * den2;
    const T value_d0 = product * (unit.tau * unit.tau + unit.d1 * product) * den2;
    const T value_d1 = -product * numerator * den2;
    const T inverse_m = T(1) / m;
    const T log_theta = T(2) * ((unit.d1 * unit.theta + (unit.tau - unit.theta) - unit.d0 * unit.tau) * inverse_m -
                                (unit.d0 + unit.d1 - T(2)) * (unit.tau - unit.theta) * inverse_den);
    const T log_d0 = unit.tau * unit.tau * inverse_m - T(2) * product * inverse_den;
    const T log_d1 = unit.theta * unit.theta * inverse_m - T(2) * product * inverse_den;

    // The inverse's gradients by the implicit function theorem: of f(x; p) = y with y fixed.
    const T y_x = select(at.outside, edge, b.h * inverse_w * value_theta);
    const T log_x = select(at.outside, T(0), log_theta * inverse_w);
    const T v = inverse ? -grad_logdet : grad_logdet;
    const T u = inverse ? -(grad + v * log_x) / y_x : grad;

    typename Knots::Gradient d;
    const T value_d = unit.d0 * value_d0 + unit.d1 * value_d1, log_d = unit.d0 * log_d0 + unit.d1 * log_d1;
    d.x0 = -(u * y_x + v * log_x);
    d.w = (u * b.h * (value_d - unit.theta * value_theta) + v * (log_d - unit.theta * log_theta - T(1))) * inverse_w;
    d.y0 = u;
    d.h = u * (value - value_d) + v * (T(1) - log_d) * inverse_h;
    d.d0 = b.w * (u * value_d0 + v * inverse_h * log_d0);
    d.d1 = b.w * (u * value_d1 + v * inverse_h * log_d1);
    this->backward_knots(d, at, u, v, edge, b, p, box, g);
    return inverse ? -u : u * y_x + v * log_x;
  }

 private:
  FLOWKIT_HD static UnitBin<T> in_units(const Bin& b, T x, T inverse_w, T inverse_h) {
    const T theta = clamp((x - b.x0) * inverse_w, T(0), T(1)), relative = b.w * inverse_h;
    return {theta, T(1) - theta, b.d0 * relative, b.d1 * relative};
  }

  FLOWKIT_HD static T slope(const Bin& b, const UnitBin<T>& unit) {
    const T den = unit.denominator();
    return b.h * unit.slope_numerator() / (b.w * den * den);
  }
};

}  // namespace flowkit::math
