// Storage types, staging of blocks into L1, and the parallel loop: what every CPU kernel stands on.
// Compiled once per instruction set: FLOWKIT_ISA names the namespace.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

#include "../launch.h"
#include "../math/elementary.h"

namespace flowkit::cpu::FLOWKIT_ISA {

using BFloat16 = torch::headeronly::BFloat16;
using Half = torch::headeronly::Half;

// The type that T is computed and summed in.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Elements handled at a time: six staged blocks of doubles fit into L1.
constexpr int64_t block = 512;
// Elements of one work unit: log-dets are summed per unit, so this, not the number of threads, decides their rounding.
constexpr int64_t unit_elements = 16384;

template <class T>
void load(const T* from, int64_t stride, int64_t n, Compute<T>* to) {
#if defined(__AVX512F__) || defined(__F16C__)
  if constexpr (std::is_same_v<T, Half>) {
    if (stride == 1) {
      const auto* p = reinterpret_cast<const uint16_t*>(from);
      int64_t i = 0;
      for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i))));
      for (; i < n; ++i) to[i] = static_cast<float>(from[i]);
      return;
    }
  }
#endif
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (stride == 1) {
      for (int64_t i = 0; i < n; ++i) to[i] = math::bits<float>(static_cast<uint32_t>(from[i].x) << 16);
      return;
    }
  }
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<Compute<T>>(from[i * stride]);
}

template <class T>
void store(const Compute<T>* from, int64_t n, T* to, int64_t stride) {
#if defined(__AVX512F__) || defined(__F16C__)
  if constexpr (std::is_same_v<T, Half>) {
    if (stride == 1) {
      auto* p = reinterpret_cast<uint16_t*>(to);
      int64_t i = 0;
      for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
      for (; i < n; ++i) to[i] = static_cast<Half>(from[i]);
      return;
    }
  }
#endif
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (stride == 1) {  // round to nearest even; NaN stays NaN
      for (int64_t i = 0; i < n; ++i) {
        const auto bits = math::bits<uint32_t>(from[i]);
        const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        to[i].x = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
      }
      return;
    }
  }
  for (int64_t i = 0; i < n; ++i) to[i * stride] = static_cast<T>(from[i]);
}

// A run of n <= block elements as compute type: where it lies if it is dense and needs no conversion, staged otherwise.
template <class T>
class Input {
 public:
  const Compute<T>* get(const T* from, int64_t stride, int64_t n) {
    if constexpr (std::is_same_v<T, Compute<T>>) {
      if (stride == 1) return from;
    }
    load(from, stride, n, staged_);
    return staged_;
  }

 private:
  alignas(64) Compute<T> staged_[block];
};

// Where a run of results is computed, and how it gets to memory.
template <class T>
class Output {
 public:
  Compute<T>* get(T* to, int64_t stride) {
    if constexpr (std::is_same_v<T, Compute<T>>) {
      if (stride == 1) return to;
    }
    return staged_;
  }

  void put(T* to, int64_t stride, int64_t n) {
    if constexpr (std::is_same_v<T, Compute<T>>) {
      if (stride == 1) return;
    }
    store(staged_, n, to, stride);
  }

 private:
  alignas(64) Compute<T> staged_[block];
};

template <class T>
void copy(const T* from, int64_t from_stride, int64_t n, T* to, int64_t to_stride) {
  if (from == to && from_stride == to_stride) return;
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, n * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
}

template <class T>
T* at(const View& v, int64_t batch, int64_t channel = 0, int64_t pixel = 0) {
  return static_cast<T*>(v.data) + batch * v.batch + channel * v.channel + pixel * v.pixel;
}

template <class T>
const T* get(const Array& a) {
  return static_cast<const T*>(a.data);
}

// How samples are cut into work units: `rows` channels (or pixels, if channels are the inner loop) each.
struct Units {
  int64_t outer, inner, rows, per_sample;

  explicit Units(const Shape& s)
      : outer(s.channels_last ? s.pixels : s.channels), inner(s.channels_last ? s.channels : s.pixels) {
    rows = std::clamp<int64_t>(unit_elements / std::max<int64_t>(inner, 1), 1, std::max<int64_t>(outer, 1));
    per_sample = (outer + rows - 1) / rows;
  }
};

// body(sample, unit, first row, last row) over all units.
template <class Body>
void for_units(const Shape& shape, const Body& body) {
  const Units u(shape);
  const int64_t grain = std::max<int64_t>(1, 2 * unit_elements / std::max<int64_t>(u.rows * u.inner, 1));
  torch::stable::parallel_for(0, shape.batch * u.per_sample, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sample = i / u.per_sample, unit = i % u.per_sample;
      body(sample, unit, unit * u.rows, std::min(u.outer, (unit + 1) * u.rows));
    }
  });
}

// Where work units leave their part of the log-det: in the result itself if a sample is one unit.
template <class C>
class PartialSums {
 public:
  PartialSums(const LogDet& logdet, const Shape& shape)
      : sum_(static_cast<C*>(logdet.sum.data)),
        partial_(static_cast<C*>(logdet.partial.data)),
        accumulate_(logdet.accumulate),
        batch_(shape.batch),
        per_sample_(Units(shape).per_sample) {}

  void put(int64_t sample, int64_t unit, double value) const {
    if (partial_)
      partial_[sample * per_sample_ + unit] = static_cast<C>(value);
    else
      sum_[sample] = static_cast<C>(accumulate_ ? sum_[sample] + value : value);
  }

  // Sums the parts of each sample in a fixed order.
  void finish() const {
    if (!partial_) return;
    for (int64_t b = 0; b < batch_; ++b) {
      double total = 0;
      for (int64_t k = 0; k < per_sample_; ++k) total += partial_[b * per_sample_ + k];
      sum_[b] = static_cast<C>(accumulate_ ? sum_[b] + total : total);
    }
  }

 private:
  C *sum_, *partial_;
  bool accumulate_;
  int64_t batch_, per_sample_;
};

// n elements of scratch that live until this thread's next call with the same `slot`.
template <class T, int slot = 0>
T* scratch(int64_t n) {
  thread_local std::vector<T> memory;
  if (static_cast<int64_t>(memory.size()) < n) memory.resize(n);
  return memory.data();
}

// Calls f with a value of the storage type.
template <class F>
void dispatch(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32: return f(float());
    case DType::float64: return f(double());
    case DType::bfloat16: return f(BFloat16());
    case DType::float16: return f(Half());
  }
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
