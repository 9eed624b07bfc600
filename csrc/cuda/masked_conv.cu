// Triangular solve with an autoregressive convolution, by substitution along wavefronts: one block a sample.
//
// A first kernel brings the weights into the order of substitution and inverts the triangle of the centre, so that the
// pixels of a wavefront are two small matrix products: what their neighbours contribute, and the triangle. The solution
// is kept in scratch in the compute type, channels inside, where the next wavefronts read it.
#include <algorithm>
#include <stdexcept>

#include "geometry.cuh"
#include "storage.cuh"

namespace flowkit::cuda {
namespace {

constexpr int per_thread = 4;  // pixels that share a load of a weight, and channels that are loaded together
constexpr int64_t most_rest_bytes = 36 * 1024;

// The order of substitution: raster order of pixels and channels, or both turned around.
struct Order {
  int64_t channels, pixels, pitch;  // pitch: channels of a pixel in scratch, whole packs
  int taps, centre;
  bool backwards, transposed;

  __device__ __forceinline__ int64_t channel(int64_t c) const { return backwards ? channels - 1 - c : c; }
  __device__ __forceinline__ int64_t pixel(int64_t p) const { return backwards ? pixels - 1 - p : p; }

  // Where the weight from channel `in` of the pixel that `tap` points at to channel `out` lies.
  __device__ __forceinline__ int64_t weight(int64_t out, int64_t in, int tap) const {
    out = channel(out);
    in = channel(in);
    if (backwards != transposed) tap = taps - 1 - tap;
    return transposed ? (in * channels + out) * taps + tap : (out * channels + in) * taps + tap;
  }
};

// The pixels of each wavefront; skew[2] is 0 or 1, see launch.h.
struct Fronts {
  int size[3], kernel[3], dilation[3], skew[3];

  __device__ __forceinline__ int count() const {
    int fronts = 1;
    for (int d = 0; d < 3; ++d) fronts += (size[d] - 1) * skew[d];
    return fronts;
  }

  // Of the pixels of depth d on wavefront `front`: the rows, and how many pixels of each.
  struct Slice {
    int first_row, rows, columns, rest;
    __device__ __forceinline__ int pixels() const { return rows * columns; }
  };

  __device__ __forceinline__ Slice slice(int front, int d) const {
    Slice s{0, 0, 1, front - d * skew[0]};
    if (s.rest < 0) return s;
    int last = size[1] - 1;
    if (skew[2] == 0) {
      s.columns = size[2];
      if (skew[1] == 0) {
        if (s.rest > 0) return s;
      } else {
        if (s.rest % skew[1] != 0) return s;
        s.first_row = s.rest / skew[1];
        last = last < s.first_row ? last : s.first_row;
      }
    } else if (skew[1] == 0) {
      if (s.rest >= size[2]) return s;
    } else {
      const int beyond = s.rest - (size[2] - 1);
      s.first_row = beyond > 0 ? (beyond + skew[1] - 1) / skew[1] : 0;
      last = last < s.rest / skew[1] ? last : s.rest / skew[1];
    }
    s.rows = last < s.first_row ? 0 : last - s.first_row + 1;
    return s;
  }

  __device__ __forceinline__ int pixels(int front) const {
    int n = 0;
    for (int d = 0; d < size[0]; ++d) n += slice(front, d).pixels();
    return n;
  }

  // Pixel k of a wavefront.
  __device__ __forceinline__ void locate(int front, int k, int& depth, int& row, int& column) const {
    for (depth = 0;; ++depth) {
      const Slice s = slice(front, depth);
      if (k >= s.pixels()) {
        k -= s.pixels();
        continue;
      }
      row = s.first_row + k / s.columns;
      column = skew[2] == 0 ? k % s.columns : s.rest - row * skew[1];
      return;
    }
  }

  // The pixel at these coordinates, -1 outside of the image.
  __device__ __forceinline__ int64_t pixel(int depth, int row, int column) const {
    if (depth < 0 || row < 0 || column < 0 || row >= size[1] || column >= size[2]) return -1;
    return (int64_t(depth) * size[1] + row) * size[2] + column;
  }
};

// weights[tap][in][out] for the taps before the centre, zeros for channels that fill up a pack; inverse[in][out] of the
// centre's triangle. The first `columns_blocks` blocks invert, a thread a column; sums are of type double.
template <class S>
__global__ void __launch_bounds__(block_threads)
    masked_conv_prepare(Order order, unsigned column_blocks, readonly_ptr<S> weight, device_ptr<Compute<S>> weights,
                        device_ptr<Compute<S>> inverse) {
  using T = Compute<S>;
  const int64_t n = order.channels;
  if (blockIdx.x < column_blocks) {
    const int64_t j = int64_t(blockIdx.x) * block_threads + threadIdx.x;
    for (int64_t o = 0; o < n && j < n; ++o) {
      double sum = o == j ? 1 : 0;
      for (int64_t k = j; k < o; ++k)
        sum -= static_cast<double>(widen(weight[order.weight(o, k, order.centre)])) * inverse[j * n + k];
      inverse[j * n + o] = o < j ? T(0) : static_cast<T>(sum / widen(weight[order.weight(o, o, order.centre)]));
    }
    return;
  }
  const int64_t i = int64_t(blockIdx.x - column_blocks) * block_threads + threadIdx.x;
  if (i >= order.centre * order.pitch * n) return;
  const int64_t out = i % n, in = i / n % order.pitch;
  const int tap = static_cast<int>(i / n / order.pitch);
  weights[i] = in < n ? widen(weight[order.weight(out, in, tap)]) : T(0);
}

// Threads are `lanes` output channels by block_threads / lanes pixels; each takes up to `turns` pixels together.
template <class S>
__global__ void __launch_bounds__(block_threads)
    masked_conv_kernel(Order order, Fronts fronts, int lanes, int turns, readonly_ptr<Compute<S>> weights,
                       readonly_ptr<Compute<S>> inverse, Strided<const S> x, Strided<S> y,
                       device_ptr<Compute<S>> images) {
  using T = Compute<S>;
  FLOWKIT_DYNAMIC_SHARED(T, rests);
  FLOWKIT_SHARED(int, depths, block_threads);
  FLOWKIT_SHARED(int, rows, block_threads);
  FLOWKIT_SHARED(int, columns, block_threads);
  const int64_t b = blockIdx.x, channels = order.channels, pitch = order.pitch;
  const device_ptr<T> image = images + b * order.pixels * pitch;
  const int lane = threadIdx.x % lanes, first = threadIdx.x / lanes, step = block_threads / lanes;
  const int last_front = fronts.count();
  for (int front = 0; front < last_front; ++front) {
    const int all = fronts.pixels(front);
    for (int begin = 0; begin < all; begin += step * turns) {
      const int count = all - begin < step * turns ? all - begin : step * turns;
      if (static_cast<int>(threadIdx.x) < count) {
        int depth, row, column;
        fronts.locate(front, begin + static_cast<int>(threadIdx.x), depth, row, column);
        depths[threadIdx.x] = depth;
        rows[threadIdx.x] = row;
        columns[threadIdx.x] = column;
      }
      __syncthreads();
      for (int64_t o = lane; o < channels && first < count; o += lanes) {
        T sums[per_thread] = {};
        int64_t neighbours[per_thread];
        int tap = 0;
        for (int i = 0; i < fronts.kernel[0] && tap < order.centre; ++i)
          for (int j = 0; j < fronts.kernel[1] && tap < order.centre; ++j)
            for (int k = 0; k < fronts.kernel[2] && tap < order.centre; ++k, ++tap) {
              bool any = false;
#pragma unroll
              for (int r = 0; r < per_thread; ++r) {
                const int p = first + r * step;
                neighbours[r] = -1;
                if (r < turns && p < count)
                  neighbours[r] = fronts.pixel(depths[p] + (i - fronts.kernel[0] / 2) * fronts.dilation[0],
                                               rows[p] + (j - fronts.kernel[1] / 2) * fronts.dilation[1],
                                               columns[p] + (k - fronts.kernel[2] / 2) * fronts.dilation[2]);
                any = any || neighbours[r] >= 0;
              }
              if (!any) continue;
              const int64_t from = tap * pitch * channels + o;
              for (int64_t in = 0; in < pitch; in += per_thread) {
                T w[per_thread];
#pragma unroll
                for (int q = 0; q < per_thread; ++q) w[q] = weights[from + (in + q) * channels];
#pragma unroll
                for (int r = 0; r < per_thread; ++r) {
                  if (neighbours[r] < 0) continue;
                  const Pack<T, per_thread> values = load_pack<per_thread, T>(image, neighbours[r] * pitch + in);
#pragma unroll
                  for (int q = 0; q < per_thread; ++q) sums[r] += w[q] * values.values[q];
                }
              }
            }
#pragma unroll
        for (int r = 0; r < per_thread; ++r) {
          const int p = first + r * step;
          if (r >= turns || p >= count) continue;
          const int64_t pixel = order.pixel(fronts.pixel(depths[p], rows[p], columns[p]));
          rests[p * pitch + o] = widen(x.data[x.at(b, order.channel(o), pixel)]) - sums[r];
        }
      }
      __syncthreads();
      for (int64_t o = lane; o < channels && first < count; o += lanes) {
        T sums[per_thread] = {};
        for (int64_t in = 0; in <= o; ++in) {
          const T w = inverse[in * channels + o];
#pragma unroll
          for (int r = 0; r < per_thread; ++r)
            if (r < turns && first + r * step < count) sums[r] += w * rests[(first + r * step) * pitch + in];
        }
#pragma unroll
        for (int r = 0; r < per_thread; ++r) {
          const int p = first + r * step;
          if (r >= turns || p >= count) continue;
          const int64_t pixel = fronts.pixel(depths[p], rows[p], columns[p]);
          image[pixel * pitch + o] = sums[r];
          y.data[y.at(b, order.channel(o), order.pixel(pixel))] = narrow<S>(sums[r]);
          for (int64_t fill = channels; o == channels - 1 && fill < pitch; ++fill) image[pixel * pitch + fill] = T(0);
        }
      }
      __syncthreads();
    }
  }
}

Order order_of(const MaskedConvSolve& a) {
  const int64_t n = a.shape.channels, taps = a.kernel[0] * a.kernel[1] * a.kernel[2];
  return {n,
          a.shape.pixels,
          ceil_div(n, per_thread) * per_thread,
          static_cast<int>(taps),
          static_cast<int>(taps / 2),
          a.reverse != a.transposed,
          a.transposed};
}

template <class S>
void launch(const MaskedConvSolve& a, Stream stream) {
  using T = Compute<S>;
  const Order order = order_of(a);
  Fronts fronts;
  for (int d = 0; d < 3; ++d) {
    fronts.size[d] = static_cast<int>(a.size[d]);
    fronts.kernel[d] = static_cast<int>(a.kernel[d]);
    fronts.dilation[d] = static_cast<int>(a.dilation[d]);
    fronts.skew[d] = static_cast<int>(a.skew[d]);
  }
  int lanes = 1;
  while (lanes < block_threads && lanes < order.channels) lanes *= 2;
  const int64_t step = block_threads / lanes, pixel_bytes = order.pitch * static_cast<int64_t>(sizeof(T));
  const int64_t turns = std::min<int64_t>({per_thread, lanes, most_rest_bytes / (step * pixel_bytes)});
  if (turns < 1) throw std::runtime_error("flowkit: x has too many channels for the CUDA kernel");

  const int64_t weights = order.centre * order.pitch * order.channels, inverse = order.channels * order.channels;
  const int64_t image = a.shape.batch * order.pixels * order.pitch;
  const device_ptr<T> images = view(static_cast<T*>(a.scratch.data), image);
  const device_ptr<T> packed = view(static_cast<T*>(a.scratch.data) + image, weights);
  const device_ptr<T> triangle = view(static_cast<T*>(a.scratch.data) + image + weights, inverse);
  const auto weight = view(static_cast<const S*>(a.weight.data), a.weight.extent);
  const auto column_blocks = static_cast<unsigned>(ceil_div(order.channels, block_threads));
  FLOWKIT_LAUNCH(masked_conv_prepare<S>, column_blocks + static_cast<unsigned>(ceil_div(weights, block_threads)),
                 block_threads, 0, stream, order, column_blocks, weight, packed, triangle);
  const auto x = strided<const S>(a.x);
  const auto y = strided<S>(a.y);
  FLOWKIT_LAUNCH(masked_conv_kernel<S>, static_cast<unsigned>(a.shape.batch), block_threads,
                 static_cast<size_t>(step * turns * pixel_bytes), stream, order, fronts, lanes, static_cast<int>(turns),
                 packed, triangle, x, y, images);
}

}  // namespace

// The images, the weights and the inverted triangle.
int64_t masked_conv_scratch_size(const MaskedConvSolve& a) {
  const Order order = order_of(a);
  return (a.shape.batch * order.pixels + order.centre * order.channels) * order.pitch + order.channels * order.channels;
}

void masked_conv_solve(const MaskedConvSolve& a, Stream stream) {
  if (a.shape.size() == 0) return;
  dispatch(a.dtype, [&](auto s) { launch<decltype(s)>(a, stream); });
}

}  // namespace flowkit::cuda
