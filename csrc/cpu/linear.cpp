// Matrix product over channels with pixels innermost: some output channels x vectors of pixels in registers.
#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

template <class C>
struct Vector {
  static constexpr int lanes = 64 / sizeof(C);
  typedef C type __attribute__((vector_size(64), aligned(sizeof(C)), may_alias));
};

#ifdef __AVX512F__
constexpr int rows = 8, columns = 3;  // 24 of 32 registers hold sums
#else
constexpr int rows = 4, columns = 1;  // a vector takes two registers of 16 here
#endif

// y[i, :] = sum_j w[i * ws + j] x[j, :] for `height` <= rows rows and one tile of pixels; x rows lie `pitch` apart.
template <class C, int height>
void tile(const C* w, int64_t ws, const C* x, int64_t channels, int64_t pitch, C* y, int64_t y_pitch) {
  using V = typename Vector<C>::type;
  constexpr int lanes = Vector<C>::lanes;
  V sum[height][columns] = {};
  for (int64_t j = 0; j < channels; ++j) {
    const V* xj = reinterpret_cast<const V*>(x + j * pitch);
    for (int c = 0; c < columns; ++c)
      for (int r = 0; r < height; ++r) sum[r][c] += w[r * ws + j] * xj[c];
  }
  for (int r = 0; r < height; ++r)
    for (int c = 0; c < columns; ++c) *reinterpret_cast<V*>(y + r * y_pitch + c * lanes) = sum[r][c];
}

template <class T>
void apply(const Linear& a) {
  using C = Compute<T>;
  constexpr int64_t width = columns * Vector<C>::lanes;
  const int64_t channels = a.shape.channels, pixels = a.shape.pixels;
  std::vector<C> weight(channels * channels);
  for (int64_t i = 0; i < channels; ++i)
    for (int64_t j = 0; j < channels; ++j)
      weight[i * channels + j] = static_cast<C>(get<T>(a.weight)[a.transposed ? j * channels + i : i * channels + j]);

  const int64_t tiles = (pixels + width - 1) / width;
  const int64_t grain = std::max<int64_t>(1, unit_elements / (channels * width));
  torch::stable::parallel_for(0, a.shape.batch * tiles, grain, [&](int64_t begin, int64_t end) {
    C* x = scratch<C, 0>(channels * width);
    C* y = scratch<C, 1>(rows * width);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t b = t / tiles, p = t % tiles * width, n = std::min(width, pixels - p);
      for (int64_t j = 0; j < channels; ++j) load(at<T>(a.x, b, j, p), a.x.pixel, n, x + j * width);
      for (int64_t i = 0; i < channels; i += rows) {
        const int64_t height = std::min<int64_t>(rows, channels - i);
        const C* w = weight.data() + i * channels;
        if (height == rows)
          tile<C, rows>(w, channels, x, channels, width, y, width);
        else
          for (int64_t r = 0; r < height; ++r) tile<C, 1>(w + r * channels, channels, x, channels, width, y + r * width, width);
        for (int64_t r = 0; r < height; ++r) store(y + r * width, n, at<T>(a.y, b, i + r, p), a.y.pixel);
      }
    }
  });
}

}  // namespace

void linear(const Linear& a) {
  dispatch(a.dtype, [&](auto value) { apply<decltype(value)>(a); });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
