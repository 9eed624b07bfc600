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

// The matrix whose rows are `row` is transposed: blocks of step x step change places across the diagonal. Of `rows`
// less than the lanes, the squares that lie side by side in them are.
template <class S, int rows, int step = rows / 2>
FLOWKIT_HD void transpose(Vec<S>* row) {
  for (int i = 0; i < rows; ++i)
    if (!(i & step)) exchange<S, step>(row[i], row[i + step], std::make_index_sequence<Vec<S>::size>());
  if constexpr (step > 1) transpose<S, rows, step / 2>(row);
}

// Half a vector, and two of them to and from a vector.
template <class S>
struct Halves {
  static constexpr int n = Vec<S>::size;
  typedef S Half __attribute__((vector_size(vector_bytes / 2)));

  static FLOWKIT_HD Vec<S> load(const S* low, const S* high) {
    Half a, b;
    std::memcpy(&a, low, sizeof a);
    std::memcpy(&b, high, sizeof b);
    return join(a, b, std::make_index_sequence<n>());
  }
  static FLOWKIT_HD void store(Vec<S> v, S* low, S* high) {
    const Half a = part<0>(v, std::make_index_sequence<n / 2>()), b = part<n / 2>(v, std::make_index_sequence<n / 2>());
    std::memcpy(low, &a, sizeof a);
    std::memcpy(high, &b, sizeof b);
  }

 private:
  template <size_t... i>
  static FLOWKIT_HD Vec<S> join(Half a, Half b, std::index_sequence<i...>) {
    return __builtin_shufflevector(a, b, int(i)...);
  }
  template <int from, size_t... i>
  static FLOWKIT_HD Half part(Vec<S> v, std::index_sequence<i...>) {
    return __builtin_shufflevector(v.raw, v.raw, from + int(i)...);
  }
};

// Rows of one vector's parameters, `pitch` apart.
template <class C>
struct ParameterRows {
  C* data;
  int64_t pitch;
};

template <class T>
class ElementParams {
  using C = Compute<T>;
  static constexpr int n = lanes<C>, half = n / 2;
  static constexpr int64_t line = 64 / sizeof(T);

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
    const int64_t ahead = place[n - 1] - place[0] + v_.channel;  // most likely that is where the next vector's lie
    for (int lane = 0; lane < n; ++lane) fetch<0>(base + place[lane] + ahead);
    if (v_.parameter == 1 && count_ >= n) {
      for_squares(
          [&](int64_t i) {
            Vec<C> row[n];
            for (int lane = 0; lane < n; ++lane) row[lane] = widened(base + place[lane] + i);
            transpose<C, n>(row);
            for (int j = 0; j < n; ++j) row[j].store(&rows_[(i + j) * n]);
          },
          [&](int64_t i) {
            Vec<C> row[half];
            for (int j = 0; j < half; ++j) row[j] = widened(base + place[j] + i, base + place[j + half] + i);
            transpose<C, half>(row);
            for (int j = 0; j < half; ++j) row[j].store(&rows_[(i + j) * n]);
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
    for (int lane = 0; lane < used; ++lane) fetch<1>(base + offset[lane]);
    return {rows_.data(), n};
  }

  void store(T* base, const int64_t* offset, int used) const {
    if (in_place(used)) return;
    if (v_.parameter == 1 && count_ >= n && used == n) {
      for_squares(
          [&](int64_t i) {
            Vec<C> row[n];
            for (int j = 0; j < n; ++j) row[j] = Vec<C>::load(&rows_[(i + j) * n]);
            transpose<C, n>(row);
            for (int lane = 0; lane < n; ++lane) narrow(row[lane], base + offset[lane] + i);
          },
          [&](int64_t i) {
            Vec<C> row[half];
            for (int j = 0; j < half; ++j) row[j] = Vec<C>::load(&rows_[(i + j) * n]);
            transpose<C, half>(row);
            for (int j = 0; j < half; ++j) narrow(row[j], base + offset[j] + i, base + offset[j + half] + i);
          });
    } else {
      for (int64_t i = 0; i < count_; ++i)
        for (int lane = 0; lane < used; ++lane)
          base[offset[lane] + i * v_.parameter] = static_cast<T>(rows_[i * n + lane]);
    }
  }

 private:
  // Asks for the parameters of one element, to read or to write, before they are needed.
  template <int write>
  void fetch(const T* from) const {
    if (v_.parameter != 1) return;
    for (int64_t i = 0; i < count_; i += line) __builtin_prefetch(from + i, write);
  }

  bool in_place(int used) const { return std::is_same_v<T, C> && consecutive_ && used == n; }

  // full(i) for parameters [i, i + n) and narrow(i) for [i, i + half) that together cover all; the last may overlap the
  // one before.
  template <class Full, class Narrow>
  void for_squares(const Full& full, const Narrow& narrow) const {
    int64_t i = 0;
    for (; i + n <= count_; i += n) full(i);
    if (i == count_) return;
    if (half >= 4 && count_ - i <= half)
      narrow(count_ - half);
    else
      full(count_ - n);
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

  static Vec<C> widened(const T* low, const T* high) {
    if constexpr (std::is_same_v<T, C>) {
      return Halves<C>::load(low, high);
    } else {
      C staged[n];
      cpu::FLOWKIT_ISA::load(low, 1, half, staged);
      cpu::FLOWKIT_ISA::load(high, 1, half, staged + half);
      return Vec<C>::load(staged);
    }
  }

  static void narrow(Vec<C> values, T* low, T* high) {
    if constexpr (std::is_same_v<T, C>) {
      Halves<C>::store(values, low, high);
    } else {
      C staged[n];
      values.store(staged);
      cpu::FLOWKIT_ISA::store(staged, half, low, 1);
      cpu::FLOWKIT_ISA::store(staged + half, half, high, 1);
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
