// Actnorm: one scale and shift a channel; its backward sums gradients over batch and pixels, in two steps of fixed
// order.
#include "../math/actnorm.h"

#include <initializer_list>

#include "geometry.cuh"
#include "storage.cuh"

namespace flowkit::cuda {
namespace {

constexpr int64_t most_chunks = 512;

template <class T>
struct ActNormParams {
  device_ptr<const T> scale, shift;
  bool log_scale, inverse;

  __device__ __forceinline__ math::ActNormChannel<T> operator[](int64_t c) const {
    return {scale[c], shift[c], log_scale, inverse};
  }
  __device__ __forceinline__ T offset(int64_t c) const { return math::actnorm_offset(shift[c], log_scale, inverse); }
};

// Positions are pairs of sample and pixel. The backward cuts them into at most `most_chunks` chunks, whole packs each.
int64_t positions_per_chunk(const Shape& shape) {
  const int64_t positions = shape.batch * shape.pixels;
  const int64_t least = shape.channels_last ? 64 : chunk_elements;
  const int64_t even = ceil_div(ceil_div(positions, most_chunks), 8) * 8;
  return even > least ? even : least;
}

int64_t position_chunks(const Shape& shape) {
  const int64_t chunks = ceil_div(shape.batch * shape.pixels, positions_per_chunk(shape));
  return chunks < 1 ? 1 : chunks;
}

template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    actnorm_kernel(ActNormParams<Compute<S>> params, Walk walk, Strided<const S> x, Strided<S> y) {
  const Task task = walk.task();
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t c, p;
    walk.place(e, c, p);
    auto values = load<N, S>(x.data, x.at(task.sample, c, p));
    if (walk.channels_last) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const auto channel = params[c + k];
        values.values[k] = channel.a * values.values[k] + channel.b;
      }
    } else {
      const auto channel = params[c];
#pragma unroll
      for (int k = 0; k < N; ++k) values.values[k] = channel.a * values.values[k] + channel.b;
    }
    store<S, N>(y.data, y.at(task.sample, c, p), values);
  }
}

// All samples have the same log-det. Each block sums the channels again, which is cheaper than to wait for one that
// did.
template <class T>
__global__ void __launch_bounds__(block_threads)
    actnorm_logdet_kernel(ActNormParams<T> params, int64_t channels, T pixels, device_ptr<T> logdet, int64_t samples,
                          bool accumulate) {
  FLOWKIT_SHARED(T, total, 1);
  T sum = 0;
  for (int64_t c = threadIdx.x; c < channels; c += block_threads) sum += params[c].log_abs_a;
  sum = group_sum(sum, block_threads);
  if (threadIdx.x == 0) total[0] = sum * pixels;
  __syncthreads();
  const T value = total[0];
  for (int64_t b = int64_t(blockIdx.x) * block_threads + threadIdx.x; b < samples;
       b += int64_t(gridDim.x) * block_threads)
    logdet[b] = accumulate ? logdet[b] + value : value;
}

// Sums of grad_y and grad_y * (y - offset), by chunk and channel.
template <class T>
struct ChannelSums {
  device_ptr<T> partial;
  int64_t channels, chunks;

  __device__ __forceinline__ int64_t grad(int64_t chunk, int64_t c) const { return chunk * channels + c; }
  __device__ __forceinline__ int64_t product(int64_t chunk, int64_t c) const { return (chunks + chunk) * channels + c; }
};

// Pixels are the fast index: one block for each channel and chunk of positions.
template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    actnorm_backward_rows(ActNormParams<Compute<S>> params, Divider pixels, int64_t positions, int64_t per_chunk,
                          Strided<const S> grad_y, Strided<const S> y, Strided<S> grad_x,
                          ChannelSums<Compute<S>> sums) {
  using T = Compute<S>;
  const int64_t chunk = blockIdx.x % sums.chunks, c = blockIdx.x / sums.chunks;
  const int64_t end = (chunk + 1) * per_chunk < positions ? (chunk + 1) * per_chunk : positions;
  const T a = params[c].a, offset = params.offset(c);
  T sum_g = 0, sum_gy = 0;
  for (int64_t i = chunk * per_chunk + threadIdx.x * N; i < end; i += block_threads * N) {
    int64_t b, p;
    pixels(i, b, p);
    auto grad = load<N, S>(grad_y.data, grad_y.at(b, c, p));
    const auto out = load<N, S>(y.data, y.at(b, c, p));
#pragma unroll
    for (int k = 0; k < N; ++k) {
      sum_g += grad.values[k];
      sum_gy += grad.values[k] * (out.values[k] - offset);
      grad.values[k] *= a;
    }
    store<S, N>(grad_x.data, grad_x.at(b, c, p), grad);
  }
  sum_g = group_sum(sum_g, block_threads);
  sum_gy = group_sum(sum_gy, block_threads);
  if (threadIdx.x != 0) return;
  sums.partial[sums.grad(chunk, c)] = sum_g;
  sums.partial[sums.product(chunk, c)] = sum_gy;
}

// Channels are the fast index: a block takes `columns` packs of channels in each of block_threads / columns positions.
template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    actnorm_backward_columns(ActNormParams<Compute<S>> params, Divider pixels, int64_t positions, int64_t per_chunk,
                             int columns, Strided<const S> grad_y, Strided<const S> y, Strided<S> grad_x,
                             ChannelSums<Compute<S>> sums) {
  using T = Compute<S>;
  FLOWKIT_SHARED(T, tile, block_threads * N * 2);
  const int64_t chunk = blockIdx.x % sums.chunks;
  const int column = threadIdx.x % columns, row = threadIdx.x / columns, rows = block_threads / columns;
  const int64_t c = (blockIdx.x / sums.chunks * columns + column) * N;
  const int64_t end = (chunk + 1) * per_chunk < positions ? (chunk + 1) * per_chunk : positions;
  T sum_g[N] = {}, sum_gy[N] = {}, a[N] = {}, offset[N] = {};
  if (c < sums.channels) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      a[k] = params[c + k].a;
      offset[k] = params.offset(c + k);
    }
    for (int64_t i = chunk * per_chunk + row; i < end; i += rows) {
      int64_t b, p;
      pixels(i, b, p);
      auto grad = load<N, S>(grad_y.data, grad_y.at(b, c, p));
      const auto out = load<N, S>(y.data, y.at(b, c, p));
#pragma unroll
      for (int k = 0; k < N; ++k) {
        sum_g[k] += grad.values[k];
        sum_gy[k] += grad.values[k] * (out.values[k] - offset[k]);
        grad.values[k] *= a[k];
      }
      store<S, N>(grad_x.data, grad_x.at(b, c, p), grad);
    }
  }
  for (int half = rows / 2; half > 0; half /= 2) {  // a tree over the rows; each cell is written once
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (row < half || row >= 2 * half) continue;
      tile[(2 * k) * block_threads + threadIdx.x] = sum_g[k];
      tile[(2 * k + 1) * block_threads + threadIdx.x] = sum_gy[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (row >= half) continue;
      sum_g[k] += tile[(2 * k) * block_threads + threadIdx.x + half * columns];
      sum_gy[k] += tile[(2 * k + 1) * block_threads + threadIdx.x + half * columns];
    }
  }
  if (row != 0 || c >= sums.channels) return;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    sums.partial[sums.grad(chunk, c + k)] = sum_g[k];
    sums.partial[sums.product(chunk, c + k)] = sum_gy[k];
  }
}

// The second step, one block a channel: the sums over the chunks, and with them the gradients of scale and shift.
template <class T>
__global__ void __launch_bounds__(block_threads)
    actnorm_param_grads(ActNormParams<T> params, ChannelSums<T> sums, device_ptr<const T> grad_logdet_sum, T pixels,
                        device_ptr<T> grad_scale, device_ptr<T> grad_shift) {
  const int64_t c = blockIdx.x;
  T sum_g = 0, sum_gy = 0;
  for (int64_t i = threadIdx.x; i < sums.chunks; i += block_threads) {
    sum_g += sums.partial[sums.grad(i, c)];
    sum_gy += sums.partial[sums.product(i, c)];
  }
  sum_g = group_sum(sum_g, block_threads);
  sum_gy = group_sum(sum_gy, block_threads);
  if (threadIdx.x != 0) return;
  const math::ActNormGrad<T> grad(params.scale[c], sum_g, sum_gy, pixels * grad_logdet_sum[0], params.log_scale,
                                  params.inverse);
  grad_scale[c] = grad.scale;
  grad_shift[c] = grad.shift;
}

// One block: sum[0] = the sum of all values.
template <class T>
__global__ void __launch_bounds__(block_threads)
    sum_vector(device_ptr<const T> values, int64_t count, device_ptr<T> sum) {
  T total = 0;
  for (int64_t i = threadIdx.x; i < count; i += block_threads) total += values[i];
  total = group_sum(total, block_threads);
  if (threadIdx.x == 0) sum[0] = total;
}

template <class T>
ActNormParams<T> params_of(const ActNorm& f) {
  return {view(static_cast<const T*>(f.scale.data), f.scale.extent),
          view(static_cast<const T*>(f.shift.data), f.shift.extent), f.log_scale, f.inverse};
}

template <class S>
bool packs_fit(const Shape& shape, std::initializer_list<const View*> views) {
  bool fit = Walk::divides(shape, 0, shape.channels, pack_width<S>);
  for (const View* v : views) fit = fit && cuda::packs_fit(*v, shape, shape.channels, pack_width<S>, sizeof(S));
  return fit;
}

template <class S, int N>
void launch_forward(const ActNormForward& f, Stream stream) {
  using T = Compute<S>;
  const Walk walk(f.shape, 0, f.shape.channels, N);
  const auto params = params_of<T>(f);
  const auto x = strided<const S>(f.x);
  const auto y = strided<S>(f.y);
  if (f.shape.size() > 0)
    FLOWKIT_LAUNCH((actnorm_kernel<S, N>), walk.blocks(), block_threads, 0, stream, params, walk, x, y);
  const auto logdet = view(static_cast<T*>(f.logdet.sum.data), f.logdet.sum.extent);
  const int64_t blocks = ceil_div(f.shape.batch, 4 * block_threads);
  const T pixels = static_cast<T>(f.shape.pixels);
  FLOWKIT_LAUNCH((actnorm_logdet_kernel<T>), static_cast<unsigned>(blocks), block_threads, 0, stream, params,
                 f.shape.channels, pixels, logdet, f.shape.batch, f.logdet.accumulate);
}

template <class S, int N>
void launch_backward(const ActNormBackward& f, Stream stream) {
  using T = Compute<S>;
  const auto params = params_of<T>(f);
  const auto grad_y = strided<const S>(f.grad_y), y = strided<const S>(f.y);
  const auto grad_x = strided<S>(f.grad_x);
  const auto partial = view(static_cast<T*>(f.partial.data), f.partial.extent);
  const ChannelSums<T> sums{partial, f.shape.channels, position_chunks(f.shape)};
  const device_ptr<T> logdet_sum = partial + 2 * sums.channels * sums.chunks;
  const int64_t positions = f.shape.batch * f.shape.pixels, per_chunk = positions_per_chunk(f.shape);
  const Divider pixels(f.shape.pixels);
  if (f.shape.channels_last) {
    const int64_t packs = f.shape.channels / N;
    int columns = 1;
    while (columns < warp_lanes && columns < packs) columns *= 2;
    const auto blocks = static_cast<unsigned>(ceil_div(packs, columns) * sums.chunks);
    FLOWKIT_LAUNCH((actnorm_backward_columns<S, N>), blocks, block_threads, 0, stream, params, pixels, positions,
                   per_chunk, columns, grad_y, y, grad_x, sums);
  } else {
    const auto blocks = static_cast<unsigned>(f.shape.channels * sums.chunks);
    FLOWKIT_LAUNCH((actnorm_backward_rows<S, N>), blocks, block_threads, 0, stream, params, pixels, positions,
                   per_chunk, grad_y, y, grad_x, sums);
  }
  const auto grad_logdet = view(static_cast<const T*>(f.grad_logdet.data), f.grad_logdet.extent);
  FLOWKIT_LAUNCH((sum_vector<T>), 1, block_threads, 0, stream, grad_logdet, f.shape.batch, logdet_sum);
  const auto grad_scale = view(static_cast<T*>(f.grad_scale.data), f.grad_scale.extent);
  const auto grad_shift = view(static_cast<T*>(f.grad_shift.data), f.grad_shift.extent);
  FLOWKIT_LAUNCH((actnorm_param_grads<T>), static_cast<unsigned>(f.shape.channels), block_threads, 0, stream, params,
                 sums, logdet_sum, static_cast<T>(f.shape.pixels), grad_scale, grad_shift);
}

}  // namespace

// Two sums for each channel and chunk, and the sum of the log-det's gradients.
int64_t actnorm_partial_size(const Shape& shape) { return 2 * shape.channels * position_chunks(shape) + 1; }

void actnorm(const ActNormForward& f, Stream stream) {
  if (f.shape.batch == 0) return;
  dispatch(f.dtype, [&](auto s) {
    using S = decltype(s);
    if (packs_fit<S>(f.shape, {&f.x, &f.y}))
      launch_forward<S, pack_width<S>>(f, stream);
    else
      launch_forward<S, 1>(f, stream);
  });
}

// Also runs for an empty batch, where the gradients of scale and shift are zeros to be written.
void actnorm_backward(const ActNormBackward& f, Stream stream) {
  if (f.shape.channels == 0) return;
  dispatch(f.dtype, [&](auto s) {
    using S = decltype(s);
    if (packs_fit<S>(f.shape, {&f.grad_y, &f.y, &f.grad_x}))
      launch_backward<S, pack_width<S>>(f, stream);
    else
      launch_backward<S, 1>(f, stream);
  });
}

}  // namespace flowkit::cuda
