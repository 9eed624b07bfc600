// Leaky ReLU and channel permutation.
#include <cmath>

#include <initializer_list>

#include "../math/leaky_relu.h"
#include "logdet.cuh"
#include "storage.cuh"

namespace flowkit::cuda {
namespace {

template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    leaky_relu_kernel(math::LeakyRelu<Compute<S>> formula, Compute<S> log_slope, Walk walk, Strided<const S> x,
                      Strided<S> y, LogDetSink<Compute<S>> out) {
  const Task task = walk.task();
  int negative = 0;
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t c, p;
    walk.place(e, c, p);
    auto values = load<N, S>(x.data, x.at(task.sample, c, p));
#pragma unroll
    for (int k = 0; k < N; ++k) {
      negative += values.values[k] < 0;
      values.values[k] = formula.forward(values.values[k]);
    }
    store<S, N>(y.data, y.at(task.sample, c, p), values);
  }
  out.store(task, static_cast<Compute<S>>(negative) * log_slope, walk.group);
}

template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    leaky_relu_backward_kernel(math::LeakyRelu<Compute<S>> formula, Walk walk, Strided<const S> grad_y,
                               Strided<const S> y, Strided<S> grad_x) {
  const Task task = walk.task();
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t c, p;
    walk.place(e, c, p);
    auto grad = load<N, S>(grad_y.data, grad_y.at(task.sample, c, p));
    const auto out = load<N, S>(y.data, y.at(task.sample, c, p));
#pragma unroll
    for (int k = 0; k < N; ++k) grad.values[k] = formula.backward(grad.values[k], out.values[k]);
    store<S, N>(grad_x.data, grad_x.at(task.sample, c, p), grad);
  }
}

template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    permute_kernel(readonly_ptr<int64_t> permutation, bool inverse, Walk walk, Strided<const S> x, Strided<S> y) {
  const Task task = walk.task();
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t c, p;
    walk.place(e, c, p);
    const int64_t other = permutation[c];
    const auto values = load_pack<N, S>(x.data, x.at(task.sample, inverse ? c : other, p));
    store_pack<N, S>(y.data, y.at(task.sample, inverse ? other : c, p), values);
  }
}

template <class S>
int pack_of(const Shape& shape, std::initializer_list<const View*> views) {
  constexpr int n = pack_width<S>;
  bool fit = Walk::divides(shape, 0, shape.channels, n);
  for (const View* v : views) fit = fit && packs_fit(*v, shape, shape.channels, n, sizeof(S));
  return fit ? n : 1;
}

}  // namespace

void leaky_relu(const LeakyReluForward& f, Stream stream) {
  if (f.shape.batch == 0) return;
  dispatch(f.dtype, [&](auto s) {
    using S = decltype(s);
    using T = Compute<S>;
    constexpr int n = pack_width<S>;
    const int pack = pack_of<S>(f.shape, {&f.x, &f.y});
    const Walk walk(f.shape, 0, f.shape.channels, pack);
    const math::LeakyRelu<T> formula{static_cast<T>(f.inverse ? 1 / f.slope : f.slope)};
    const T log_slope = static_cast<T>(f.inverse ? -std::log(f.slope) : std::log(f.slope));
    const auto x = strided<const S>(f.x);
    const auto y = strided<S>(f.y);
    const auto out = sink<T>(f.logdet, walk.chunks);
    if (pack > 1)
      FLOWKIT_LAUNCH((leaky_relu_kernel<S, n>), walk.blocks(), block_threads, 0, stream, formula, log_slope, walk, x, y,
                     out);
    else
      FLOWKIT_LAUNCH((leaky_relu_kernel<S, 1>), walk.blocks(), block_threads, 0, stream, formula, log_slope, walk, x, y,
                     out);
    finish(out, f.shape.batch, stream);
  });
}

void leaky_relu_backward(const LeakyReluBackward& f, Stream stream) {
  if (f.shape.size() == 0) return;
  dispatch(f.dtype, [&](auto s) {
    using S = decltype(s);
    using T = Compute<S>;
    constexpr int n = pack_width<S>;
    const int pack = pack_of<S>(f.shape, {&f.grad_y, &f.y, &f.grad_x});
    const Walk walk(f.shape, 0, f.shape.channels, pack);
    const math::LeakyRelu<T> formula{static_cast<T>(f.inverse ? 1 / f.slope : f.slope)};
    const auto grad_y = strided<const S>(f.grad_y), y = strided<const S>(f.y);
    const auto grad_x = strided<S>(f.grad_x);
    if (pack > 1)
      FLOWKIT_LAUNCH((leaky_relu_backward_kernel<S, n>), walk.blocks(), block_threads, 0, stream, formula, walk, grad_y,
                     y, grad_x);
    else
      FLOWKIT_LAUNCH((leaky_relu_backward_kernel<S, 1>), walk.blocks(), block_threads, 0, stream, formula, walk, grad_y,
                     y, grad_x);
  });
}

void permute(const Permute& f, Stream stream) {
  if (f.shape.size() == 0) return;
  const auto launch = [&](auto s) {
    using S = decltype(s);
    constexpr int n = pack_width<S>;
    // Channels that lie side by side scatter, so only rows of pixels move in packs.
    const int pack = f.shape.channels_last ? 1 : pack_of<S>(f.shape, {&f.x, &f.y});
    const Walk walk(f.shape, 0, f.shape.channels, pack);
    const auto permutation = view(static_cast<const int64_t*>(f.permutation.data), f.permutation.extent);
    const auto x = strided<const S>(f.x);
    const auto y = strided<S>(f.y);
    if (pack > 1)
      FLOWKIT_LAUNCH((permute_kernel<S, n>), walk.blocks(), block_threads, 0, stream, permutation, f.inverse, walk, x,
                     y);
    else
      FLOWKIT_LAUNCH((permute_kernel<S, 1>), walk.blocks(), block_threads, 0, stream, permutation, f.inverse, walk, x,
                     y);
  };
  // A permutation moves bits: one kernel for each size of element.
  if (f.dtype == DType::float64)
    launch(uint64_t{});
  else if (f.dtype == DType::float32)
    launch(uint32_t{});
  else
    launch(uint16_t{});
}

}  // namespace flowkit::cuda
