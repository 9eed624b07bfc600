// Channel permutation: rows are copied, or gathered pixel by pixel where channels lie innermost.
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

}  // namespace flowkit::cpu::FLOWKIT_ISA
