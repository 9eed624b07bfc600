// Actnorm on a GPU: its parameters, and the walk that sums gradients for every channel over batch and pixels while it
// passes them on, in two steps of fixed order.
#pragma once

#include <initializer_list>

#include "../math/actnorm.h"
#include "geometry.cuh"
#include "storage.cuh"

namespace flowkit::cuda {

constexpr int64_t most_chunks = 512;

template <class T>
struct ActNormParams {
  device_ptr<const T> scale, shift;  // null: no actnorm
  bool log_scale, inverse;

  __device__ __forceinline__ math::ActNormChannel<T> operator[](int64_t c) const {
    return {scale[c], shift[c], log_scale, inverse};
  }
  // The map of the other direction.
  __device__ __forceinline__ math::ActNormChannel<T> back(int64_t c) const {
    return {scale[c], shift[c], log_scale, !inverse};
  }
  __device__ __forceinline__ T offset(int64_t c) const { return math::actnorm_offset(shift[c], log_scale, inverse); }
};

template <class T>
ActNormParams<T> actnorm_params(const Array& scale, const Array& shift, bool log_scale, bool inverse) {
  return {view(static_cast<const T*>(scale.data), scale.extent), view(static_cast<const T*>(shift.data), shift.extent),
          log_scale, inverse};
}

// Applies channel c to all lanes of a pack, or channels c, c + 1, ... to one lane each.
template <class T, int N>
__device__ __forceinline__ void normalise(const ActNormParams<T>& params, bool channels_last, int64_t c,
                                          Pack<T, N>& values) {
  if (channels_last) {
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
}

// log|a| of channel c, or of channels c, ..., c + N - 1.
template <int N, class T>
__device__ __forceinline__ T log_abs_det(const ActNormParams<T>& params, bool channels_last, int64_t c) {
  T sum = params[c].log_abs_a;
#pragma unroll
  for (int k = 1; k < N; ++k)
    if (channels_last) sum += params[c + k].log_abs_a;
  return sum;
}

// Positions are pairs of sample and pixel. The backward cuts them into at most `most_chunks` chunks, whole packs each.
inline int64_t positions_per_chunk(const Shape& shape) {
  const int64_t positions = shape.batch * shape.pixels;
  const int64_t least = shape.channels_last ? 64 : chunk_elements;
  const int64_t even = ceil_div(ceil_div(positions, most_chunks), 8) * 8;
  return even > least ? even : least;
}

inline int64_t position_chunks(const Shape& shape) {
  const int64_t chunks = ceil_div(shape.batch * shape.pixels, positions_per_chunk(shape));
  return chunks < 1 ? 1 : chunks;
}

// Two sums for each channel and chunk, and the sum of the log-det's gradients.
inline int64_t channel_sums_size(const Shape& shape) { return 2 * shape.channels * position_chunks(shape) + 1; }

// Sums of grad_y and grad_y * (y - offset), by chunk and channel.
template <class T>
struct ChannelSums {
  device_ptr<T> partial;
  int64_t channels, chunks;

  __device__ __forceinline__ int64_t grad(int64_t chunk, int64_t c) const { return chunk * channels + c; }
  __device__ __forceinline__ int64_t product(int64_t chunk, int64_t c) const { return (chunks + chunk) * channels + c; }
};

// What a thread does at each position is `element`'s: begin<lanes>(channel) gives what it keeps of the channel, or of
// the channels channel, channel + 1, ..., and element(kept, sample, channel, pixel, sum_g, sum_gy) adds to the sums of
// its N lanes and passes the gradient on.

// Pixels are the fast index: one block for each channel and chunk of positions.
template <class Element, class T, int N>
__global__ void __launch_bounds__(block_threads)
    channel_sums_rows(Element element, Divider pixels, int64_t positions, int64_t per_chunk, ChannelSums<T> sums) {
  const int64_t chunk = blockIdx.x % sums.chunks, c = blockIdx.x / sums.chunks;
  const int64_t end = (chunk + 1) * per_chunk < positions ? (chunk + 1) * per_chunk : positions;
  const auto kept = element.template begin<1>(c);
  T sum_g[N] = {}, sum_gy[N] = {};
  for (int64_t i = chunk * per_chunk + threadIdx.x * N; i < end; i += block_threads * N) {
    int64_t b, p;
    pixels(i, b, p);
    element(kept, b, c, p, sum_g, sum_gy);
  }
#pragma unroll
  for (int k = 1; k < N; ++k) {
    sum_g[0] += sum_g[k];
    sum_gy[0] += sum_gy[k];
  }
  const T total_g = group_sum(sum_g[0], block_threads), total_gy = group_sum(sum_gy[0], block_threads);
  if (threadIdx.x != 0) return;
  sums.partial[sums.grad(chunk, c)] = total_g;
  sums.partial[sums.product(chunk, c)] = total_gy;
}

// Channels are the fast index: a block takes `columns` packs of channels in each of block_threads / columns positions.
template <class Element, class T, int N>
__global__ void __launch_bounds__(block_threads)
    channel_sums_columns(Element element, Divider pixels, int64_t positions, int64_t per_chunk, int columns,
                         ChannelSums<T> sums) {
  FLOWKIT_SHARED(T, tile, block_threads * N * 2);
  const int64_t chunk = blockIdx.x % sums.chunks;
  const int column = threadIdx.x % columns, row = threadIdx.x / columns, rows = block_threads / columns;
  const int64_t c = (blockIdx.x / sums.chunks * columns + column) * N;
  const int64_t end = (chunk + 1) * per_chunk < positions ? (chunk + 1) * per_chunk : positions;
  T sum_g[N] = {}, sum_gy[N] = {};
  if (c < sums.channels) {
    const auto kept = element.template begin<N>(c);
    for (int64_t i = chunk * per_chunk + row; i < end; i += rows) {
      int64_t b, p;
      pixels(i, b, p);
      element(kept, b, c, p, sum_g, sum_gy);
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

// Walks over (batch, channel, pixel) with `element`, in packs of N, and turns the sums into gradients.
template <class T, int N, class Element>
void launch_channel_sums(const Shape& shape, const Element& element, const ActNormParams<T>& params,
                         const Array& scratch, const Array& grad_logdet, const Array& grad_scale,
                         const Array& grad_shift, Stream stream) {
  const auto partial = view(static_cast<T*>(scratch.data), scratch.extent);
  const ChannelSums<T> sums{partial, shape.channels, position_chunks(shape)};
  const device_ptr<T> logdet_sum = partial + 2 * sums.channels * sums.chunks;
  const int64_t positions = shape.batch * shape.pixels, per_chunk = positions_per_chunk(shape);
  const Divider pixels(shape.pixels);
  if (shape.channels_last) {
    const int64_t packs = shape.channels / N;
    int columns = 1;
    while (columns < warp_lanes && columns < packs) columns *= 2;
    const auto blocks = static_cast<unsigned>(ceil_div(packs, columns) * sums.chunks);
    FLOWKIT_LAUNCH((channel_sums_columns<Element, T, N>), blocks, block_threads, 0, stream, element, pixels, positions,
                   per_chunk, columns, sums);
  } else {
    const auto blocks = static_cast<unsigned>(shape.channels * sums.chunks);
    FLOWKIT_LAUNCH((channel_sums_rows<Element, T, N>), blocks, block_threads, 0, stream, element, pixels, positions,
                   per_chunk, sums);
  }
  const auto grad_l = view(static_cast<const T*>(grad_logdet.data), grad_logdet.extent);
  FLOWKIT_LAUNCH(sum_vector<T>, 1, block_threads, 0, stream, grad_l, shape.batch, logdet_sum);
  const auto to_scale = view(static_cast<T*>(grad_scale.data), grad_scale.extent);
  const auto to_shift = view(static_cast<T*>(grad_shift.data), grad_shift.extent);
  FLOWKIT_LAUNCH(actnorm_param_grads<T>, static_cast<unsigned>(shape.channels), block_threads, 0, stream, params, sums,
                 logdet_sum, static_cast<T>(shape.pixels), to_scale, to_shift);
}

}  // namespace flowkit::cuda
