// Tiny kernels for the tests of the emulation: correct ones, and one with each defect that a detector must find.
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "device.cuh"

using flowkit::device_ptr;
using flowkit::readonly_ptr;
using flowkit::view;

constexpr int block_threads = 128;

// ---- correct kernels

__global__ void block_sum(readonly_ptr<float> x, device_ptr<float> sums, int n) {
  FLOWKIT_SHARED(float, warps, block_threads / 32);
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = i < n ? x[i] : 0.f;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0.f;
  for (int w = 0; w < block_threads / 32; ++w) total += warps[w];
  sums[blockIdx.x] = total;
}

template <class T>
__global__ void transpose(readonly_ptr<T> x, device_ptr<T> y, int rows, int columns) {
  FLOWKIT_SHARED(T, tile, 8 * 9);
  const int column = blockIdx.x * 8 + threadIdx.x, row = blockIdx.y * 8 + threadIdx.y;
  if (row < rows && column < columns) tile[threadIdx.y * 9 + threadIdx.x] = x[row * columns + column];
  __syncthreads();
  const int out_column = blockIdx.y * 8 + threadIdx.x, out_row = blockIdx.x * 8 + threadIdx.y;
  if (out_row < columns && out_column < rows) y[out_row * rows + out_column] = tile[threadIdx.x * 9 + threadIdx.y];
}

__global__ void histogram(readonly_ptr<int> x, device_ptr<int> counts, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&counts[x[i]], 1);
}

// Neighbours in a warp exchange through shared memory with __syncwarp alone; the last lane reads down to lane 0.
__global__ void rotate_warp(readonly_ptr<int> x, device_ptr<int> y) {
  FLOWKIT_DYNAMIC_SHARED(int, slots);
  const int lane = threadIdx.x % 32, warp = threadIdx.x - lane;
  slots[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  const int neighbour = slots[warp + (lane + 1) % 32];
  __syncwarp();
  slots[threadIdx.x] = neighbour;
  y[threadIdx.x] = __shfl_sync(0xffffffffu, static_cast<int>(slots[threadIdx.x]), lane) + __shfl_down_sync(0xffffffffu, 0, 1);
}

// ---- planted defects

__global__ void global_read_off_by_one(readonly_ptr<float> x, device_ptr<float> y, int n) {
  const int i = threadIdx.x;
  if (i < n) y[i] = x[i + 1];
}

__global__ void misaligned_pack(readonly_ptr<float> x, device_ptr<float> y) {
  flowkit::store_pack<4>(y, 0, flowkit::load_pack<4, float>(x, 1));
}

__global__ void shared_write_off_by_one(device_ptr<float> y) {
  FLOWKIT_SHARED(float, cells, block_threads);
  cells[threadIdx.x + 1] = 1.f;
  __syncthreads();
  y[threadIdx.x] = cells[threadIdx.x];
}

__global__ void shared_never_written(device_ptr<float> y) {
  FLOWKIT_SHARED(float, cells, block_threads);
  if (threadIdx.x != 5) cells[threadIdx.x] = 1.f;
  __syncthreads();
  y[threadIdx.x] = cells[threadIdx.x];
}

__global__ void barrier_in_branch(device_ptr<float> y) {
  if (threadIdx.x < 64) {
    y[threadIdx.x] = 1.f;
    __syncthreads();
  } else {
    y[threadIdx.x] = 2.f;
    __syncthreads();
  }
}

__global__ void barrier_after_exit(device_ptr<float> y) {
  if (threadIdx.x == 77) return;
  __syncthreads();
  y[threadIdx.x] = 1.f;
}

__global__ void shuffle_without_lane(device_ptr<float> y) {
  if (threadIdx.x == 40) return;
  y[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.f, 1);
}

__global__ void shuffle_outside_mask(device_ptr<float> y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 20);
}

__global__ void missing_barrier(device_ptr<float> y) {
  FLOWKIT_SHARED(float, cells, block_threads);
  cells[threadIdx.x] = 1.f;
  y[threadIdx.x] = cells[(threadIdx.x + 1) % block_threads];
}

// Each thread reads behind the writer, so only the order of the accesses is wrong: the next write comes too early.
__global__ void missing_second_barrier(device_ptr<float> y) {
  FLOWKIT_SHARED(float, cells, block_threads);
  cells[threadIdx.x] = 1.f;
  __syncthreads();
  y[threadIdx.x] = cells[(threadIdx.x + block_threads - 1) % block_threads];
  cells[threadIdx.x] = 2.f;
}

// ---- runs by name

static bool near(float a, float b) { return a - b < 1e-3f && b - a < 1e-3f; }

static std::string run_correct() {
  const int n = 300;
  std::vector<float> x(n), sums(3);
  std::vector<int> keys(n), counts(7), rotated(64);
  for (int i = 0; i < n; ++i) x[i] = float(i), keys[i] = i % 7;
  FLOWKIT_LAUNCH(block_sum, 3, block_threads, 0, nullptr, view<const float>(x.data(), n), view(sums.data(), 3), n);
  if (!near(sums[0], 127 * 64) || !near(sums[0] + sums[1] + sums[2], 299 * 150)) return "block_sum";
  std::vector<float> y(n);
  FLOWKIT_LAUNCH(transpose<float>, dim3(4, 2), dim3(8, 8), 0, nullptr, view<const float>(x.data(), n), view(y.data(), n), 10, 30);
  for (int i = 0; i < n; ++i)
    if (y[(i % 30) * 10 + i / 30] != x[i]) return "transpose";
  FLOWKIT_LAUNCH(histogram, 3, block_threads, 0, nullptr, view<const int>(keys.data(), n), view(counts.data(), 7), n);
  for (int k = 0; k < 7; ++k)
    if (counts[k] != (k < n % 7 ? n / 7 + 1 : n / 7)) return "histogram";
  FLOWKIT_LAUNCH(rotate_warp, 1, 64, 64 * sizeof(int), nullptr, view<const int>(keys.data(), 64), view(rotated.data(), 64));
  for (int i = 0; i < 64; ++i)
    if (rotated[i] != keys[i / 32 * 32 + (i + 1) % 32]) return "rotate_warp";
  return "";
}

static void run_planted(const std::string& name) {
  std::vector<float> x(block_threads), y(block_threads);
  const auto in = view<const float>(x.data(), block_threads);
  const auto out = view(y.data(), block_threads);
  const int n = block_threads;
  if (name == "global_read_off_by_one") FLOWKIT_LAUNCH(global_read_off_by_one, 1, n, 0, nullptr, in, out, n);
  if (name == "misaligned_pack") FLOWKIT_LAUNCH(misaligned_pack, 1, 1, 0, nullptr, in, out);
  if (name == "shared_write_off_by_one") FLOWKIT_LAUNCH(shared_write_off_by_one, 1, n, 0, nullptr, out);
  if (name == "shared_never_written") FLOWKIT_LAUNCH(shared_never_written, 1, n, 0, nullptr, out);
  if (name == "barrier_in_branch") FLOWKIT_LAUNCH(barrier_in_branch, 1, n, 0, nullptr, out);
  if (name == "barrier_after_exit") FLOWKIT_LAUNCH(barrier_after_exit, 1, n, 0, nullptr, out);
  if (name == "shuffle_without_lane") FLOWKIT_LAUNCH(shuffle_without_lane, 1, n, 0, nullptr, out);
  if (name == "shuffle_in_partial_warp") FLOWKIT_LAUNCH(block_sum, 1, 100, 0, nullptr, in, out, n);
  if (name == "shuffle_outside_mask") FLOWKIT_LAUNCH(shuffle_outside_mask, 1, n, 0, nullptr, out);
  if (name == "missing_barrier") FLOWKIT_LAUNCH(missing_barrier, 1, n, 0, nullptr, out);
  if (name == "missing_second_barrier") FLOWKIT_LAUNCH(missing_second_barrier, 1, n, 0, nullptr, out);
  if (name == "block_too_large") FLOWKIT_LAUNCH(shared_never_written, 1, 1025, 0, nullptr, out);
  if (name == "shared_too_large") FLOWKIT_LAUNCH(rotate_warp, 1, 64, 49 * 1024, nullptr, view<const int>(nullptr, 0), view<int>(nullptr, 0));
}

// Runs the correct kernels ("correct") or one planted defect; writes what went wrong into `message`.
extern "C" __attribute__((visibility("default"))) void run(const char* name, char* message, int size) {
  std::string text;
  try {
    if (std::strcmp(name, "correct") == 0)
      text = run_correct();
    else
      run_planted(name);
  } catch (const std::exception& error) {
    text = error.what();
  }
  std::snprintf(message, size, "%s", text.c_str());
}

// Rounds `value` to a 16-bit type and back.
extern "C" __attribute__((visibility("default"))) float round_trip(float value, bool half) {
  return half ? __half2float(__float2half(value)) : __bfloat162float(__float2bfloat16(value));
}
