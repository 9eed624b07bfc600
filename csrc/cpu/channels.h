// The channels of a coupling: which are transformed, and where each lies before and after the permutation.
#pragma once

#include <utility>

#include "pixels.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

template <class T>
class Channels {
 public:
  template <class Coupling>
  explicit Channels(const Coupling& c)
      : permutation_(get<int64_t>(c.permutation)),
        channels_(c.shape.channels),
        begin_(c.begin),
        end_(c.begin + c.count) {
    if (!c.shape.channels_last) return;
    group_ = std::clamp<int64_t>(block / std::max<int64_t>(c.count, 1), 1, c.shape.pixels);
    if (!permutation_) return;
    after_.resize(channels_);
    for (int64_t j = 0; j < channels_; ++j) after_[permutation_[j]] = j;
  }

 protected:
  // Output channel j shows input channel source(j) in the forward direction, the other way round in the inverse.
  int64_t source(int64_t j) const { return permutation_ ? permutation_[j] : j; }

  bool is_moved(int64_t k) const { return k >= begin_ && k < end_; }

  // The transformed channels of a view from before (or after) the permutation; group 0: no table.
  Pixels<T> moved(const View& v, bool after, int64_t group) const {
    return {v, after && permutation_ ? after_.data() : nullptr, begin_, end_ - begin_, group};
  }

  // body(pixel, pixels, channel, channels) over [first, last) x [0, count) in pieces of up to `block` elements.
  template <class Body>
  void for_blocks(int64_t first, int64_t last, const Body& body) const {
    for (int64_t k = 0; k < end_ - begin_; k += block) {
      const int64_t count = std::min(block, end_ - begin_ - k);
      for (int64_t p = first; p < last; p += group_) body(p, std::min(group_, last - p), k, count);
    }
  }

  // Moves the channels that are not transformed.
  void copy_others(const Pixels<T>& from, const Pixels<T>& to, int64_t b, int64_t first, int64_t last) const {
    const std::pair<int64_t, int64_t> others[] = {{0, begin_}, {end_, channels_}};
    for (int64_t p = first; p < last; ++p)
      for (const auto& [k, stop] : others) to.copy(from, b, p, k, stop);
  }

  const int64_t* permutation_;
  int64_t channels_, begin_, end_;
  int64_t group_ = 1;           // pixels in a block
  std::vector<int64_t> after_;  // the inverse permutation
};

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
