// The one door of the kernels to their compiler: CUDA's headers under nvcc, the emulation elsewhere.
//
// Kernels take `device_ptr<T>` (a view that another argument may alias: an in-place output) and `readonly_ptr<T>`
// (never written while the kernel runs), made by `view(pointer, extent)` in the launcher. Both are plain pointers under
// nvcc.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace flowkit {

template <class T>
using device_ptr = T*;
template <class T>
using readonly_ptr = const T* __restrict__;
template <class T>
using shared_ptr = T*;

template <class T>
T* view(T* data, int64_t, const char* = "", int = 0) {
  return data;
}

inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("kernel ") + kernel + ": " + cudaGetErrorString(error));
}

}  // namespace flowkit

#define FLOWKIT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                             \
  do {                                                                                             \
    (kernel)<<<(grid), (block), (shared_bytes), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__); \
    ::flowkit::check_launch(#kernel);                                                              \
  } while (0)

#define FLOWKIT_SHARED(T, name, count) __shared__ T name[count]

#define FLOWKIT_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char flowkit_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(flowkit_dynamic_shared)

#else

#include "emulation/emulation.h"

#endif

namespace flowkit {

// N neighbouring elements that move in one instruction.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_pack(device_ptr<const T> data, int64_t i) {
#if defined(__CUDACC__)
  return *reinterpret_cast<const Pack<T, N>*>(data + i);
#else
  return *reinterpret_cast<const Pack<T, N>*>(data.check(i, N));
#endif
}

template <int N, class T>
__device__ __forceinline__ void store_pack(device_ptr<T> data, int64_t i, const Pack<T, N>& pack) {
#if defined(__CUDACC__)
  *reinterpret_cast<Pack<T, N>*>(data + i) = pack;
#else
  *reinterpret_cast<Pack<T, N>*>(data.check(i, N)) = pack;
#endif
}

}  // namespace flowkit
