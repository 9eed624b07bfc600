// Actnorm: one scale and shift a channel.
#include "norm.cuh"

namespace flowkit::cuda {
namespace {

template <class S, int N>
__global__ void __launch_bounds__(block_threads)
    actnorm_kernel(ActNormParams<Compute<S>> params, Walk walk, Strided<const S> x, Strided<S> y) {
  const Task task = walk.task();
  for (int64_t e = task.begin + task.lane * N; e < task.end; e += walk.group * N) {
    int64_t c, p;
    walk.place(e, c, p);
    auto values = load<N, S>(x.data, x.at(task.sample, c, p));
    normalise(params, walk.channels_last, c, values);
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

template <class S, int N>
struct ActNormElement {
  using T = Compute<S>;
  ActNormParams<T> params;
  Strided<const S> grad_y, y;
  Strided<S> grad_x;

  template <int lanes>
  struct Kept {
    T a[lanes], offset[lanes];
  };

  template <int lanes>
  __device__ __forceinline__ Kept<lanes> begin(int64_t c) const {
    Kept<lanes> kept;
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      kept.a[k] = params[c + k].a;
      kept.offset[k] = params.offset(c + k);
    }
    return kept;
  }

  template <int lanes>
  __device__ __forceinline__ void operator()(const Kept<lanes>& kept, int64_t b, int64_t c, int64_t p, T (&sum_g)[N],
                                             T (&sum_gy)[N]) const {
    auto grad = load<N, S>(grad_y.data, grad_y.at(b, c, p));
    const auto out = load<N, S>(y.data, y.at(b, c, p));
#pragma unroll
    for (int k = 0; k < N; ++k) {
      constexpr int step = lanes > 1 ? 1 : 0;
      sum_g[k] += grad.values[k];
      sum_gy[k] += grad.values[k] * (out.values[k] - kept.offset[k * step]);
      grad.values[k] *= kept.a[k * step];
    }
    store<S, N>(grad_x.data, grad_x.at(b, c, p), grad);
  }
};

template <class T>
ActNormParams<T> params_of(const ActNorm& f) {
  return actnorm_params<T>(f.scale, f.shift, f.log_scale, f.inverse);
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
  const ActNormElement<S, N> element{params, strided<const S>(f.grad_y), strided<const S>(f.y), strided<S>(f.grad_x)};
  launch_channel_sums<T, N>(f.shape, element, params, f.partial, f.grad_logdet, f.grad_scale, f.grad_shift, stream);
}

}  // namespace

int64_t actnorm_partial_size(const Shape& shape) { return channel_sums_size(shape); }

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
