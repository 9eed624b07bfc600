// Kernels of couplings whose elements have many parameters each (splines, mixtures): one template over the formula.
//
// A block gathers the elements that its tile transforms into slots, brings their parameters to shared memory in the
// order of memory, whatever the layout, and lets one thread transform one slot. Threads read and write tensors at
// elements that they walk over, so every access to memory is coalesced, and untouched channels keep no thread busy.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "../math/elementary.h"
#include "logdet.cuh"
#include "storage.cuh"

namespace flowkit::cuda {

constexpr int64_t staged_bytes = 24 * 1024;  // of shared memory for parameters: several blocks share a multiprocessor
constexpr int64_t most_staged_bytes = 36 * 1024;  // what a block may have besides its other arrays

// The parameters of one element in shared memory, as the formulas read them. What they remember of a parameter takes
// its place, since forward and inverse read it no more; in the backward it takes the place of its gradient, which comes
// after it has been recalled.
template <class T>
struct StagedParams {
  static constexpr bool remembers = true;
  shared_ptr<T> values, remembered;
  int first;

  __device__ __forceinline__ T operator()(int i) const { return values[first + i]; }
  __device__ __forceinline__ void remember(int i, T value) const { remembered[first + i] = value; }
  __device__ __forceinline__ T recall(int i) const { return remembered[first + i]; }
};

// Takes the gradients of one element's parameters.
template <class T>
struct StagedGrads {
  shared_ptr<T> values;
  int first;

  __device__ __forceinline__ void operator()(int i, T value) const { values[first + i] = value; }
};

// How parameters move between memory and slots: `pitch` is odd, so that slots start in different banks.
struct Staging {
  int parameters, pitch, slots;
  bool side_by_side;  // an element's parameters are neighbours in memory

  // `arrays`: parameters alone, or their gradients too.
  template <class T>
  static Staging of(int64_t parameters, const ParameterView& params, int arrays) {
    const int64_t pitch = parameters | 1, slot_bytes = pitch * arrays * static_cast<int64_t>(sizeof(T));
    int64_t slots = std::min<int64_t>(staged_bytes / slot_bytes, block_threads);
    if (slots < warp_lanes) slots = std::min<int64_t>(most_staged_bytes / slot_bytes, warp_lanes);
    if (slots < 1) throw std::runtime_error("flowkit: an element has too many parameters for the CUDA kernels");
    if (slots > warp_lanes) slots -= slots % warp_lanes;
    return {static_cast<int>(parameters), static_cast<int>(pitch), static_cast<int>(slots), params.parameter == 1};
  }

  template <class T>
  size_t bytes(int arrays) const {
    return size_t(slots) * pitch * arrays * sizeof(T);
  }

  // put(slot, parameter, get(slot, parameter)) for every parameter of the first `count` slots: neighbouring threads
  // take neighbouring parameters, or else the same parameter of neighbouring slots. A thread gets several before it
  // puts them.
  template <class Get, class Put>
  __device__ __forceinline__ void each(int count, Get get, Put put) const {
    constexpr int batch = 4;
    const int fast = side_by_side ? parameters : count, total = parameters * count;
    const int step_slow = block_threads / fast, step_fast = block_threads % fast;
    int at_slow = threadIdx.x / fast, at_fast = threadIdx.x % fast;
    for (int i = threadIdx.x; i < total; i += batch * block_threads) {
      decltype(get(0, 0)) values[batch];
      int slot[batch], parameter[batch];
#pragma unroll
      for (int k = 0; k < batch; ++k) {
        slot[k] = side_by_side ? at_slow : at_fast;
        parameter[k] = side_by_side ? at_fast : at_slow;
        if (i + k * block_threads < total) values[k] = get(slot[k], parameter[k]);
        at_slow += step_slow;
        at_fast += step_fast;
        if (at_fast >= fast) {
          at_fast -= fast;
          ++at_slow;
        }
      }
#pragma unroll
      for (int k = 0; k < batch; ++k)
        if (i + k * block_threads < total) put(slot[k], parameter[k], values[k]);
    }
  }
};

// The number of threads before this one whose `chosen` is true, and in `total` of all. All threads of the block must
// call it; it ends with a barrier passed by all.
__device__ __forceinline__ int count_before(bool chosen, int& total) {
  constexpr int warps = block_threads / warp_lanes;
  FLOWKIT_SHARED(int, counts, warps);
  const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
  const unsigned votes = __ballot_sync(0xffffffffu, chosen);
  __syncthreads();  // previous counts may still be read
  if (lane == 0) counts[warp] = __popc(votes);
  __syncthreads();
  int before = __popc(votes & ((1u << lane) - 1u));
  total = 0;
  for (int w = 0; w < warps; ++w) {
    const int n = counts[w];
    if (w < warp) before += n;
    total += n;
  }
  return before;
}

template <class S>
struct StridedParameters {
  device_ptr<S> data;
  int64_t batch, channel, parameter, pixel;

  // The first parameter of an element.
  __device__ __forceinline__ int64_t at(int64_t b, int64_t c, int64_t p) const {
    return b * batch + c * channel + p * pixel;
  }
};

template <class S>
StridedParameters<S> strided(const ParameterView& v, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {view(static_cast<S*>(v.data), v.extent, file, line), v.batch, v.channel, v.parameter, v.pixel};
}

template <class S>
struct ParametricViews {
  StridedParameters<const S> params;
  readonly_ptr<int64_t> permutation;
  int64_t begin, end;
  Staging staging;

  // The threads walk over the permuted channels; the same channel before the permutation.
  __device__ __forceinline__ int64_t source(int64_t walked) const { return permutation ? permutation[walked] : walked; }
  __device__ __forceinline__ bool moves(int64_t channel) const { return channel >= begin && channel < end; }
  // The parameters of the first `count` slots, which begin at `rows`, into the tile.
  __device__ __forceinline__ void fetch(int count, shared_ptr<int64_t> rows, shared_ptr<Compute<S>> tile) const {
    using T = Compute<S>;
    staging.each(
        count, [&](int slot, int i) -> T { return widen(params.data[rows[slot] + i * params.parameter]); },
        [&](int slot, int i, T value) { tile[slot * staging.pitch + i] = value; });
  }
};

// Walks over the task's elements, one a thread and turn. read(channel, walked, pixel) and write(same) move the thread's
// own element; in between, each element that is transformed passes through a slot: enter(slot, channel, pixel) and
// leave(slot) are called by the element's thread, stage(count), transform(slot) and unstage(count) by the slots'
// threads. All threads of the block must call it.
template <class S, class Read, class Enter, class Stage, class Transform, class Unstage, class Leave, class Write>
__device__ __forceinline__ void walk_in_slots(const Walk& walk, const Task& task, const ParametricViews<S>& part,
                                              Read read, Enter enter, Stage stage, Transform transform, Unstage unstage,
                                              Leave leave, Write write) {
  const int slots = part.staging.slots;
  for (int64_t turn = 0; turn < walk.turns(); ++turn) {
    const int64_t element = task.begin + turn * walk.group + task.lane;
    const bool inside = element < task.end;
    int64_t walked = 0, channel = 0, pixel = 0;
    if (inside) {
      walk.place(element, walked, pixel);
      channel = part.source(walked);
      read(channel, walked, pixel);
    }
    const bool moved = inside && part.moves(channel);
    int total;
    const int index = count_before(moved, total);
    for (int first = 0; first < total; first += slots) {
      const int slot = index - first, count = total - first < slots ? total - first : slots;
      const bool here = moved && slot >= 0 && slot < count;
      if (first > 0) __syncthreads();  // the slots of the round before have been left
      if (here) enter(slot, channel, pixel);
      __syncthreads();
      stage(count);
      __syncthreads();
      if (static_cast<int>(threadIdx.x) < count) transform(static_cast<int>(threadIdx.x));
      __syncthreads();
      unstage(count);
      if (here) leave(slot);
    }
    if (inside) write(channel, walked, pixel);
  }
}

template <class Math, class S, bool inverse>
__global__ void __launch_bounds__(block_threads)
    parametric_kernel(Math formula, Walk walk, ParametricViews<S> part, Strided<const S> x, Strided<S> y,
                      LogDetSink<Compute<S>> out) {
  using T = Compute<S>;
  FLOWKIT_DYNAMIC_SHARED(T, tile);
  FLOWKIT_SHARED(int64_t, rows, block_threads);
  FLOWKIT_SHARED(T, values, block_threads);
  FLOWKIT_SHARED(T, logs, block_threads);
  const Task task = walk.task();
  const int64_t b = task.sample;
  const Staging& staging = part.staging;
  T value = 0, logdet = 0;
  walk_in_slots(
      walk, task, part,
      [&](int64_t c, int64_t walked, int64_t p) { value = widen(x.data[x.at(b, inverse ? walked : c, p)]); },
      [&](int slot, int64_t c, int64_t p) {
        rows[slot] = part.params.at(b, c - part.begin, p);
        values[slot] = value;
      },
      [&](int count) { part.fetch(count, rows, tile); },
      [&](int slot) {
        T log = 0;
        const StagedParams<T> params{tile, tile, slot * staging.pitch};
        values[slot] =
            inverse ? formula.inverse(values[slot], params, log) : formula.forward(values[slot], params, log);
        logs[slot] = log;
      },
      [](int) {},
      [&](int slot) {
        value = values[slot];
        logdet += logs[slot];
      },
      [&](int64_t c, int64_t walked, int64_t p) { y.data[y.at(b, inverse ? c : walked, p)] = narrow<S>(value); });
  out.store(task, logdet, walk.group);
}

// `kept` is the side of x, see launch.h.
template <class Math, class S>
__global__ void __launch_bounds__(block_threads)
    parametric_backward_kernel(Math formula, Walk walk, ParametricViews<S> part, bool inverse, Strided<const S> grad_y,
                               Strided<const S> kept, readonly_ptr<Compute<S>> grad_logdet, Strided<S> grad_x,
                               StridedParameters<S> grad_params) {
  using T = Compute<S>;
  FLOWKIT_DYNAMIC_SHARED(T, tile);
  FLOWKIT_SHARED(int64_t, rows, block_threads);
  FLOWKIT_SHARED(int64_t, grad_rows, block_threads);
  FLOWKIT_SHARED(T, values, block_threads);
  FLOWKIT_SHARED(T, grads, block_threads);
  FLOWKIT_SHARED(T, grad_logs, block_threads);
  const Task task = walk.task();
  const int64_t b = task.sample;
  const Staging& staging = part.staging;
  const shared_ptr<T> grad_tile = tile + staging.slots * staging.pitch;
  const T grad_log = task.valid ? grad_logdet[b] : T(0);
  T grad = 0;
  walk_in_slots(
      walk, task, part,
      [&](int64_t c, int64_t walked, int64_t p) { grad = widen(grad_y.data[grad_y.at(b, inverse ? c : walked, p)]); },
      [&](int slot, int64_t c, int64_t p) {
        rows[slot] = part.params.at(b, c - part.begin, p);
        grad_rows[slot] = grad_params.at(b, c - part.begin, p);
        values[slot] = widen(kept.data[kept.at(b, c, p)]);
        grads[slot] = grad;
        grad_logs[slot] = grad_log;
      },
      [&](int count) { part.fetch(count, rows, tile); },
      [&](int slot) {
        const StagedParams<T> params{tile, grad_tile, slot * staging.pitch};
        const StagedGrads<T> to{grad_tile, slot * staging.pitch};
        grads[slot] = formula.backward(grads[slot], grad_logs[slot], values[slot], params, to, inverse);
      },
      [&](int count) {
        staging.each(
            count, [&](int slot, int i) -> T { return grad_tile[slot * staging.pitch + i]; },
            [&](int slot, int i, T value) {
              grad_params.data[grad_rows[slot] + i * grad_params.parameter] = narrow<S>(value);
            });
      },
      [&](int slot) { grad = grads[slot]; },
      [&](int64_t c, int64_t walked, int64_t p) {
        grad_x.data[grad_x.at(b, inverse ? walked : c, p)] = narrow<S>(grad);
      });
}

template <class S, class Options>
ParametricViews<S> parametric_views(const Parametric<Options>& c, const Staging& staging) {
  return {strided<const S>(c.params), view(static_cast<const int64_t*>(c.permutation.data), c.permutation.extent),
          c.begin, c.begin + c.count, staging};
}

template <class Math, class S, class Options>
void launch_parametric(const ParametricForward<Options>& c, Stream stream) {
  using T = Compute<S>;
  const bool in_place = c.x.data == c.y.data;  // the untouched channels are where they belong
  const Walk walk(c.shape, in_place ? c.begin : 0, in_place ? c.count : c.shape.channels, 1);
  const Staging staging = Staging::of<T>(c.parameters, c.params, 1);
  const auto part = parametric_views<S>(c, staging);
  const auto x = strided<const S>(c.x);
  const auto y = strided<S>(c.y);
  const LogDetSink<T> out = sink<T>(c.logdet, walk.chunks);
  if (c.inverse)
    FLOWKIT_LAUNCH((parametric_kernel<Math, S, true>), walk.blocks(), block_threads, staging.bytes<T>(1), stream,
                   Math(c.options), walk, part, x, y, out);
  else
    FLOWKIT_LAUNCH((parametric_kernel<Math, S, false>), walk.blocks(), block_threads, staging.bytes<T>(1), stream,
                   Math(c.options), walk, part, x, y, out);
  finish(out, c.shape.batch, stream);
}

template <class Math, class S, class Options>
void launch_parametric_backward(const ParametricBackward<Options>& c, Stream stream) {
  using T = Compute<S>;
  const Walk walk(c.shape, 0, c.shape.channels, 1);
  const Staging staging = Staging::of<T>(c.parameters, c.params, 2);
  const auto part = parametric_views<S>(c, staging);
  const auto grad_y = strided<const S>(c.grad_y), x = strided<const S>(c.x);
  const auto grad_x = strided<S>(c.grad_x);
  const auto grad_params = strided<S>(c.grad_params);
  const auto grad_logdet = view(static_cast<const T*>(c.grad_logdet.data), c.grad_logdet.extent);
  FLOWKIT_LAUNCH((parametric_backward_kernel<Math, S>), walk.blocks(), block_threads, staging.bytes<T>(2), stream,
                 Math(c.options), walk, part, c.inverse, grad_y, x, grad_logdet, grad_x, grad_params);
}

// The entry points of a family: Math is its struct of csrc/math.
template <template <class> class Math, class Options>
void parametric(const ParametricForward<Options>& c, Stream stream) {
  if (c.shape.batch == 0) return;
  dispatch(c.dtype, [&](auto s) { launch_parametric<Math<Compute<decltype(s)>>, decltype(s)>(c, stream); });
}

template <template <class> class Math, class Options>
void parametric_backward(const ParametricBackward<Options>& c, Stream stream) {
  if (c.shape.batch == 0) return;
  dispatch(c.dtype, [&](auto s) { launch_parametric_backward<Math<Compute<decltype(s)>>, decltype(s)>(c, stream); });
}

}  // namespace flowkit::cuda
