// Entry points of affine and additive couplings, alone and as flow steps, which share every loop.
#include "coupling_kernel.h"

#include <optional>

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

// Small images without a permutation are one long row of channels a sample, and samples of one row each are to the
// loops what pixels are: rows of channels. `vectors` tells whether pixels stand for samples.
template <class Arguments>
struct Reshaped {
  Arguments a;
  bool vectors;

  Reshaped(const Arguments& given, std::initializer_list<View Arguments::*> images,
           std::initializer_list<View Arguments::*> params)
      : a(given) {
    const int64_t pixels = a.shape.pixels;
    bool dense =
        !a.shape.channels_last && !a.permutation.data && pixels < 256 && a.shape.channels * pixels <= 4 * unit_elements;
    const auto for_views = [&](const auto& f) {
      for (const auto v : images) f(a.*v);
      for (const auto v : params) f(a.*v);
    };
    for_views([&](View& v) { dense = dense && (!v.data || (v.pixel == 1 && v.channel == pixels)); });
    if (dense) {
      a.shape = {a.shape.batch, a.shape.channels * pixels, 1, true};
      a.begin *= pixels;
      a.count *= pixels;
      for_views([](View& v) { v.channel = 1; });
    }
    vectors = a.shape.channels_last && a.shape.pixels == 1;
    if (!vectors) return;
    a.shape = {1, a.shape.channels, a.shape.batch, true};
    for_views([](View& v) { v.pixel = std::exchange(v.batch, 0); });
  }
};

// Calls f(storage type, arithmetic) for the options of c.
template <class F>
void dispatch_coupling(const Coupling& c, const F& f) {
  dispatch(c.dtype, [&](auto value) {
    using T = decltype(value);
    math::with_formula<Compute<T>>(c, [&](const auto& formula) { f(value, Arithmetic<Compute<T>>(formula)); });
  });
}

template <class C>
std::optional<NormTables<C>> tables(const Norm* norm, const Coupling& given, const Shape& seen) {
  if (!norm) return std::nullopt;
  const int64_t channels = given.shape.channels;
  return NormTables<C>(*norm, get<int64_t>(given.permutation), channels, seen.channels / std::max<int64_t>(channels, 1),
                       given.inverse);
}

// norm: null for a coupling alone.
void forward(const CouplingForward& given, const Norm* norm) {
  using A = CouplingForward;
  const Reshaped<A> reshaped(given, {&A::x, &A::y}, {&A::scale, &A::shift});
  const A& a = reshaped.a;
  dispatch_coupling(a, [&](auto value, const auto& arithmetic) {
    using T = decltype(value);
    using C = Compute<T>;
    const auto norm_tables = tables<C>(norm, given, a.shape);
    const Kernel<T> kernel(a, arithmetic, norm ? &*norm_tables : nullptr);
    const auto pixels = kernel.pixels(a);
    auto* logdet = static_cast<C*>(a.logdet.sum.data);
    if (reshaped.vectors) {
      if (!a.logdet.accumulate) std::fill(logdet, logdet + a.shape.pixels, C(0));
      for_units(a.shape, [&](int64_t b, int64_t, int64_t first, int64_t last) {
        kernel.forward_pixels(a, pixels, b, first, last, logdet);
      });
    } else {
      const PartialSums<C> sums(a.logdet, a.shape);
      for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
        sums.put(b, unit,
                 a.shape.channels_last ? kernel.forward_pixels(a, pixels, b, first, last, nullptr)
                                       : kernel.forward_channels(a, b, first, last));
      });
      sums.finish();
    }
    if (!norm) return;
    const double total = norm_tables->log_abs_det() * given.shape.pixels;
    for (int64_t s = 0; s < given.shape.batch; ++s) logdet[s] = static_cast<C>(logdet[s] + total);
  });
}

// The gradients of the actnorm from the sums that `parts` parts left.
template <class C>
void reduce(const StepBackward& a, int64_t parts) {
  const int64_t channels = a.shape.channels;
  const auto* partial = get<C>(a.norm_partial);
  const auto* permutation = get<int64_t>(a.permutation);
  std::vector<double> sums(2 * channels);
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t c = 0; c < 2 * channels; ++c) sums[c] += partial[part * 2 * channels + c];
  double grad_l = 0;
  for (int64_t s = 0; s < a.shape.batch; ++s) grad_l += get<C>(a.grad_logdet)[s];
  for (int64_t j = 0; j < channels; ++j) {
    const int64_t k = permutation ? permutation[j] : j;
    const math::ActNormGrad<double> g(get<C>(a.norm.scale)[j], sums[k], sums[channels + k], grad_l * a.shape.pixels,
                                      a.norm.log_scale, a.inverse);
    static_cast<C*>(a.grad_norm_scale.data)[j] = static_cast<C>(g.scale);
    static_cast<C*>(a.grad_norm_shift.data)[j] = static_cast<C>(g.shift);
  }
}

// step: the same arguments with those of the actnorm, null for a coupling alone.
void backward(const CouplingBackward& given, const StepBackward* step) {
  using A = CouplingBackward;
  const Reshaped<A> reshaped(given, {&A::grad_y, &A::y, &A::grad_x},
                             {&A::scale, &A::shift, &A::grad_scale, &A::grad_shift});
  const A& a = reshaped.a;
  dispatch_coupling(a, [&](auto value, const auto& arithmetic) {
    using T = decltype(value);
    using C = Compute<T>;
    const auto norm_tables = tables<C>(step ? &step->norm : nullptr, given, a.shape);
    const Kernel<T> kernel(a, arithmetic, step ? &*norm_tables : nullptr);
    const C* grad_logdet = get<C>(a.grad_logdet);
    const auto pixels = kernel.pixels(a);
    const bool last_channels = a.shape.channels_last;
    const int64_t per_sample = last_channels ? Units(a.shape).per_sample : 1, parts = a.shape.batch * per_sample;
    C* partial = step ? static_cast<C*>(step->norm_partial.data) : nullptr;
    if (step) std::fill(partial, partial + parts * 2 * given.shape.channels, C(0));
    for_units(a.shape, [&](int64_t b, int64_t unit, int64_t first, int64_t last) {
      C* part = partial;
      if (part) part += (b * per_sample + (last_channels ? unit : 0)) * 2 * given.shape.channels;
      if (last_channels)
        kernel.backward_pixels(a, pixels, grad_logdet + b, reshaped.vectors ? 1 : 0, b, first, last, part);
      else
        kernel.backward_channels(a, grad_logdet[b], b, first, last, part);
    });
    if (step) reduce<C>(*step, parts);
  });
}

}  // namespace

void coupling(const CouplingForward& a) { forward(a, nullptr); }
void coupling_backward(const CouplingBackward& a) { backward(a, nullptr); }
void step(const StepForward& a) { forward(a, &a.norm); }
void step_backward(const StepBackward& a) { backward(a, &a); }

}  // namespace flowkit::cpu::FLOWKIT_ISA
