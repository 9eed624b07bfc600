// The arithmetic of couplings on dense rows, the only code that is compiled for every formula.
#pragma once

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

template <class C>
C sum_of(const C* values, int64_t n) {
  C sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t e = 0; e < n; ++e) sum += values[e];
  return sum;
}

// Rows of dense elements, `pitch` apart.
template <class T>
struct RowsOf {
  T* data;
  int64_t pitch;

  T* row(int64_t r) const { return data + r * pitch; }
};

// The arithmetic; y may be x. Leaves in `sums` the log-derivatives, added up over rows for each place in a row (modulo
// block), and returns their sum.
template <class C, class Fn>
__attribute__((noinline, noclone)) double forward_rows(const Fn& element, RowsOf<const C> x, RowsOf<const C> u,
                                                       RowsOf<const C> t, RowsOf<C> y, int64_t rows, int64_t n,
                                                       C* sums) {
  const Fn fn = element;
  std::fill(sums, sums + std::min(block, n), C(0));
  for (int64_t r = 0; r < rows; ++r) {
    const C *xr = x.row(r), *ur = u.row(r), *tr = t.row(r);
    C* yr = y.row(r);
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = std::min(block, n - i);
#pragma omp simd
      for (int64_t e = 0; e < m; ++e) yr[i + e] = fn.forward(xr[i + e], ur[i + e], tr[i + e], sums[e]);
    }
  }
  return sum_of(sums, std::min(block, n));
}

template <class C>
struct GradRows {
  RowsOf<const C> grad, y, u, t;
  RowsOf<C> grad_x, grad_u, grad_t;
};

// grad_logdet: one for each place in a row.
template <class C, class Fn>
__attribute__((noinline, noclone)) void backward_rows(const Fn& element, const C* grad_logdet, const GradRows<C>& v,
                                                      int64_t rows, int64_t n) {
  const Fn fn = element;
  for (int64_t r = 0; r < rows; ++r) {
    const C *grad = v.grad.row(r), *y = v.y.row(r), *u = v.u.row(r), *t = v.t.row(r);
    C *grad_x = v.grad_x.row(r), *grad_u = v.grad_u.row(r), *grad_t = v.grad_t.row(r);
#pragma omp simd
    for (int64_t e = 0; e < n; ++e) {
      const auto g = fn.backward(grad[e], grad_logdet[e], y[e], u[e], t[e]);
      grad_x[e] = g.x;
      grad_u[e] = g.scale;
      grad_t[e] = g.shift;
    }
  }
}

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
