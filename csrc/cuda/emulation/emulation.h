// What nvcc would provide, for a host compiler: the kernels of this folder run on the CPU, with every access checked.
//
// Threads of a block are fibers on one operating-system thread. A fiber runs until it reaches a barrier or a warp
// operation; then the next one runs, always in the same order, so a run is reproducible. Defects that a GPU would hide
// raise std::runtime_error with the kernel, the block and the thread: see scheduler.cpp for those of synchronisation,
// memory.h for those of memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

using cudaStream_t = void*;

// The fiber that runs sees its own indices here: the scheduler sets them before it resumes a fiber.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace flowkit::emulation {

constexpr int warp_size = 32;

struct Location {
  const char* file;
  int line;
};

// Runs `body` (a call of the kernel) once for each thread of each block. Throws what a detector found.
void launch(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);

// Throws std::runtime_error: kernel, block and thread of the caller, then `message`.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

void block_barrier(Location where);

// Waits for the lanes of `mask` at the same place; returns the bits sent by lane `source`.
uint64_t warp_exchange(const char* operation, unsigned mask, int source, uint64_t bits, Location where);

// The lanes of `mask` whose `vote` is true.
unsigned warp_votes(unsigned mask, bool vote, Location where);

int lane();

template <class T>
T shuffle(const char* operation, unsigned mask, T value, int source, Location where) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_exchange(operation, mask, source, bits, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace flowkit::emulation

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  flowkit::emulation::block_barrier({file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  flowkit::emulation::warp_exchange("__syncwarp", mask, flowkit::emulation::lane(), 0, {file, line});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  const int source = flowkit::emulation::lane() ^ lane_mask;
  return flowkit::emulation::shuffle("__shfl_xor_sync", mask, value, source, {file, line});
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  const int lane = flowkit::emulation::lane(), target = lane + static_cast<int>(delta);
  const int source = target < flowkit::emulation::warp_size ? target : lane;
  return flowkit::emulation::shuffle("__shfl_down_sync", mask, value, source, {file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return flowkit::emulation::shuffle("__shfl_sync", mask, value, source % flowkit::emulation::warp_size, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, bool vote, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return flowkit::emulation::warp_votes(mask, vote, {file, line});
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
}

// Fibers never run at the same time, so a plain addition is atomic.
template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}

#include "memory.h"
#include "storage.h"

#define FLOWKIT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
  do {                                                                                                \
    (void)(stream);                                                                                   \
    ::flowkit::emulation::launch(#kernel, grid, block, shared_bytes, [&] { (kernel)(__VA_ARGS__); }); \
  } while (0)

// The static variable's address is the array's identity: one for each declaration and template instance, as in CUDA.
#define FLOWKIT_SHARED(T, name, count)   \
  static const char name##_identity = 0; \
  const auto name = ::flowkit::emulation::static_shared<T>(&name##_identity, #name, count)

#define FLOWKIT_DYNAMIC_SHARED(T, name) const auto name = ::flowkit::emulation::dynamic_shared<T>(#name)
