// Linear maps of few samples, and networks of them: bound by reading (and, for gradients, writing) the weights, so each
// is touched once.
//
// Samples are the lanes of vectors, and rows of weights are read in order, several at a time, with those that follow
// fetched ahead. For less samples than a vector has lanes, the inputs are the lanes.
#include "activate.h"
#include "simd.h"
#include "vector.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

constexpr bool many_registers = vector_bytes == 64;
// Rows computed together, for so many vectors of sums in each. Rows often lie a multiple of 4 KiB apart, where their
// lines share one set of L1: no more than eight, and those that follow are fetched into L2 alone.
constexpr int rows_for(int vectors) { return vectors == 1 ? 8 : (many_registers ? 2 : 1) * (vectors < 4 ? 4 : 2); }
// Columns computed together in transposed products, and the rows that are passed meanwhile: no more, as their lines too
// share one set of L1.
constexpr int columns_for(int vectors) {
  return many_registers ? (vectors < 3 ? 8 : 4) : 8 / (vectors == 3 ? 4 : vectors);
}
constexpr int64_t rows_of_block = 16;
constexpr int most_vectors = 4;
constexpr int most_dots = 4;             // samples up to which inputs are the lanes
constexpr int64_t line = 64;             // bytes
constexpr int64_t least_work = 1 << 16;  // multiplications that are worth a thread

// Runs f(integral_constant<n>) for n from 1 to `most`.
template <int most, class F>
void with_constant(int64_t n, const F& f) {
  if constexpr (most > 1) {
    if (n < most) return with_constant<most - 1>(n, f);
  }
  f(std::integral_constant<int, most>());
}

template <class C>
void fetch_ahead(const C* rows, int64_t count, int64_t pitch) {
  for (int64_t r = 0; r < count; ++r) __builtin_prefetch(rows + r * pitch, 0, 2);
}

// Which rows are fetched while R rows are read: as many bytes ahead for narrow weights.
template <class W, int R>
constexpr int64_t rows_ahead = R * std::max<int64_t>(1, sizeof(float) / sizeof(W));

template <class C>
void stream(Vec<C> v, C* to) {  // past the caches: gradients of weights are not read soon
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(v.raw));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(v.raw));
#else
  v.store(to);
#endif
}

void finish_streams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

template <class C>
C sum_of(Vec<C> v) {
  C total = 0;
  for (int i = 0; i < lanes<C>; ++i) total += v.raw[i];
  return total;
}

template <class C, int slot>
C* aligned_scratch(int64_t n) {
  C* memory = scratch<C, slot>(n + line / sizeof(C));
  return memory + (line - reinterpret_cast<uintptr_t>(memory) % line) % line / sizeof(C);
}

// Samples [first, first + width) of (rows, samples), with zeros behind the last.
template <class C, int slot>
C* padded(const C* from, int64_t rows, int64_t samples, int64_t first, int64_t width) {
  C* to = aligned_scratch<C, slot>(rows * width);
  const int64_t n = std::min(width, samples - first);
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(to + i * width, from + i * samples + first, n * sizeof(C));
    std::fill(to + i * width + n, to + (i + 1) * width, C(0));
  }
  return to;
}

// (rows, samples) -> (samples, pitch), with zeros behind the last row.
template <class C, int slot>
C* transposed(const C* from, int64_t rows, int64_t samples, int64_t pitch) {
  C* to = aligned_scratch<C, slot>(samples * pitch);
  for (int64_t n = 0; n < samples; ++n) {
    for (int64_t i = 0; i < rows; ++i) to[n * pitch + i] = from[i * samples + n];
    std::fill(to + n * pitch + rows, to + (n + 1) * pitch, C(0));
  }
  return to;
}

// Weights as what is computed in.
template <class C>
Vec<C> widened(const C* from) {
  return Vec<C>::load(from);
}

[[maybe_unused]] Vec<float> widened(const BFloat16* from) {
  typedef uint16_t Bits __attribute__((vector_size(vector_bytes / 2)));
  Bits bits;
  std::memcpy(&bits, from, sizeof bits);
  return reinterpret_cast<Vec<float>::Raw>(__builtin_convertvector(bits, Register<float>::Integers) << 16);
}

// R parts of rows of weights, n <= lanes long, as what is computed in, and the distance between them.
template <class C, int R>
const C* widened_rows(const C* w, int64_t in, int64_t, C*, int64_t& pitch) {
  pitch = in;
  return w;
}

template <class C, int R>
const C* widened_rows(const BFloat16* w, int64_t in, int64_t n, C* to, int64_t& pitch) {
  pitch = lanes<C>;
  for (int r = 0; r < R; ++r) {
    if (n == lanes<C>)
      widened(w + r * in).store(to + r * pitch);
    else
      load(w + r * in, 1, n, to + r * pitch);
  }
  return to;
}

// R rows of W x + b, samples as lanes: x (in, vectors * lanes).
template <class W, class C, int vectors, int R>
void rows_of_lanes(const W* w, int64_t in, const C* x, const C* bias, C* y, int64_t pitch, int64_t samples) {
  constexpr int64_t width = vectors * lanes<C>, step = lanes<C>;
  Vec<C> sum[R][vectors];
  alignas(64) C staged[R * step];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[r][v] = Vec<C>(bias[r]);
  for (int64_t begin = 0; begin < in; begin += step) {
    fetch_ahead(w + rows_ahead<W, R> * in + begin, R, in);
    const int64_t end = std::min(in, begin + step);
    int64_t pitch;
    const C* rows = widened_rows<C, R>(w + begin, in, end - begin, staged, pitch) - begin;
    for (int64_t i = begin; i < end; ++i) {
      Vec<C> xi[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) xi[v] = Vec<C>::load(x + i * width + v * lanes<C>);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[r][v] += Vec<C>(rows[r * pitch + i]) * xi[v];
    }
  }
  alignas(64) C out[width];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < vectors; ++v) sum[r][v].store(out + v * lanes<C>);
    std::memcpy(y + r * pitch, out, samples * sizeof(C));
  }
}

// R rows of W x + b, inputs as lanes: x (samples, x_pitch).
template <class W, class C, int samples, int R>
void rows_of_dots(const W* w, int64_t in, const C* x, int64_t x_pitch, const C* bias, C* y) {
  Vec<C> sum[R][samples];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < samples; ++n) sum[r][n] = Vec<C>(C(0));
  int64_t i = 0;
  for (; i + lanes<C> <= in; i += lanes<C>) {
    fetch_ahead(w + rows_ahead<W, R> * in + i, R, in);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<C> wi = widened(w + r * in + i);
#pragma GCC unroll 4
      for (int n = 0; n < samples; ++n) sum[r][n] += wi * Vec<C>::load(x + n * x_pitch + i);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < samples; ++n) {
      C total = bias[r] + sum_of(sum[r][n]);
      for (int64_t k = i; k < in; ++k) total += static_cast<C>(w[r * in + k]) * x[n * x_pitch + k];
      y[r * samples + n] = total;
    }
}

// body(group, first row, last row) over all groups; the same rows are always together.
template <class Body>
void for_rows(int64_t groups, int64_t rows, int64_t together, int64_t work, const Body& body) {
  const int64_t blocks = (rows + together - 1) / together;
  const int64_t grain = std::max<int64_t>(1, least_work / std::max<int64_t>(1, work * together));
  torch::stable::parallel_for(0, groups * blocks, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t group = begin / blocks, last = std::min(end, (group + 1) * blocks);
      body(group, (begin - group * blocks) * together, std::min(rows, (last - group * blocks) * together));
      begin = last;
    }
  });
}

// call(integral_constant<R>, row): R rows (or columns) at a time, those left over one by one.
template <int R, class Call>
void by_rows(int64_t first, int64_t last, const Call& call) {
  int64_t row = first;
  for (; row + R <= last; row += R) call(std::integral_constant<int, R>(), row);
  for (; row < last; ++row) call(std::integral_constant<int, 1>(), row);
}

// y = weight x + bias of `groups` maps: x (groups, in, samples), weight (groups, out, in), y (groups, out, samples).
template <class W, class C>
struct Maps {
  int64_t groups, out, in, samples;
  const C* x;
  const W* weight;
  const C* bias;
  C* y;
};

// finish(results, count) is called for rows of y as they are there.
template <class W, class C, class Finish>
void forward(const Maps<W, C>& a, const Finish& finish) {
  const auto w = [&](int64_t g, int64_t row) { return a.weight + (g * a.out + row) * a.in; };
  const auto to = [&](int64_t g, int64_t row) { return a.y + (g * a.out + row) * a.samples; };
  for_rows(a.groups, a.out, rows_for(1), a.in * a.samples, [&](int64_t g, int64_t first, int64_t last) {
    const C *xg = a.x + g * a.in * a.samples, *bg = a.bias + g * a.out;
    if (a.samples <= most_dots) {
      const C* xs = a.samples == 1 ? xg : transposed<C, 1>(xg, a.in, a.samples, a.in);
      with_constant<most_dots>(a.samples, [&](auto samples) {
        by_rows<rows_for(samples)>(first, last, [&](auto rows, int64_t row) {
          rows_of_dots<W, C, samples, rows>(w(g, row), a.in, xs, a.in, bg + row, to(g, row));
        });
      });
    }
    for (int64_t n = 0; a.samples > most_dots && n < a.samples; n += most_vectors * lanes<C>) {
      const int64_t m = std::min(a.samples - n, int64_t(most_vectors * lanes<C>));
      with_constant<most_vectors>((m + lanes<C> - 1) / lanes<C>, [&](auto vectors) {
        const C* xs = padded<C, 1>(xg, a.in, a.samples, n, vectors * lanes<C>);
        by_rows<rows_for(vectors)>(first, last, [&](auto rows, int64_t row) {
          rows_of_lanes<W, C, vectors, rows>(w(g, row), a.in, xs, bg + row, to(g, row) + n, a.samples, m);
        });
      });
    }
    finish(to(g, first), (last - first) * a.samples);
  });
}

template <class C>
void forward(const StackedLinear& a) {
  const Maps<C, C> maps{
      a.groups, a.out, a.in, a.samples, get<C>(a.x), get<C>(a.weight), get<C>(a.bias), static_cast<C*>(a.y.data)};
  forward(maps, [](C*, int64_t) {});
}

template <class W, class C>
void networks(const StackedMlp& a) {
  int64_t most = 0;
  for (int64_t l = 0; l < a.depth; ++l) most = std::max(most, a.groups * a.layers[l].out * a.samples);
  C* const turns[] = {aligned_scratch<C, 3>(most), aligned_scratch<C, 4>(most)};
  const C* x = a.samples == 1 ? get<C>(a.x) : transposed<C, 5>(get<C>(a.x), a.samples, a.layers[0].in, a.samples);
  C* y = nullptr;
  for (int64_t l = 0; l < a.depth; ++l, x = y) {
    const StackedLayer& layer = a.layers[l];
    const bool first = l == 0, last = l + 1 == a.depth;  // the first layers, which read the same, are one map
    y = last && a.samples == 1 ? static_cast<C*>(a.y.data) : turns[l % 2];
    const Maps<W, C> maps{first ? 1 : a.groups,
                          first ? a.groups * layer.out : layer.out,
                          layer.in,
                          a.samples,
                          x,
                          get<W>(layer.weight),
                          get<C>(layer.bias),
                          y};
    forward(maps, [&](C* rows, int64_t n) {
      if (!last) activate(rows, n, a.activation, rows);
    });
  }
  const int64_t out = a.layers[a.depth - 1].out;
  for (int64_t g = 0; g < a.groups; ++g) {
    C* result = y + g * out * a.samples;
    if (a.tanhs >> g & 1) activate(result, out * a.samples, Activation::tanh, result);
  }
  if (a.samples == 1) return;
  C* to = static_cast<C*>(a.y.data);
  for (int64_t n = 0; n < a.samples; ++n)
    for (int64_t i = 0; i < a.groups * out; ++i) *to++ = y[i * a.samples + n];
}

// sums (T, vectors * lanes) += T columns of W, transposed, times grad (rows, vectors * lanes): samples as lanes.
template <class C, int vectors, int T>
void add_transposed(const C* w, int64_t pitch, int64_t rows, const C* grad, C* sums) {
  constexpr int64_t width = vectors * lanes<C>;
  Vec<C> sum[T][vectors];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[t][v] = Vec<C>::load(sums + t * width + v * lanes<C>);
  for (int64_t r = 0; r < rows; ++r) {
    Vec<C> g[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) g[v] = Vec<C>::load(grad + r * width + v * lanes<C>);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[t][v] += Vec<C>(w[r * pitch + t]) * g[v];
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[t][v].store(sums + t * width + v * lanes<C>);
}

template <class C>
void backward_x(const StackedLinearBackward& a) {
  const C *grad = get<C>(a.grad_y), *weight = get<C>(a.weight);
  C* grad_x = static_cast<C*>(a.grad_x.data);
  constexpr int64_t together = 128;  // inputs: a few lines of each row of weights
  for_rows(a.groups, a.in, together, a.out * a.samples, [&](int64_t g, int64_t first, int64_t last) {
    const C* wg = weight + g * a.out * a.in + first;
    for (int64_t n = 0; n < a.samples; n += most_vectors * lanes<C>) {
      const int64_t m = std::min(a.samples - n, int64_t(most_vectors * lanes<C>));
      with_constant<most_vectors>((m + lanes<C> - 1) / lanes<C>, [&](auto vectors) {
        constexpr int64_t width = vectors * lanes<C>;
        const C* gs = padded<C, 1>(grad + g * a.out * a.samples, a.out, a.samples, n, width);
        C* sums = aligned_scratch<C, 2>((last - first) * width);
        std::fill(sums, sums + (last - first) * width, C(0));
        for (int64_t row = 0; row < a.out; row += rows_of_block) {
          const int64_t rows = std::min(rows_of_block, a.out - row);
          by_rows<columns_for(vectors)>(0, last - first, [&](auto columns, int64_t i) {
            const C* w = wg + row * a.in + i;
            if (i * int64_t(sizeof(C)) % line == 0) fetch_ahead(w + rows * a.in, rows, a.in);
            add_transposed<C, vectors, columns>(w, a.in, rows, gs + row * width, sums + i * width);
          });
        }
        for (int64_t i = first; i < last; ++i)
          std::memcpy(grad_x + (g * a.in + i) * a.samples + n, sums + (i - first) * width, m * sizeof(C));
      });
    }
  });
}

// R rows of grad x^T, inputs as lanes: x (samples, x_pitch), padded to whole vectors; grad (R, samples).
template <class C, int R>
void outer_rows(const C* grad, int64_t samples, const C* x, int64_t x_pitch, int64_t in, bool streams, C* to) {
  constexpr int vectors = 4;
  constexpr int64_t width = vectors * lanes<C>;
  for (int64_t i = 0; i < in; i += width) {
    Vec<C> sum[R][vectors];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[r][v] = Vec<C>(C(0));
    for (int64_t n = 0; n < samples; ++n) {
      Vec<C> xi[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) xi[v] = Vec<C>::load(x + n * x_pitch + i + v * lanes<C>);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[r][v] += Vec<C>(grad[r * samples + n]) * xi[v];
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < vectors; ++v) {
        const int64_t k = i + v * lanes<C>;
        if (k + lanes<C> <= in && streams)
          stream(sum[r][v], to + r * in + k);
        else if (k < in)
          std::memcpy(to + r * in + k, &sum[r][v].raw, std::min<int64_t>(lanes<C>, in - k) * sizeof(C));
      }
  }
}

template <class C>
void backward_weight(const StackedLinearBackward& a) {
  const C *grad = get<C>(a.grad_y), *x = get<C>(a.x);
  C *grad_weight = static_cast<C*>(a.grad_weight.data), *grad_bias = static_cast<C*>(a.grad_bias.data);
  constexpr int R = many_registers ? 6 : 2;  // with the four vectors of outer_rows in each
  const bool streams = (a.in * sizeof(C)) % vector_bytes == 0 && reinterpret_cast<uintptr_t>(grad_weight) % line == 0;
  // Whole vectors, and a line more, so that samples do not share one set of L1.
  const int64_t pitch = (a.in + 4 * lanes<C> - 1) / (4 * lanes<C>)*(4 * lanes<C>) + line / int64_t(sizeof(C));
  for_rows(a.groups, a.out, rows_for(1), a.in * a.samples, [&](int64_t g, int64_t first, int64_t last) {
    const C* xs = transposed<C, 1>(x + g * a.in * a.samples, a.in, a.samples, pitch);
    by_rows<R>(first, last, [&](auto rows, int64_t row) {
      const int64_t at = g * a.out + row;
      outer_rows<C, rows>(grad + at * a.samples, a.samples, xs, pitch, a.in, streams, grad_weight + at * a.in);
    });
    for (int64_t at = g * a.out + first; at < g * a.out + last; ++at) {
      C total = 0;
      for (int64_t n = 0; n < a.samples; ++n) total += grad[at * a.samples + n];
      grad_bias[at] = total;
    }
    finish_streams();
  });
}

}  // namespace

void stacked_linear(const StackedLinear& a) { a.dtype == DType::float64 ? forward<double>(a) : forward<float>(a); }

void stacked_mlp(const StackedMlp& a) {
  if (a.dtype == DType::float64) return networks<double, double>(a);
  a.weight_dtype == DType::bfloat16 ? networks<BFloat16, float>(a) : networks<float, float>(a);
}

void stacked_linear_backward(const StackedLinearBackward& a) {
  const bool wide = a.dtype == DType::float64;
  if (a.grad_x.data) wide ? backward_x<double>(a) : backward_x<float>(a);
  if (a.grad_weight.data) wide ? backward_weight<double>(a) : backward_weight<float>(a);
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
