// Parameters of the elements in a vector: from wherever they lie to rows [parameter][lane], and gradients back.
#pragma once

#include <utility>

#include "simd.h"
#include "vector.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

template <class S, int step, size_t... i>
FLOWKIT_HD void exchange(Vec<S>& a, Vec<S>& b, std::index_sequence<i...>) {
  constexpr int n = Vec<S>::size;
  const auto low = __builtin_shufflevector(a.raw, b.raw, ((i & step) ? n + int(i) - step : int(i))...);
  const auto high = __builtin_shufflevector(a.raw, b.raw, ((i & step) ? n + int(i) : int(i) + step)...);
  a.raw = low;
  b.raw = high;
}

// The matrix whose rows are `row` is transposed: blocks of step x step change places across the diagonal.
template <class S, int step = Vec<S>::size / 2>
FLOWKIT_HD void transpose(Vec<S>* row) {
  for (int i = 0; i < Vec<S>::size; ++i)
    if (!(i & step)) exchange<S, step>(row[i], row[i + step], std::make_index_sequence<Vec<S>::size>());
  if constexpr (step > 1) transpose<S, step / 2>(row);
}

// Rows of one vector's parameters, `pitch` apart.
template <class C>
struct ParameterRows {
  C* data;
  int64_t pitch;
};

template <class T>
class ElementParams {
  using C = Compute<T>;
  static constexpr int n = lanes<C>;

 public:
  // consecutive: elements of a vector follow each other in memory.
  ElementParams(const ParameterView& v, int64_t count, bool consecutive)
      : v_(v), count_(count), consecutive_(consecutive), rows_(count * n) {}

  // Parameters of the element at (batch, channel, pixel).
  T* at(int64_t batch, int64_t channel, int64_t pixel) const {
    return static_cast<T*>(v_.data) + batch * v_.batch + channel * v_.channel + pixel * v_.pixel;
  }
  const ParameterView& view() const { return v_; }

  // Those of the elements at base + offset[lane], `used` lanes of them; the others repeat the first.
  ParameterRows<const C> load(const T* base, const int64_t* offset, int used) {
    if (in_place(used)) return {reinterpret_cast<const C*>(base + offset[0]), v_.parameter};
    int64_t place[n];
    for (int lane = 0; lane < n; ++lane) place[lane] = offset[lane < used ? lane : 0];
    if (v_.parameter == 1 && count_ >= n) {
      for_squares([&](int64_t i) {
        Vec<C> row[n];
        for (int lane = 0; lane < n; ++lane) row[lane] = widened(base + place[lane] + i);
        transpose(row);
        for (int j = 0; j < n; ++j) row[j].store(&rows_[(i + j) * n]);
      });
    } else {
      for (int64_t i = 0; i < count_; ++i)
        for (int lane = 0; lane < n; ++lane) rows_[i * n + lane] = static_cast<C>(base[place[lane] + i * v_.parameter]);
    }
    return {rows_.data(), n};
  }

  // Where gradients of those elements are to be written, before store.
  ParameterRows<C> target(T* base, const int64_t* offset, int used) {
    if (in_place(used)) return {reinterpret_cast<C*>(base + offset[0]), v_.parameter};
    return {rows_.data(), n};
  }

  void store(T* base, const int64_t* offset, int used) const {
    if (in_place(used)) return;
    if (v_.parameter == 1 && count_ >= n) {
      for_squares([&](int64_t i) {
        Vec<C> row[n];
        for (int j = 0; j < n; ++j) row[j] = Vec<C>::load(&rows_[(i + j) * n]);
        transpose(row);
        for (int lane = 0; lane < used; ++lane) narrow(row[lane], base + offset[lane] + i);
      });
    } else {
      for (int64_t i = 0; i < count_; ++i)
        for (int lane = 0; lane < used; ++lane)
          base[offset[lane] + i * v_.parameter] = static_cast<T>(rows_[i * n + lane]);
    }
  }

 private:
  bool in_place(int used) const { return std::is_same_v<T, C> && consecutive_ && used == n; }

  // body(i) for parameters [i, i + n) that together cover all; the last may overlap the one before.
  template <class Body>
  void for_squares(const Body& body) const {
    for (int64_t i = 0; i < count_; i += n) body(std::min(i, count_ - n));
  }

  static Vec<C> widened(const T* from) {
    if constexpr (std::is_same_v<T, C>) {
      return Vec<C>::load(from);
    } else {
      C staged[n];
      cpu::FLOWKIT_ISA::load(from, 1, n, staged);
      return Vec<C>::load(staged);
    }
  }

  static void narrow(Vec<C> values, T* to) {
    if constexpr (std::is_same_v<T, C>) {
      values.store(to);
    } else {
      C staged[n];
      values.store(staged);
      cpu::FLOWKIT_ISA::store(staged, n, to, 1);
    }
  }

  ParameterView v_;
  int64_t count_;
  bool consecutive_;
  std::vector<C> rows_;
};

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
