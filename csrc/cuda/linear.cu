// Linear map over channels: a tiled matrix product with the weight and the pixels staged through shared memory.
#include "geometry.cuh"
#include "storage.cuh"

namespace flowkit::cuda {
namespace {

constexpr int inputs = 16;     // input channels staged at a time
constexpr int per_thread = 4;  // a thread makes per_thread x per_thread outputs

// A block makes `outputs` channels of `block_threads * per_thread^2 / outputs` positions (pairs of sample and pixel).
template <class S, int outputs>
__global__ void __launch_bounds__(block_threads)
    linear_kernel(Divider pixels, int64_t positions, int channels, bool channels_last, bool transposed,
                  readonly_ptr<S> weight, Strided<const S> x, Strided<S> y) {
  using T = Compute<S>;
  constexpr int columns = block_threads * per_thread * per_thread / outputs;
  constexpr int threads_out = outputs / per_thread, threads_column = columns / per_thread;
  FLOWKIT_SHARED(T, weights, inputs * (outputs + 1));
  FLOWKIT_SHARED(T, values, inputs * (columns + 1));
  const int64_t first_position = int64_t(blockIdx.x) * columns;
  const int first_out = blockIdx.y * outputs;
  // Neighbouring threads write neighbouring addresses: pixels, or channels if they are last.
  const int o = channels_last ? threadIdx.x % threads_out : threadIdx.x / threads_column;
  const int q = channels_last ? threadIdx.x / threads_out : threadIdx.x % threads_column;
  T sums[per_thread][per_thread] = {};
  for (int first_in = 0; first_in < channels; first_in += inputs) {
    for (int i = threadIdx.x; i < inputs * outputs; i += block_threads) {
      const int out = transposed ? i % outputs : i / inputs, in = transposed ? i / outputs : i % inputs;
      const int row = first_out + out, column = first_in + in;
      const bool inside = row < channels && column < channels;
      weights[in * (outputs + 1) + out] =
          inside ? widen(weight[transposed ? column * channels + row : row * channels + column]) : T(0);
    }
    for (int i = threadIdx.x; i < inputs * columns; i += block_threads) {
      const int in = channels_last ? i % inputs : i / columns, column = channels_last ? i / inputs : i % columns;
      const int c = first_in + in;
      T value = 0;
      if (c < channels && first_position + column < positions) {
        int64_t b, p;
        pixels(first_position + column, b, p);
        value = widen(x.data[x.at(b, c, p)]);
      }
      values[in * (columns + 1) + column] = value;
    }
    __syncthreads();
#pragma unroll 4
    for (int in = 0; in < inputs; ++in) {
      T w[per_thread], v[per_thread];
#pragma unroll
      for (int k = 0; k < per_thread; ++k) w[k] = weights[in * (outputs + 1) + o + k * threads_out];
#pragma unroll
      for (int k = 0; k < per_thread; ++k) v[k] = values[in * (columns + 1) + q + k * threads_column];
#pragma unroll
      for (int k = 0; k < per_thread; ++k)
#pragma unroll
        for (int l = 0; l < per_thread; ++l) sums[k][l] += w[k] * v[l];
    }
    __syncthreads();
  }
#pragma unroll
  for (int l = 0; l < per_thread; ++l) {
    const int64_t position = first_position + q + l * threads_column;
    if (position >= positions) continue;
    int64_t b, p;
    pixels(position, b, p);
#pragma unroll
    for (int k = 0; k < per_thread; ++k) {
      const int c = first_out + o + k * threads_out;
      if (c < channels) y.data[y.at(b, c, p)] = narrow<S>(sums[k][l]);
    }
  }
}

template <class S, int outputs>
void launch(const Linear& f, Stream stream) {
  constexpr int columns = block_threads * per_thread * per_thread / outputs;
  const int64_t positions = f.shape.batch * f.shape.pixels;
  const auto weight = view(static_cast<const S*>(f.weight.data), f.weight.extent);
  const auto x = strided<const S>(f.x);
  const auto y = strided<S>(f.y);
  const Divider pixels(f.shape.pixels);
  const dim3 grid(static_cast<unsigned>(ceil_div(positions, columns)),
                  static_cast<unsigned>(ceil_div(f.shape.channels, outputs)));
  FLOWKIT_LAUNCH((linear_kernel<S, outputs>), grid, block_threads, 0, stream, pixels, positions,
                 static_cast<int>(f.shape.channels), f.shape.channels_last, f.transposed, weight, x, y);
}

}  // namespace

void linear(const Linear& f, Stream stream) {
  if (f.shape.size() == 0) return;
  dispatch(f.dtype, [&](auto s) {
    using S = decltype(s);
    if (f.shape.channels <= 16)
      launch<S, 16>(f, stream);
    else if (f.shape.channels <= 32)
      launch<S, 32>(f, stream);
    else
      launch<S, 64>(f, stream);
  });
}

}  // namespace flowkit::cuda
