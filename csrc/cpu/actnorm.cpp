// Actnorm: one multiply-add an element; parameter gradients summed in a fixed order.
#include "../math/actnorm.h"

#include <vector>

#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// The per-channel map y = a * x + b in the type it is computed in.
template <class C>
struct Affine {
  std::vector<C> a, b;
  double log_abs_det = 0;  // of one pixel

  explicit Affine(const ActNorm& n) : a(n.shape.channels), b(n.shape.channels) {
    for (int64_t c = 0; c < n.shape.channels; ++c) {
      const math::ActNormChannel<C> m(get<C>(n.scale)[c], get<C>(n.shift)[c], n.log_scale, n.inverse);
      a[c] = m.a;
      b[c] = m.b;
      log_abs_det += m.log_abs_a;
    }
  }
};

template <class T>
void apply(const ActNormForward& n) {
  using C = Compute<T>;
  const Affine<C> affine(n);
  for_units(n.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
    Input<T> in;
    Output<T> out;
    for (int64_t r = first; r < last; ++r) {
      const bool pixels = n.shape.channels_last;  // rows are pixels, channels inside
      const T* x = pixels ? at<T>(n.x, b, 0, r) : at<T>(n.x, b, r);
      T* y = pixels ? at<T>(n.y, b, 0, r) : at<T>(n.y, b, r);
      const int64_t xs = pixels ? n.x.channel : n.x.pixel, ys = pixels ? n.y.channel : n.y.pixel;
      const int64_t size = pixels ? n.shape.channels : n.shape.pixels;
      for (int64_t i = 0; i < size; i += block) {
        const int64_t m = std::min(block, size - i);
        const C* xi = in.get(x + i * xs, xs, m);
        C* yi = out.get(y + i * ys, ys);
        if (pixels) {
          const C *ai = affine.a.data() + i, *bi = affine.b.data() + i;
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) yi[e] = ai[e] * xi[e] + bi[e];
        } else {
          const C ar = affine.a[r], br = affine.b[r];
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) yi[e] = ar * xi[e] + br;
        }
        out.put(y + i * ys, ys, m);
      }
    }
  });
  auto* logdet = static_cast<C*>(n.logdet.sum.data);
  const double total = affine.log_abs_det * n.shape.pixels;
  for (int64_t b = 0; b < n.shape.batch; ++b)
    logdet[b] = static_cast<C>(n.logdet.accumulate ? logdet[b] + total : total);
}

// Partial sums of grad_y and grad_y * (y - offset): one row of 2 * channels for each work unit.
template <class T>
void apply_backward(const ActNormBackward& n) {
  using C = Compute<T>;
  const int64_t channels = n.shape.channels;
  const RowUnits units(n.shape);
  const Affine<C> affine(n);
  std::vector<C> offset(channels);
  for (int64_t c = 0; c < channels; ++c)
    offset[c] = math::actnorm_offset(get<C>(n.shift)[c], n.log_scale, n.inverse);
  auto* partial = static_cast<C*>(n.partial.data);

  const auto unit = [&](int64_t u) {
    Input<T> g_in, y_in;
    Output<T> x_out;
    C* sum_g = partial + u * 2 * channels;
    C* sum_gy = sum_g + channels;
    std::fill(sum_g, sum_g + 2 * channels, C(0));
    const int64_t last = std::min(units.total, (u + 1) * units.rows);
    for (int64_t row = u * units.rows; row < last; ++row) {
      const int64_t b = row / units.outer, r = row % units.outer;
      const bool pixels = n.shape.channels_last;
      const T* grad = pixels ? at<T>(n.grad_y, b, 0, r) : at<T>(n.grad_y, b, r);
      const T* y = pixels ? at<T>(n.y, b, 0, r) : at<T>(n.y, b, r);
      T* grad_x = pixels ? at<T>(n.grad_x, b, 0, r) : at<T>(n.grad_x, b, r);
      const auto stride = [&](const View& v) { return pixels ? v.channel : v.pixel; };
      const int64_t gs = stride(n.grad_y), ys = stride(n.y), xs = stride(n.grad_x);
      const int64_t size = pixels ? channels : n.shape.pixels;
      for (int64_t i = 0; i < size; i += block) {
        const int64_t m = std::min(block, size - i);
        const C* gi = g_in.get(grad + i * gs, gs, m);
        const C* yi = y_in.get(y + i * ys, ys, m);
        C* xi = x_out.get(grad_x + i * xs, xs);
        if (pixels) {
          const C *ai = affine.a.data() + i, *oi = offset.data() + i;
          C *sg = sum_g + i, *sgy = sum_gy + i;
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) {
            sg[e] += gi[e];
            sgy[e] += gi[e] * (yi[e] - oi[e]);
            xi[e] = gi[e] * ai[e];
          }
        } else {
          const C ar = affine.a[r], o = offset[r];
          C sg = 0, sgy = 0;
#pragma omp simd reduction(+ : sg, sgy)
          for (int64_t e = 0; e < m; ++e) {
            sg += gi[e];
            sgy += gi[e] * (yi[e] - o);
            xi[e] = gi[e] * ar;
          }
          sum_g[r] += sg;
          sum_gy[r] += sgy;
        }
        x_out.put(grad_x + i * xs, xs, m);
      }
    }
  };
  torch::stable::parallel_for(0, units.count, 2, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) unit(u);
  });

  double grad_l = 0;
  for (int64_t b = 0; b < n.shape.batch; ++b) grad_l += get<C>(n.grad_logdet)[b];
  std::vector<double> sums(2 * channels);
  for (int64_t u = 0; u < units.count; ++u)
    for (int64_t c = 0; c < 2 * channels; ++c) sums[c] += partial[u * 2 * channels + c];
  for (int64_t c = 0; c < channels; ++c) {
    const math::ActNormGrad<double> g(
        get<C>(n.scale)[c], sums[c], sums[channels + c], grad_l * n.shape.pixels, n.log_scale, n.inverse);
    static_cast<C*>(n.grad_scale.data)[c] = static_cast<C>(g.scale);
    static_cast<C*>(n.grad_shift.data)[c] = static_cast<C>(g.shift);
  }
}

}  // namespace

void actnorm(const ActNormForward& n) {
  dispatch(n.dtype, [&](auto value) { apply<decltype(value)>(n); });
}

void actnorm_backward(const ActNormBackward& n) {
  dispatch(n.dtype, [&](auto value) { apply_backward<decltype(value)>(n); });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
