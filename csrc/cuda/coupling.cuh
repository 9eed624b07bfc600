// Kernels of the affine and additive couplings: one pass for split, transform, untouched channels, permutation, the
// actnorm that may follow, log-det.
#pragma once

#include <initializer_list>

#include "../math/coupling.h"
#include "logdet.cuh"
#include "norm.cuh"
#include "storage.cuh"

namespace flowkit::cuda {

template <class Math>
constexpr bool reads_scale = false;
template <class T, Clamp clamp, bool inverse>
constexpr bool reads_scale<math::Affine<T, clamp, inverse>> = true;

template <class Math>
constexpr bool inverts = false;
template <class T, Clamp clamp, bool inverse>
constexpr bool inverts<math::Affine<T, clamp, inverse>> = inverse;
template <class T, bool inverse>
constexpr bool inverts<math::Additive<T, inverse>> = inverse;

template <class S>
struct CouplingViews {
  Strided<const S> scale, shift;
  readonly_ptr<int64_t> permutation;
  int64_t begin, end;

  // The threads walk over the permuted channels; the same channel before the permutation.
  __device__ __forceinline__ int64_t source(int64_t walked) const { return permutation ? permutation[walked] : walked; }
  __device__ __forceinline__ bool moves(int64_t channel) const { return channel >= begin && channel < end; }
};

// norm: the actnorm after the coupling, in its direction; on channels as they lie after the permutation.
template <class Math, class S, int N>
__global__ void __launch_bounds__(block_threads)
    coupling_kernel(Math formula, Walk walk, CouplingViews<S> params, ActNormParams<Compute<S>> norm,
                    Strided<const S> x, Strided<S> y, LogDetSink<Compute<S>> out) {
  using T = Compute<S>;
  const Task task = walk.task();
  const int64_t b = task.sample;
  T logdet = 0;
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t walked, p;
    walk.place(e, walked, p);
    const int64_t c = params.source(walked);
    Pack<T, N> values = load<N, S>(x.data, x.at(b, inverts<Math> ? walked : c, p));
    if (inverts<Math> && norm.scale) normalise(norm, walk.channels_last, walked, values);
    if (params.moves(c)) {
      Pack<T, N> u{};
      if constexpr (reads_scale<Math>) u = load<N, S>(params.scale.data, params.scale.at(b, c - params.begin, p));
      const Pack<T, N> t = load<N, S>(params.shift.data, params.shift.at(b, c - params.begin, p));
#pragma unroll
      for (int k = 0; k < N; ++k)
        values.values[k] = formula.forward(values.values[k], u.values[k], t.values[k], logdet);
    }
    if (!inverts<Math> && norm.scale) normalise(norm, walk.channels_last, walked, values);
    if (norm.scale && p == 0) logdet += static_cast<T>(walk.pixels) * log_abs_det<N>(norm, walk.channels_last, walked);
    store<S, N>(y.data, y.at(b, inverts<Math> ? c : walked, p), values);
  }
  out.store(task, logdet, walk.group);
}

template <class Math, class S, int N>
__global__ void __launch_bounds__(block_threads)
    coupling_backward_kernel(Math formula, Walk walk, CouplingViews<S> params, Strided<const S> grad_y,
                             Strided<const S> y, readonly_ptr<Compute<S>> grad_logdet, Strided<S> grad_x,
                             Strided<S> grad_scale, Strided<S> grad_shift) {
  using T = Compute<S>;
  const Task task = walk.task();
  const int64_t b = task.sample;
  T grad_l = 0;
  if constexpr (reads_scale<Math>) grad_l = task.valid ? grad_logdet[b] : T(0);
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t walked, p;
    walk.place(e, walked, p);
    const int64_t c = params.source(walked);
    const int64_t from = inverts<Math> ? c : walked, to = inverts<Math> ? walked : c;
    Pack<T, N> grad = load<N, S>(grad_y.data, grad_y.at(b, from, p));
    if (params.moves(c)) {
      const int64_t m = c - params.begin;
      Pack<T, N> out{}, u{}, t{}, grad_u{}, grad_t{};
      if constexpr (reads_scale<Math>) {
        out = load<N, S>(y.data, y.at(b, from, p));
        u = load<N, S>(params.scale.data, params.scale.at(b, m, p));
        t = load<N, S>(params.shift.data, params.shift.at(b, m, p));
      }
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const auto g = formula.backward(grad.values[k], grad_l, out.values[k], u.values[k], t.values[k]);
        grad.values[k] = g.x;
        grad_u.values[k] = g.scale;
        grad_t.values[k] = g.shift;
      }
      if constexpr (reads_scale<Math>) store<S, N>(grad_scale.data, grad_scale.at(b, m, p), grad_u);
      store<S, N>(grad_shift.data, grad_shift.at(b, m, p), grad_t);
    }
    store<S, N>(grad_x.data, grad_x.at(b, to, p), grad);
  }
}

template <class S>
CouplingViews<S> coupling_views(const Coupling& c) {
  return {strided<const S>(c.scale), strided<const S>(c.shift),
          view(static_cast<const int64_t*>(c.permutation.data), c.permutation.extent), c.begin, c.begin + c.count};
}

// Whether a coupling over channels [first, first + count) of `views` can move packs of `n` elements.
template <class S>
bool packs_fit(const Coupling& c, int64_t first, int64_t count, std::initializer_list<const View*> whole,
               std::initializer_list<const View*> part, int n = pack_width<S>) {
  if (c.shape.channels_last && (c.permutation.data != nullptr || c.begin % n != 0 || c.count % n != 0)) return false;
  bool fit = Walk::divides(c.shape, first, count, n);
  for (const View* v : whole) fit = fit && packs_fit(*v, c.shape, c.shape.channels, n, sizeof(S));
  for (const View* v : part) fit = fit && packs_fit(*v, c.shape, c.count, n, sizeof(S));
  return fit;
}

// norm: of null pointers for a coupling alone.
template <class S>
void launch_coupling(const CouplingForward& c, const ActNormParams<Compute<S>>& norm, Stream stream) {
  using T = Compute<S>;
  constexpr int n = pack_width<S>;
  // In place and without an actnorm, the untouched channels are where they belong.
  const bool part = c.x.data == c.y.data && !norm.scale;
  const int64_t first = part ? c.begin : 0, count = part ? c.count : c.shape.channels;
  const bool packs = packs_fit<S>(c, first, count, {&c.x, &c.y}, {&c.scale, &c.shift});
  const Walk walk(c.shape, first, count, packs ? n : 1);
  const LogDetSink<T> out = sink<T>(c.logdet, walk.chunks);
  math::with_formula<T>(c, [&](auto formula) {
    using Math = decltype(formula);
    const auto params = coupling_views<S>(c);
    const auto x = strided<const S>(c.x);
    const auto y = strided<S>(c.y);
    if (packs)
      FLOWKIT_LAUNCH((coupling_kernel<Math, S, n>), walk.blocks(), block_threads, 0, stream, formula, walk, params,
                     norm, x, y, out);
    else
      FLOWKIT_LAUNCH((coupling_kernel<Math, S, 1>), walk.blocks(), block_threads, 0, stream, formula, walk, params,
                     norm, x, y, out);
  });
  finish(out, c.shape.batch, stream);
}

template <class S>
void launch_coupling_backward(const CouplingBackward& c, Stream stream) {
  using T = Compute<S>;
  constexpr int n = pack_width<S>;
  const bool packs = packs_fit<S>(c, 0, c.shape.channels, {&c.grad_y, &c.y, &c.grad_x},
                                  {&c.scale, &c.shift, &c.grad_scale, &c.grad_shift});
  const Walk walk(c.shape, 0, c.shape.channels, packs ? n : 1);
  math::with_formula<T>(c, [&](auto formula) {
    using Math = decltype(formula);
    const auto params = coupling_views<S>(c);
    const auto grad_y = strided<const S>(c.grad_y), y = strided<const S>(c.y);
    const auto grad_x = strided<S>(c.grad_x), grad_scale = strided<S>(c.grad_scale),
               grad_shift = strided<S>(c.grad_shift);
    const auto grad_l = view(static_cast<const T*>(c.grad_logdet.data), c.grad_logdet.extent);
    if (packs)
      FLOWKIT_LAUNCH((coupling_backward_kernel<Math, S, n>), walk.blocks(), block_threads, 0, stream, formula, walk,
                     params, grad_y, y, grad_l, grad_x, grad_scale, grad_shift);
    else
      FLOWKIT_LAUNCH((coupling_backward_kernel<Math, S, 1>), walk.blocks(), block_threads, 0, stream, formula, walk,
                     params, grad_y, y, grad_l, grad_x, grad_scale, grad_shift);
  });
}

}  // namespace flowkit::cuda
