// Channel permutation: rows are copied, or gathered pixel by pixel where channels lie innermost; and what the network of a
// coupling on vectors reads.
#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {

void permute(const Permute& a) {
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    const auto* permutation = get<int64_t>(a.permutation);
    for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        if (!a.shape.channels_last) {
          const int64_t from = a.inverse ? r : permutation[r], to = a.inverse ? permutation[r] : r;
          copy(at<T>(a.x, b, from), a.x.pixel, a.shape.pixels, at<T>(a.y, b, to), a.y.pixel);
          continue;
        }
        const T* x = at<T>(a.x, b, 0, r);
        T* y = at<T>(a.y, b, 0, r);
        const int64_t xs = a.x.channel, ys = a.y.channel;
        for (int64_t j = 0; j < a.shape.channels; ++j) {
          if (a.inverse)
            y[permutation[j] * ys] = x[j * xs];
          else
            y[j * ys] = x[permutation[j] * xs];
        }
      }
    });
  });
}

void passive_part(const PassivePart& a) {
  const auto* permutation = get<int64_t>(a.permutation);
  const int64_t skipped = a.end - a.begin;
  std::vector<int64_t> places(a.channels - skipped);
  for (int64_t j = 0; j < a.channels; ++j) {
    const int64_t c = permutation ? permutation[j] : j;
    if (c < a.begin || c >= a.end) places[c < a.begin ? c : c - skipped] = j * a.x.channel;
  }
  dispatch(a.dtype, [&](auto value) {
    using T = decltype(value);
    T* y = static_cast<T*>(a.y.data);
    for (int64_t n = 0; n < a.samples; ++n) {
      const T* x = at<T>(a.x, n, 0);
      for (const int64_t place : places) *y++ = x[place];
      for (int64_t k = 0; k < a.condition_channels; ++k) *y++ = *at<T>(a.condition, n, k);
    }
  });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
