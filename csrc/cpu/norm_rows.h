// The actnorm of a flow step as the coupling's loops apply it: to blocks that lie in L1 already.
#pragma once

#include "../math/actnorm.h"
#include "../math/step.h"
#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// What a channel needs: the direction's map a * v + b, math::actnorm_offset, and the other direction's map.
template <class C>
struct NormFactors {
  const C *a, *b, *offset, *back_a, *back_b;
};

// Factors by channel, numbered as before the permutation. `repeat`: pixels of an image that is to the loops one row of
// channels * pixels.
template <class C>
class NormTables {
 public:
  NormTables() = default;
  NormTables(const Norm& n, const int64_t* permutation, int64_t channels, int64_t repeat, bool inverse)
      : repeat_(repeat) {
    resize(channels * repeat);
    for (int64_t j = 0; j < channels; ++j) {
      const C scale = get<C>(n.scale)[j], shift = get<C>(n.shift)[j];
      const math::ActNormChannel<C> m(scale, shift, n.log_scale, inverse), back(scale, shift, n.log_scale, !inverse);
      log_abs_det_ += m.log_abs_a;
      const C values[] = {m.a, m.b, math::actnorm_offset(shift, n.log_scale, inverse), back.a, back.b};
      const int64_t k = (permutation ? permutation[j] : j) * repeat;
      for (int64_t v = 0; v < 5; ++v) std::fill_n(tables_[v].begin() + k, repeat, values[v]);
    }
  }

  // Channels [first, first + count), `group` times one after the other.
  NormTables tiled(int64_t first, int64_t count, int64_t group) const {
    NormTables t;
    t.resize(count * group);
    for (int64_t v = 0; v < 5; ++v)
      for (int64_t g = 0; g < group; ++g)
        std::copy_n(tables_[v].begin() + first, count, t.tables_[v].begin() + g * count);
    return t;
  }

  NormFactors<C> at(int64_t k) const {
    return {&tables_[0][k], &tables_[1][k], &tables_[2][k], &tables_[3][k], &tables_[4][k]};
  }
  int64_t repeat() const { return repeat_; }
  // Of one pixel.
  double log_abs_det() const { return log_abs_det_; }

 private:
  void resize(int64_t n) {
    for (auto& t : tables_) t.resize(n);
  }

  std::vector<C> tables_[5];
  int64_t repeat_ = 1;
  double log_abs_det_ = 0;
};

// Rows of n elements; step 0: all of one channel, step 1: factors for each element.
template <int step, class C>
void normalise(const NormFactors<C>& f, const C* x, C* y, int64_t n) {
  const C *a = f.a, *b = f.b;
#pragma omp simd
  for (int64_t e = 0; e < n; ++e) y[e] = a[e * step] * x[e] + b[e * step];
}

// Sums over a channel or, element by element, over rows: of the gradient of the actnorm's output, and of that times
// (output - offset).
template <class C>
struct NormSums {
  alignas(64) C grad[block], product[block];

  void clear(int64_t n) {
    std::fill(grad, grad + n, C(0));
    std::fill(product, product + n, C(0));
  }
};

// From the output y of the actnorm and its gradient to its input z and that one's gradient. grad_z may be grad, z may
// be y.
template <int step, class C>
void norm_backward(const NormFactors<C>& f, const C* grad, const C* y, C* grad_z, C* z, NormSums<C>& sums, int64_t n) {
  const C *a = f.a, *offset = f.offset, *back_a = f.back_a, *back_b = f.back_b;
  C *sum_g = sums.grad, *sum_gy = sums.product;
#pragma omp simd
  for (int64_t e = 0; e < n; ++e) {
    const C g = grad[e], v = y[e];
    sum_g[e] += g;
    sum_gy[e] += g * (v - offset[e * step]);
    grad_z[e] = g * a[e * step];
    z[e] = back_a[e * step] * v + back_b[e * step];
  }
}

// The inverse step: from the gradient grad_z of what the inverse actnorm gave to that of what it read, in its place.
template <int step, class C>
void norm_inverse_backward(const NormFactors<C>& f, const C* grad_x, const C* x, const C* t, const C* grad_t, C* grad_z,
                           NormSums<C>& sums, int64_t n) {
  const C *a = f.a, *offset = f.offset;
  C *sum_g = sums.grad, *sum_gy = sums.product;
#pragma omp simd
  for (int64_t e = 0; e < n; ++e) {
    const C g = grad_z[e];
    sum_g[e] += g;
    sum_gy[e] += math::step_grad_product(grad_x[e], x[e], g, t[e], grad_t[e], offset[e * step]);
    grad_z[e] = g * a[e * step];
  }
}

// Channels with their factors, and how many pixels of them make a block.
template <class C>
struct ChannelSpan {
  int64_t first = 0, count = 0, group = 1;
  NormTables<C> tables;

  // Of channel k of the span; where a block holds all of its channels, one after the other for its pixels.
  NormFactors<C> factors(int64_t k) const { return tables.at(k); }

  // body(pixel, pixels, channel, channels) over pixels [begin, end) and all channels in pieces of up to `block`
  // elements; done(pixels, channel, channels) after all pixels of some channels.
  template <class Body, class Done>
  void for_blocks(int64_t begin, int64_t end, const Body& body, const Done& done) const {
    for (int64_t k = 0; k < count; k += block) {
      const int64_t channels = std::min(block, count - k);
      for (int64_t p = begin; p < end; p += group) body(p, std::min(group, end - p), k, channels);
      done(std::min(group, end - begin), k, channels);
    }
  }
  template <class Body>
  void for_blocks(int64_t begin, int64_t end, const Body& body) const {
    for_blocks(begin, end, body, [](int64_t, int64_t, int64_t) {});
  }
};

}  // namespace
}  // namespace flowkit::cpu::FLOWKIT_ISA
