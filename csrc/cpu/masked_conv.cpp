// Triangular solve with an autoregressive convolution, by substitution along wavefronts.
//
// Each sample is solved in a scratch image of the compute type: channels inside, zeros between the rows, so that no tap
// asks where the border is. It holds the right-hand side first and the solution in its place as the wavefront passes. A
// few pixels of a wavefront are a small matrix product with the weights, whose lanes are channels.
#include <utility>

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, most_vectors = 4;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, most_vectors = 2;
#else
constexpr int vector_bytes = 16, most_vectors = 2;
#endif
constexpr int most_pixels = 6;  // times most_vectors accumulators: what the registers hold
constexpr int64_t enough_pixels = 2 * most_pixels;

template <class C>
constexpr int lanes = vector_bytes / sizeof(C);
template <class C>
struct VectorOf {
  typedef C type __attribute__((vector_size(vector_bytes), aligned(sizeof(C)), may_alias));  // wherever it lies
};

// body(p, v) for each accumulator: unrolled, so that they stay in registers.
template <int P, int V, class Body>
inline void each(const Body& body) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) body(p, v);
}

// to[p][column...] = start[p][column...] (or 0) + sum over taps and i < depth of weight * from[p][offset[tap] + i], for
// P pixels and V vectors of channels.
template <class C>
struct Product {
  const C* weight;
  const int64_t* offset;
  int64_t taps, depth, column;
  const C* const* start;
  const C* const* from;
  C* const* to;

  template <int V, int P>
  void run() const {
    using Vector = typename VectorOf<C>::type;
    const auto at = [](const C* base, int v) { return *reinterpret_cast<const Vector*>(base + v * lanes<C>); };
    Vector sum[P][V] = {};
    if (start) each<P, V>([&](int p, int v) { sum[p][v] = at(start[p] + column, v); });
    const C* w = weight;
    for (int64_t t = 0; t < taps; ++t) {
      const C* x[P];
      for (int p = 0; p < P; ++p) x[p] = from[p] + offset[t];
      for (int64_t i = 0; i < depth; ++i, w += V * lanes<C>)
        each<P, V>([&](int p, int v) { sum[p][v] += at(w, v) * x[p][i]; });
    }
    each<P, V>([&](int p, int v) { *reinterpret_cast<Vector*>(to[p] + column + v * lanes<C>) = sum[p][v]; });
  }

  template <int V>
  void run(int64_t pixels) const {
    switch (pixels) {
      case 6: return run<V, 6>();
      case 4: return run<V, 4>();
      case 2: return run<V, 2>();
      default: return run<V, 1>();
    }
  }

  void run(int64_t vectors, int64_t pixels) const {
    switch (vectors) {
      case 4: return run<most_vectors>(pixels);
      case 2: return run<2>(pixels);
      default: return run<1>(pixels);
    }
  }
};

// The largest of 6, 4, 2, 1 that fits.
int64_t step(int64_t left, int64_t most) {
  const int64_t fits = std::min(left, most);
  return fits >= 6 ? 6 : fits >= 4 ? 4 : fits >= 2 ? 2 : 1;
}

// The geometry of the scratch image, in the order of substitution, and the pixels of each wavefront in it.
struct Wavefronts {
  int64_t row, plane, volume;         // pixels, padding included
  std::vector<int64_t> taps, offset;  // taps that reach into the image, by their index in the kernel; where they point
  std::vector<int64_t> pixel, first;  // scratch positions, by wavefront; where each wavefront begins, and the end

  explicit Wavefronts(const MaskedConvSolve& a) {
    int64_t reach[3], count = 1;
    for (int d = 0; d < 3; ++d) {
      reach[d] = std::min(a.kernel[d] / 2, (a.size[d] - 1) / a.dilation[d]) * a.dilation[d];
      count *= a.kernel[d];
    }
    row = a.size[2] + reach[2];
    plane = row * (a.size[1] + reach[1]);
    const int64_t start = reach[0] * plane + reach[1] * row + reach[2];
    volume = start + a.size[0] * plane;
    for (int64_t tap = 0; tap < count / 2; ++tap) {
      const int64_t index[3] = {tap / (a.kernel[1] * a.kernel[2]), tap / a.kernel[2] % a.kernel[1], tap % a.kernel[2]};
      int64_t away[3];
      bool reaches = true;
      for (int d = 0; d < 3; ++d) {
        away[d] = (index[d] - a.kernel[d] / 2) * a.dilation[d];
        reaches = reaches && std::abs(away[d]) <= reach[d];
      }
      if (!reaches) continue;
      taps.push_back(tap);
      offset.push_back(away[0] * plane + away[1] * row + away[2]);
    }
    sort(a, start);
  }

 private:
  void sort(const MaskedConvSolve& a, int64_t start) {
    int64_t fronts = 1;
    for (int d = 0; d < 3; ++d) fronts += (a.size[d] - 1) * a.skew[d];
    first.assign(fronts + 1, 0);
    const auto visit = [&](const auto& f) {
      for (int64_t d = 0; d < a.size[0]; ++d)
        for (int64_t h = 0; h < a.size[1]; ++h)
          for (int64_t w = 0; w < a.size[2]; ++w)
            f(d * a.skew[0] + h * a.skew[1] + w * a.skew[2], start + d * plane + h * row + w);
    };
    visit([&](int64_t front, int64_t) { ++first[front + 1]; });
    for (int64_t f = 0; f < fronts; ++f) first[f + 1] += first[f];
    pixel.resize(a.shape.pixels);
    std::vector<int64_t> next(first);
    visit([&](int64_t front, int64_t position) { pixel[next[front]++] = position; });
  }
};

template <class T>
class Solver {
  using C = Compute<T>;

 public:
  explicit Solver(const MaskedConvSolve& a)
      : a_(a),
        channels_(a.shape.channels),
        vectors_((channels_ + lanes<C> - 1) / lanes<C>),
        pitch_(vectors_ * lanes<C>),
        backwards_(a.reverse != a.transposed),
        fronts_(a) {
    for (auto& o : fronts_.offset) o *= pitch_;
    const int64_t taps = static_cast<int64_t>(fronts_.taps.size());
    weight_.assign(taps * channels_ * pitch_, 0);
    inverse_.assign(channels_ * pitch_, 0);
    const std::vector<double> triangle = inverted();
    for_tiles([&](int64_t vector, int64_t vectors) {
      const int64_t width = vectors * lanes<C>, column = vector * lanes<C>;
      C* to = weight_.data() + taps * channels_ * column;
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t i = 0; i < channels_; ++i, to += width)
          for (int64_t o = column; o < std::min(channels_, column + width); ++o)
            to[o - column] = static_cast<C>(-entry(o, i, fronts_.taps[t]));
      to = inverse_.data() + channels_ * column;
      for (int64_t i = 0; i < channels_; ++i, to += width)
        for (int64_t o = column; o < std::min(channels_, column + width); ++o)
          to[o - column] = static_cast<C>(triangle[o * channels_ + i]);
    });
  }

  void run() const {
    const int64_t mean = std::max<int64_t>(1, a_.shape.pixels / static_cast<int64_t>(fronts_.first.size()));
    const int64_t together = (enough_pixels + mean - 1) / mean;  // samples, where wavefronts are short
    torch::stable::parallel_for(0, a_.shape.batch, 1, [&](int64_t begin, int64_t end) {
      const int64_t size = fronts_.volume * pitch_, most = std::min(together, end - begin);
      C* image = scratch<C>(most * size + most_pixels * pitch_);
      std::fill_n(image, most * size, C(0));
      for (int64_t b = begin; b < end; b += most) {
        const int64_t samples = std::min(most, end - b);
        for (int64_t s = 0; s < samples; ++s) transfer<true>(b + s, image + s * size);
        solve(image, samples, image + most * size);
        for (int64_t s = 0; s < samples; ++s) transfer<false>(b + s, image + s * size);
      }
    });
  }

 private:
  // The weight in the order of substitution: pixels and channels turned around where that runs backwards.
  C entry(int64_t out, int64_t in, int64_t tap) const {
    const int64_t taps = a_.kernel[0] * a_.kernel[1] * a_.kernel[2];
    if (backwards_) out = channels_ - 1 - out, in = channels_ - 1 - in, tap = taps - 1 - tap;
    if (a_.transposed) std::swap(out, in), tap = taps - 1 - tap;
    return static_cast<C>(get<T>(a_.weight)[(out * channels_ + in) * taps + tap]);
  }

  // The inverse of the centre's triangle, in double whatever the type: then it loses no more than substitution would.
  std::vector<double> inverted() const {
    const int64_t n = channels_, centre = a_.kernel[0] * a_.kernel[1] * a_.kernel[2] / 2;
    std::vector<double> inverse(n * n, 0.0);
    for (int64_t i = 0; i < n; ++i) {
      double* row = inverse.data() + i * n;
      for (int64_t j = 0; j < i; ++j) {
        const double factor = entry(i, j, centre);
        const double* other = inverse.data() + j * n;
        for (int64_t k = 0; k <= j; ++k) row[k] -= factor * other[k];
      }
      row[i] = 1;
      const double diagonal = entry(i, i, centre);
      for (int64_t k = 0; k <= i; ++k) row[k] /= diagonal;
    }
    return inverse;
  }

  // body(first vector, vectors) over the channels of a pixel.
  template <class Body>
  void for_tiles(const Body& body) const {
    for (int64_t vector = 0, n; vector < vectors_; vector += n) {
      n = step(vectors_ - vector, most_vectors);
      body(vector, n);
    }
  }

  void solve(C* image, int64_t samples, C* rests) const {
    const int64_t size = fronts_.volume * pitch_;
    C *at[most_pixels], *rest[most_pixels];
    for (int p = 0; p < most_pixels; ++p) rest[p] = rests + p * pitch_;
    for (size_t f = 0; f + 1 < fronts_.first.size(); ++f) {
      const int64_t first = fronts_.first[f], count = fronts_.first[f + 1] - first, all = count * samples;
      for (int64_t k = 0, n; k < all; k += n) {
        n = step(all - k, most_pixels);
        for (int64_t p = 0; p < n; ++p)
          at[p] = image + (k + p) / count * size + fronts_.pixel[first + (k + p) % count] * pitch_;
        substitute(at, rest, n);
      }
    }
  }

  void substitute(C* const* at, C* const* rest, int64_t pixels) const {
    const int64_t taps = static_cast<int64_t>(fronts_.taps.size());
    for_tiles([&](int64_t vector, int64_t vectors) {
      const int64_t column = vector * lanes<C>;
      const C* w = weight_.data() + taps * channels_ * column;
      Product<C>{w, fronts_.offset.data(), taps, channels_, column, at, at, rest}.run(vectors, pixels);
    });
    for_tiles([&](int64_t vector, int64_t vectors) {
      const int64_t column = vector * lanes<C>, none = 0;
      const int64_t depth = std::min(channels_, column + vectors * lanes<C>);
      const C* w = inverse_.data() + channels_ * column;
      Product<C>{w, &none, 1, depth, column, nullptr, rest, at}.run(vectors, pixels);
    });
  }

  // Between x or y and the scratch image.
  template <bool in>
  void transfer(int64_t b, C* image) const {
    constexpr int64_t run = 64;  // pixels whose channels stay in L1
    const View& v = in ? a_.x : a_.y;
    const int64_t* size = a_.size;
    const int64_t pixels = a_.shape.pixels, turn = backwards_ ? -1 : 1;
    C* first = image + fronts_.pixel[0] * pitch_;
    for (int64_t d = 0; d < size[0]; ++d)
      for (int64_t h = 0; h < size[1]; ++h)
        for (int64_t w = 0; w < size[2]; w += run) {
          const int64_t n = std::min(run, size[2] - w), p = (d * size[1] + h) * size[2] + w;
          T* here = at<T>(v, b, backwards_ ? channels_ - 1 : 0, backwards_ ? pixels - 1 - p : p);
          C* there = first + (d * fronts_.plane + h * fronts_.row + w) * pitch_;
          a_.shape.channels_last ? pixels_inside<in>(here, turn * v.pixel, turn * v.channel, there, n)
                                 : channels_outside<in>(here, turn * v.pixel, turn * v.channel, there, n);
        }
  }

  template <bool in>
  void pixels_inside(T* here, int64_t pixel, int64_t channel, C* there, int64_t n) const {
    for (int64_t i = 0; i < n; ++i, here += pixel, there += pitch_)
      if constexpr (in)
        load<T>(here, channel, channels_, there);
      else
        store<T>(there, channels_, here, channel);
  }

  template <bool in>
  void channels_outside(T* here, int64_t pixel, int64_t channel, C* there, int64_t n) const {
    alignas(64) C staged[64];
    for (int64_t c = 0; c < channels_; ++c, here += channel) {
      if constexpr (in) load<T>(here, pixel, n, staged);
      for (int64_t i = 0; i < n; ++i)
        if constexpr (in)
          there[i * pitch_ + c] = staged[i];
        else
          staged[i] = there[i * pitch_ + c];
      if constexpr (!in) store<T>(staged, n, here, pixel);
    }
  }

  const MaskedConvSolve& a_;
  int64_t channels_, vectors_, pitch_;
  bool backwards_;
  Wavefronts fronts_;
  std::vector<C> weight_, inverse_;  // for each tile of channels: tap, channel in, channel out
};

}  // namespace

void masked_conv_solve(const MaskedConvSolve& a) {
  dispatch(a.dtype, [&](auto value) { Solver<decltype(value)>(a).run(); });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
