// Flow steps: coupling, permutation and actnorm in one pass. The forward kernel is the coupling's; the backward walks
// along channels, like actnorm's, to sum their gradients.
#include "../math/step.h"
#include "coupling.cuh"

namespace flowkit::cuda {
namespace {

// The clamp is chosen where the kernel runs: one kernel for all keeps the build short. Half of a pack does for 16 bits.
template <class S, int N, bool inverse>
struct StepElement {
  using T = Compute<S>;
  Coupling coupling;
  CouplingViews<S> params;
  ActNormParams<T> norm;
  Strided<const S> grad_y, y;
  readonly_ptr<T> grad_logdet;
  Strided<S> grad_x, grad_scale, grad_shift;

  template <int lanes>
  struct Kept {
    T a[lanes], offset[lanes], back_a[lanes], back_b[lanes];
    int64_t source;  // the channel before the permutation
  };

  template <int lanes>
  __device__ __forceinline__ Kept<lanes> begin(int64_t c) const {
    Kept<lanes> kept;
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      const auto back = norm.back(c + k);
      kept.a[k] = norm[c + k].a;
      kept.offset[k] = norm.offset(c + k);
      kept.back_a[k] = back.a;
      kept.back_b[k] = back.b;
    }
    kept.source = params.source(c);
    return kept;
  }

  template <int lanes>
  __device__ __forceinline__ void operator()(const Kept<lanes>& kept, int64_t b, int64_t walked, int64_t p,
                                             T (&sum_g)[N], T (&sum_gy)[N]) const {
    constexpr int step = lanes > 1 ? 1 : 0;
    const int64_t c = kept.source, out = inverse ? c : walked, in = inverse ? walked : c;
    auto grad = load<N, S>(grad_y.data, grad_y.at(b, out, p));
    auto values = load<N, S>(y.data, y.at(b, out, p));
    if constexpr (!inverse) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        sum_g[k] += grad.values[k];
        sum_gy[k] += grad.values[k] * (values.values[k] - kept.offset[k * step]);
        grad.values[k] *= kept.a[k * step];
        values.values[k] = kept.back_a[k * step] * values.values[k] + kept.back_b[k * step];
      }
    }
    const Pack<T, N> above = grad;
    Pack<T, N> t{}, grad_t{};
    if (params.moves(c)) couple(b, c - params.begin, p, grad, values, t, grad_t);
    if constexpr (inverse) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        sum_g[k] += grad.values[k];
        sum_gy[k] += math::step_grad_product(above.values[k], values.values[k], grad.values[k], t.values[k],
                                             grad_t.values[k], kept.offset[k * step]);
        grad.values[k] *= kept.a[k * step];
      }
    }
    store<S, N>(grad_x.data, grad_x.at(b, in, p), grad);
  }

 private:
  // The coupling's gradients from its output `values`; `grad` becomes that of its input.
  __device__ __forceinline__ void couple(int64_t b, int64_t m, int64_t p, Pack<T, N>& grad, const Pack<T, N>& values,
                                         Pack<T, N>& t, Pack<T, N>& grad_t) const {
    const bool scales = coupling.scale.data != nullptr;
    Pack<T, N> u{}, grad_u{};
    if (scales) u = load<N, S>(params.scale.data, params.scale.at(b, m, p));
    t = load<N, S>(params.shift.data, params.shift.at(b, m, p));
    const T grad_l = grad_logdet[b];
    math::with_formula<T, inverse>(coupling, [&](const auto& formula) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const auto g = formula.backward(grad.values[k], grad_l, values.values[k], u.values[k], t.values[k]);
        grad.values[k] = g.x;
        grad_u.values[k] = g.scale;
        grad_t.values[k] = g.shift;
      }
    });
    if (scales) store<S, N>(grad_scale.data, grad_scale.at(b, m, p), grad_u);
    store<S, N>(grad_shift.data, grad_shift.at(b, m, p), grad_t);
  }
};

template <class S, int N, bool inverse>
void launch_backward(const StepBackward& c, Stream stream) {
  using T = Compute<S>;
  const auto norm = actnorm_params<T>(c.norm.scale, c.norm.shift, c.norm.log_scale, c.inverse);
  const StepElement<S, N, inverse> element{c,
                                           coupling_views<S>(c),
                                           norm,
                                           strided<const S>(c.grad_y),
                                           strided<const S>(c.y),
                                           view(static_cast<const T*>(c.grad_logdet.data), c.grad_logdet.extent),
                                           strided<S>(c.grad_x),
                                           strided<S>(c.grad_scale),
                                           strided<S>(c.grad_shift)};
  launch_channel_sums<T, N>(c.shape, element, norm, c.norm_partial, c.grad_logdet, c.grad_norm_scale, c.grad_norm_shift,
                            stream);
}

}  // namespace

int64_t step_partial_size(const Shape& shape) { return channel_sums_size(shape); }

// Also runs for an empty batch, where the gradients of the actnorm are zeros to be written.
void step_backward(const StepBackward& c, Stream stream) {
  if (c.shape.channels == 0) return;
  dispatch(c.dtype, [&](auto s) {
    using S = decltype(s);
    constexpr int n = pack_width<S> > 4 ? 4 : pack_width<S>;
    const bool packs = packs_fit<S>(c, 0, c.shape.channels, {&c.grad_y, &c.y, &c.grad_x},
                                    {&c.scale, &c.shift, &c.grad_scale, &c.grad_shift}, n);
    if (packs)
      c.inverse ? launch_backward<S, n, true>(c, stream) : launch_backward<S, n, false>(c, stream);
    else
      c.inverse ? launch_backward<S, 1, true>(c, stream) : launch_backward<S, 1, false>(c, stream);
  });
}

}  // namespace flowkit::cuda
