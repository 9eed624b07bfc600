// How threads walk over a tensor (batch, channel, pixel): the walk, strided views, division, sums over groups of
// threads.
//
// Each sample is a run of elements in memory order (the fast index is the pixel, or the channel if channels are last),
// cut into chunks. A group of threads walks one chunk; a group is 1 to 32 lanes of a warp or the whole block, so that
// small samples share a block. Sums over a chunk are trees of fixed shape: the result does not depend on scheduling.
#pragma once

#include "../launch.h"
#include "device.cuh"

namespace flowkit::cuda {

constexpr int block_threads = 256;
constexpr int warp_lanes = 32;
constexpr int chunk_elements = 4096;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Quotient and remainder of 0 <= n < 2^63 by a divisor that is known at the launch: a multiplication and a shift
// (Granlund and Montgomery, 1994, figure 4.1).
struct Divider {
  uint64_t divisor, magic = 0;
  int shift = 0;

  explicit Divider(int64_t d) : divisor(d < 1 ? 1 : d) {
    while ((uint64_t(1) << shift) < divisor) ++shift;
    // 2^64 * (2^shift - divisor) / divisor + 1, by long division.
    uint64_t rest = (uint64_t(1) << shift) - divisor;
    for (int bit = 0; bit < 64; ++bit) {
      rest *= 2;
      magic = 2 * magic + (rest >= divisor);
      if (rest >= divisor) rest -= divisor;
    }
    ++magic;
  }

  __device__ __forceinline__ void operator()(int64_t n, int64_t& quotient, int64_t& remainder) const {
    quotient = static_cast<int64_t>((__umul64hi(static_cast<uint64_t>(n), magic) + static_cast<uint64_t>(n)) >> shift);
    remainder = n - quotient * static_cast<int64_t>(divisor);
  }
};

// A group's share of the work: elements [begin, end) of one sample, of which a thread takes every `stride`-th pack.
struct Task {
  int64_t index, sample, begin, end;
  int lane;
  bool valid;
};

struct Walk {
  int64_t samples, chunks, sample_size, first_channel, pixels;
  Divider fast, chunk;
  int group;
  bool channels_last;

  // The channels [first, first + count) of each sample, in packs of `pack` elements.
  Walk(const Shape& shape, int64_t first, int64_t count, int pack)
      : samples(shape.batch),
        chunks(chunks_of(count * shape.pixels)),
        sample_size(count * shape.pixels),
        first_channel(first),
        pixels(shape.pixels),
        fast(shape.channels_last ? count : shape.pixels),
        chunk(chunks),
        channels_last(shape.channels_last) {
    const int64_t packs = (sample_size < chunk_elements ? sample_size : chunk_elements) / pack;
    group = 1;
    while (group < warp_lanes && group < packs) group *= 2;
    if (packs > 4 * warp_lanes) group = block_threads;
  }

  static int64_t chunks_of(int64_t elements) {
    return elements > chunk_elements ? ceil_div(elements, chunk_elements) : 1;
  }

  unsigned blocks() const { return static_cast<unsigned>(ceil_div(samples * chunks, block_threads / group)); }

  // How often a thread turns to its next element, at most: the same number for all threads.
  __device__ __forceinline__ int64_t turns() const {
    const int64_t longest = sample_size < chunk_elements ? sample_size : chunk_elements;
    return (longest + group - 1) / group;
  }

  __device__ __forceinline__ Task task() const {
    Task t;
    t.lane = threadIdx.x % group;
    t.index = int64_t(blockIdx.x) * (block_threads / group) + threadIdx.x / group;
    chunk(t.index, t.sample, t.begin);
    t.valid = t.sample < samples;
    t.begin *= chunk_elements;
    t.end = t.begin + chunk_elements < sample_size ? t.begin + chunk_elements : sample_size;
    if (!t.valid) t.end = t.begin;
    return t;
  }

  __device__ __forceinline__ void place(int64_t element, int64_t& channel, int64_t& pixel) const {
    if (channels_last)
      fast(element, pixel, channel);
    else
      fast(element, channel, pixel);
    channel += first_channel;
  }

  // Whether packs of `pack` elements fit: no pack straddles a row or the end of a run of channels.
  static bool divides(const Shape& shape, int64_t first, int64_t count, int pack) {
    return shape.channels_last ? first % pack == 0 && count % pack == 0 : shape.pixels % pack == 0;
  }
};

// A strided view of storage type S.
template <class S>
struct Strided {
  device_ptr<S> data;
  int64_t batch, channel, pixel;

  __device__ __forceinline__ int64_t at(int64_t b, int64_t c, int64_t p) const {
    return b * batch + c * channel + p * pixel;
  }
};

// Named by the line that makes it, for the emulation's messages.
template <class S>
Strided<S> strided(const View& v, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {view(static_cast<S*>(v.data), v.extent, file, line), v.batch, v.channel, v.pixel};
}

// Whether a view allows aligned packs along the fast index; strides of dimensions of size 1 do not matter.
inline bool packs_fit(const View& v, const Shape& shape, int64_t channels, int pack, int element_bytes) {
  if (v.data == nullptr) return true;
  if (reinterpret_cast<uintptr_t>(v.data) % (pack * element_bytes) != 0) return false;
  if (shape.batch > 1 && v.batch % pack != 0) return false;
  const int64_t fast_stride = shape.channels_last ? v.channel : v.pixel;
  const int64_t slow_stride = shape.channels_last ? v.pixel : v.channel;
  const int64_t slow_size = shape.channels_last ? shape.pixels : channels;
  return fast_stride == 1 && (slow_size <= 1 || slow_stride % pack == 0);
}

// The sum of `value` over a group of threads, valid in the group's lane 0. All threads of the block must call it.
template <class T>
__device__ T group_sum(T value, int group) {
  const int steps = group < warp_lanes ? group : warp_lanes;
  for (int step = steps / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  if (group <= warp_lanes) return value;
  constexpr int warps = block_threads / warp_lanes;
  FLOWKIT_SHARED(T, warp_sums, warps);
  __syncthreads();  // a previous sum may still be read
  if (threadIdx.x % warp_lanes == 0) warp_sums[threadIdx.x / warp_lanes] = value;
  __syncthreads();
  if (threadIdx.x != 0) return value;
  T total = 0;
  for (int w = 0; w < warps; ++w) total += warp_sums[w];
  return total;
}

}  // namespace flowkit::cuda
