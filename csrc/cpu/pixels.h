// Rows of channels, a pixel each, to and from dense blocks.
#pragma once

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// Channels [first, first + count) of a view with channels inside, numbered as before the permutation; `index` tells
// where each lies, null: in its place. They move to and from dense blocks of up to `group` pixels, in loops over
// channels that lie side by side (after a swap of the two parts they still do), else through a table of offsets.
template <class T>
class Pixels {
  using C = Compute<T>;

 public:
  Pixels(const View& v, const int64_t* index, int64_t first, int64_t count, int64_t group)
      : v_(v),
        index_(index),
        first_(first),
        start_(index && count > 0 ? index[first] : first),
        loop_(v.channel == 1 && count >= 32 && is_run(index, first, count)) {
    const int64_t reach = (group - 1) * v.pixel + (first + count) * v.channel;
    if (group == 0 || loop_ || count > block || (index && v.channel != 1) || reach >= INT32_MAX || !v.data) return;
    offsets_.resize(group * count);
    for (int64_t g = 0; g < group; ++g)
      for (int64_t k = 0; k < count; ++k)
        offsets_[g * count + k] =
            static_cast<int32_t>(g * v.pixel + (index ? index[first + k] : (first + k) * v.channel));
  }

  // Channels [k, k + count) of the range, pixels [p, p + group) of sample b; all channels if there is a table.
  void read(int64_t b, int64_t p, int64_t group, int64_t k, int64_t count, C* to) const {
    if constexpr (std::is_same_v<T, C>) {
      gather(b, p, group, k, count, to);
    } else if (loop_) {
      for (int64_t g = 0; g < group; ++g) load(at<T>(v_, b, start_ + k, p + g), 1, count, to + g * count);
    } else {
      alignas(64) T raw[block];
      gather(b, p, group, k, count, raw);
      load(raw, 1, group * count, to);
    }
  }

  void write(int64_t b, int64_t p, int64_t group, int64_t k, int64_t count, const C* from) const {
    if constexpr (std::is_same_v<T, C>) {
      scatter(b, p, group, k, count, from);
    } else if (loop_) {
      for (int64_t g = 0; g < group; ++g) store(from + g * count, count, at<T>(v_, b, start_ + k, p + g), 1);
    } else {
      alignas(64) T raw[block];
      store(from, group * count, raw, 1);
      scatter(b, p, group, k, count, raw);
    }
  }

  // Channels [k, stop) of the whole view, of one pixel.
  void copy(const Pixels& from, int64_t b, int64_t p, int64_t k, int64_t stop) const {
    if (!index_ && !from.index_)
      cpu::FLOWKIT_ISA::copy(from.element(b, p, k), from.v_.channel, stop - k, element(b, p, k), v_.channel);
    else
      for (; k < stop; ++k) *element(b, p, k) = *from.element(b, p, k);
  }

 private:
  static bool is_run(const int64_t* index, int64_t first, int64_t count) {
    for (int64_t k = 1; index && k < count; ++k)
      if (index[first + k] != index[first] + k) return false;
    return true;
  }

  // Where channel k of the whole view lies.
  T* element(int64_t b, int64_t p, int64_t k) const { return at<T>(v_, b, index_ ? index_[k] : k, p); }

  void gather(int64_t b, int64_t p, int64_t group, int64_t k, int64_t count, T* to) const {
    const T* base = at<T>(v_, b, 0, p);
    if (!offsets_.empty()) {
      const int32_t* offset = offsets_.data();
      for (int64_t e = 0; e < group * count; ++e) to[e] = base[offset[e]];
    } else if (loop_) {
      for (int64_t g = 0; g < group; ++g)
        for (int64_t c = 0; c < count; ++c) to[g * count + c] = base[g * v_.pixel + start_ + k + c];
    } else {
      for (int64_t g = 0; g < group; ++g)
        for (int64_t c = 0; c < count; ++c) to[g * count + c] = *element(b, p + g, first_ + k + c);
    }
  }

  void scatter(int64_t b, int64_t p, int64_t group, int64_t k, int64_t count, const T* from) const {
    T* base = at<T>(v_, b, 0, p);
    if (!offsets_.empty()) {
      const int32_t* offset = offsets_.data();
#pragma GCC ivdep
      for (int64_t e = 0; e < group * count; ++e) base[offset[e]] = from[e];
    } else if (loop_) {
      for (int64_t g = 0; g < group; ++g)
        for (int64_t c = 0; c < count; ++c) base[g * v_.pixel + start_ + k + c] = from[g * count + c];
    } else {
      for (int64_t g = 0; g < group; ++g)
        for (int64_t c = 0; c < count; ++c) *element(b, p + g, first_ + k + c) = from[g * count + c];
    }
  }

  View v_;
  const int64_t* index_;
  int64_t first_, start_;  // start_: where channel first_ lies
  bool loop_;
  std::vector<int32_t> offsets_;
};

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
