// The arithmetic of couplings on dense rows, the only code that is compiled for every formula: the loops over memory
// see it through function pointers.
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
double forward_rows(const void* formula, RowsOf<const C> x, RowsOf<const C> u, RowsOf<const C> t, RowsOf<C> y,
                    int64_t rows, int64_t n, C* sums) {
  const Fn fn = *static_cast<const Fn*>(formula);
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
void backward_rows(const void* formula, const C* grad_logdet, const GradRows<C>& v, int64_t rows, int64_t n) {
  const Fn fn = *static_cast<const Fn*>(formula);
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

// A formula of math/coupling.h, which must outlive it.
template <class C>
class Arithmetic {
 public:
  template <class Fn>
  explicit Arithmetic(const Fn& formula)
      : formula_(&formula), forward_(&forward_rows<C, Fn>), backward_(&backward_rows<C, Fn>) {}

  double forward(RowsOf<const C> x, RowsOf<const C> u, RowsOf<const C> t, RowsOf<C> y, int64_t rows, int64_t n,
                 C* sums) const {
    return forward_(formula_, x, u, t, y, rows, n, sums);
  }
  void backward(const C* grad_logdet, const GradRows<C>& v, int64_t rows, int64_t n) const {
    backward_(formula_, grad_logdet, v, rows, n);
  }

 private:
  const void* formula_;
  double (*forward_)(const void*, RowsOf<const C>, RowsOf<const C>, RowsOf<const C>, RowsOf<C>, int64_t, int64_t, C*);
  void (*backward_)(const void*, const C*, const GradRows<C>&, int64_t, int64_t);
};

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
