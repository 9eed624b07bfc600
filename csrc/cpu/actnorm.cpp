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

// With channels inside, dense rows are joined until they are worth a loop: `group` pixels, the samples one after the
// other.
struct Rows {
  bool pixels;           // rows are pixels with channels inside, not channels with pixels inside
  bool joined;           // samples lie behind one another: their pixels are those of one sample
  int64_t count, group;  // rows; pixels in one
  int64_t size;          // elements in one
  Shape shape;

  Rows(const ActNorm& n, std::initializer_list<const View*> views)
      : pixels(n.shape.channels_last), joined(pixels), group(1), shape(n.shape) {
    const int64_t channels = n.shape.channels;
    for (const View* v : views)
      joined = joined && v->channel == 1 && (shape.pixels == 1 || v->pixel == channels) &&
              (shape.batch == 1 || v->batch == channels * shape.pixels);
    if (joined) {
      shape = {1, channels, shape.batch * shape.pixels, true};
      group = std::clamp<int64_t>(block / channels, 1, shape.pixels);
    }
    size = pixels ? group * channels : shape.pixels;
    count = pixels ? (shape.pixels + group - 1) / group : channels;
  }

  int64_t row_size(int64_t r) const {
    return pixels ? std::min(group, shape.pixels - r * group) * shape.channels : size;
  }
  int64_t stride(const View& v) const { return pixels ? v.channel : v.pixel; }
  template <class T>
  T* start(const View& v, int64_t b, int64_t r) const {
    if (!pixels) return at<T>(v, b, r);
    return joined ? at<T>(v, b) + r * size : at<T>(v, b, 0, r);
  }
  // Channel values repeated along a row.
  template <class C>
  std::vector<C> along(std::vector<C> values) const {
    if (group == 1) return values;
    std::vector<C> repeated;
    repeated.reserve(size);
    for (int64_t g = 0; g < group; ++g) repeated.insert(repeated.end(), values.begin(), values.end());
    return repeated;
  }
};

template <class T>
void apply(const ActNormForward& n) {
  using C = Compute<T>;
  Affine<C> affine(n);
  const Rows rows(n, {&n.x, &n.y});
  const std::vector<C> a = rows.along(std::move(affine.a)), b = rows.along(std::move(affine.b));
  const int64_t xs = rows.stride(n.x), ys = rows.stride(n.y);
  const int64_t grain = std::max<int64_t>(1, 2 * unit_elements / std::max<int64_t>(rows.size, 1));
  torch::stable::parallel_for(0, rows.shape.batch * rows.count, grain, [&](int64_t begin, int64_t end) {
    Input<T> in;
    Output<T> out;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t sample = row / rows.count, r = row % rows.count, size = rows.row_size(r);
      const T* x = rows.template start<T>(n.x, sample, r);
      T* y = rows.template start<T>(n.y, sample, r);
      for (int64_t i = 0; i < size; i += block) {
        const int64_t m = std::min(block, size - i);
        const C* xi = in.get(x + i * xs, xs, m);
        C* yi = out.get(y + i * ys, ys);
        if (rows.pixels) {
          const C *ai = a.data() + i, *bi = b.data() + i;
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) yi[e] = ai[e] * xi[e] + bi[e];
        } else {
          const C ar = a[r], br = b[r];
#pragma omp simd
          for (int64_t e = 0; e < m; ++e) yi[e] = ar * xi[e] + br;
        }
        out.put(y + i * ys, ys, m);
      }
    }
  });
  auto* logdet = static_cast<C*>(n.logdet.sum.data);
  const double total = affine.log_abs_det * n.shape.pixels;
  for (int64_t s = 0; s < n.shape.batch; ++s)
    logdet[s] = static_cast<C>(n.logdet.accumulate ? logdet[s] + total : total);
}

// Each work unit, some rows in a fixed order, leaves its sums of grad_y and of grad_y * (y - offset) per channel.
template <class T>
void apply_backward(const ActNormBackward& n) {
  using C = Compute<T>;
  const int64_t channels = n.shape.channels;
  const Affine<C> affine(n);
  const Rows rows(n, {&n.grad_y, &n.y, &n.grad_x});
  std::vector<C> offsets(channels);
  for (int64_t c = 0; c < channels; ++c) offsets[c] = math::actnorm_offset(get<C>(n.shift)[c], n.log_scale, n.inverse);
  const std::vector<C> a = rows.along(affine.a), offset = rows.along(offsets);
  const int64_t gs = rows.stride(n.grad_y), ys = rows.stride(n.y), xs = rows.stride(n.grad_x);
  const int64_t total = rows.shape.batch * rows.count;
  const int64_t per_unit = std::max<int64_t>(1, 2 * unit_elements / std::max<int64_t>(rows.size, 1));
  const int64_t units = (total + per_unit - 1) / per_unit;
  auto* partial = static_cast<C*>(n.partial.data);

  torch::stable::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
    Input<T> g_in, y_in;
    Output<T> x_out;
    const int64_t width = rows.pixels ? rows.size : channels;
    std::vector<C> sums(2 * width);
    C *sum_g = sums.data(), *sum_gy = sum_g + width;
    for (int64_t unit = begin; unit < end; ++unit) {
      std::fill(sums.begin(), sums.end(), C(0));
      for (int64_t row = unit * per_unit; row < std::min(total, (unit + 1) * per_unit); ++row) {
        const int64_t sample = row / rows.count, r = row % rows.count, size = rows.row_size(r);
        const T* grad = rows.template start<T>(n.grad_y, sample, r);
        const T* y = rows.template start<T>(n.y, sample, r);
        T* grad_x = rows.template start<T>(n.grad_x, sample, r);
        for (int64_t i = 0; i < size; i += block) {
          const int64_t m = std::min(block, size - i);
          const C* gi = g_in.get(grad + i * gs, gs, m);
          const C* yi = y_in.get(y + i * ys, ys, m);
          C* xi = x_out.get(grad_x + i * xs, xs);
          if (rows.pixels) {
            const C *ai = a.data() + i, *oi = offset.data() + i;
            C *sg = sum_g + i, *sgy = sum_gy + i;
#pragma omp simd
            for (int64_t e = 0; e < m; ++e) {
              sg[e] += gi[e];
              sgy[e] += gi[e] * (yi[e] - oi[e]);
              xi[e] = gi[e] * ai[e];
            }
          } else {
            const C ar = a[r], o = offset[r];
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
      C* left = partial + unit * 2 * channels;
      std::fill(left, left + 2 * channels, C(0));
      for (int64_t e = 0; e < width; ++e) {
        left[e % channels] += sum_g[e];
        left[channels + e % channels] += sum_gy[e];
      }
    }
  });

  double grad_l = 0;
  for (int64_t s = 0; s < n.shape.batch; ++s) grad_l += get<C>(n.grad_logdet)[s];
  std::vector<double> sums(2 * channels);
  for (int64_t unit = 0; unit < units; ++unit)
    for (int64_t c = 0; c < 2 * channels; ++c) sums[c] += partial[unit * 2 * channels + c];
  for (int64_t c = 0; c < channels; ++c) {
    const math::ActNormGrad<double> g(get<C>(n.scale)[c], sums[c], sums[channels + c], grad_l * n.shape.pixels,
                                      n.log_scale, n.inverse);
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
