// Where the elementwise kernels leave their log-determinants: sums of chunks, summed over the chunks by a second
// kernel.
#pragma once

#include "geometry.cuh"

namespace flowkit::cuda {

template <class T>
struct LogDetSink {
  device_ptr<T> sum, partial;
  int64_t chunks;
  bool accumulate;

  // Stores the sum over a group of threads. All threads of the block must call it.
  __device__ __forceinline__ void store(const Task& task, T value, int group) const {
    value = group_sum(value, group);
    if (!task.valid || task.lane != 0) return;
    if (chunks > 1)
      partial[task.index] = value;
    else
      sum[task.sample] = accumulate ? sum[task.sample] + value : value;
  }
};

template <class T>
LogDetSink<T> sink(const LogDet& logdet, int64_t chunks) {
  return {view(static_cast<T*>(logdet.sum.data), logdet.sum.extent),
          view(static_cast<T*>(logdet.partial.data), logdet.partial.extent), chunks, logdet.accumulate};
}

// One block a sample.
template <class T>
__global__ void __launch_bounds__(block_threads) sum_partials(LogDetSink<T> out) {
  T sum = 0;
  for (int64_t i = threadIdx.x; i < out.chunks; i += block_threads) sum += out.partial[blockIdx.x * out.chunks + i];
  sum = group_sum(sum, block_threads);
  if (threadIdx.x == 0) out.sum[blockIdx.x] = out.accumulate ? out.sum[blockIdx.x] + sum : sum;
}

template <class T>
void finish(const LogDetSink<T>& out, int64_t samples, Stream stream) {
  if (out.chunks > 1) FLOWKIT_LAUNCH(sum_partials<T>, static_cast<unsigned>(samples), block_threads, 0, stream, out);
}

}  // namespace flowkit::cuda
