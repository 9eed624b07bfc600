// Affine and additive couplings, alone and followed by an actnorm.
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

// Channels first, first + step, ... of a view, `count` of them.
inline View channels(View v, int64_t first, int64_t step, int64_t count, size_t element_size) {
  const int64_t skipped = first * v.channel, left_out = v.extent ? v.extent - 1 - skipped : 0;
  if (v.extent == 0 || count == 0) return {v.data, v.batch, v.channel * step, v.pixel, 0};
  View part = v;
  part.data = static_cast<char*>(v.data) + skipped * static_cast<int64_t>(element_size);
  part.channel = v.channel * step;
  part.extent = left_out + 1;
  return part;
}

struct Packed {
  View scale, shift;
};

// Halves or alternating channels; see LAYOUTS in flowkit/ops/affine.py.
inline Packed unpack(const Tensor& params, const Optional& shift, int64_t layout) {
  if (shift) return {view(params), view(*shift)};
  const int64_t n = params.size(1) / 2, step = layout < 2 ? 1 : 2, second = layout < 2 ? n : 1;
  const View all = view(params);
  const View a = channels(all, 0, step, n, params.element_size()),
             b = channels(all, second, step, n, params.element_size());
  return layout % 2 == 0 ? Packed{a, b} : Packed{b, a};
}

struct CouplingInputs {
  Tensor x, params;
  Optional shift;
};

// The options of the affine coupling, by their codes in flowkit/ops/affine.py.
struct AffineOptions {
  int64_t layout = 0, clamp = 0;
  double bound = 0, gain = 1, offset = 0, factor = 1;
  int64_t form = 0;
  double shift_gain = 1;
};

// Fills what forward and backward share; keeps prepared copies alive in `hold`.
Coupling coupling_options(const Tensor& x, const Tensor* params, const Tensor& shift_or_params, bool packed,
                          const Optional& permutation, int64_t begin, const AffineOptions& o, bool inverse,
                          CouplingInputs& hold) {
  check_x(x);
  check_permutation(x, permutation);
  FLOWKIT_CHECK(o.clamp >= 0 && o.clamp <= static_cast<int64_t>(Clamp::hard), "flowkit: unknown clamp");
  FLOWKIT_CHECK(o.layout >= 0 && o.layout <= 3 && o.form >= 0 && o.form <= 2, "flowkit: unknown layout or form");
  Coupling c;
  c.shape = shape_of(x);
  c.dtype = dtype_of(x);
  const bool last = c.shape.channels_last;
  hold.x = prepare(x, last);
  check_like(x, params ? *params : shift_or_params, params ? "params" : "shift");
  hold.params = prepare_params(params ? *params : shift_or_params, last);
  if (params && !packed) {
    check_like(x, shift_or_params, "shift");
    hold.shift = prepare_params(shift_or_params, last);
    FLOWKIT_CHECK(hold.shift->size(1) == hold.params.size(1), "flowkit: params and shift differ in channels");
  }
  if (!params) {
    c.shift = view(hold.params);
    c.count = hold.params.size(1);
  } else {
    const Packed p = unpack(hold.params, hold.shift, o.layout);
    c.scale = p.scale;
    c.shift = p.shift;
    c.count = packed ? hold.params.size(1) / 2 : hold.params.size(1);
  }
  FLOWKIT_CHECK(!packed || hold.params.size(1) % 2 == 0, "flowkit: params must have an even number of channels");
  FLOWKIT_CHECK(begin >= 0 && c.count <= x.size(1) && begin <= x.size(1) - c.count, "flowkit: ", c.count,
                " transformed channels from ", begin, " on leave x with ", x.size(1), " channels");
  c.permutation = array(permutation);
  c.begin = begin;
  c.clamp = static_cast<Clamp>(o.clamp);
  c.bound = o.bound;
  c.gain = o.gain;
  c.offset = o.offset;
  c.factor = o.factor;
  c.shift_gain = o.shift_gain;
  c.shift_first = o.form == 1;
  c.divide = o.form == 2;
  c.inverse = inverse;
  return c;
}

// The actnorm of a step, its parameters dense.
struct NormInputs {
  Tensor scale, shift;
  Norm norm;

  NormInputs(const Tensor& x, const Tensor& s, const Tensor& t, bool log_scale)
      : scale(channel_parameter(x, s)), shift(channel_parameter(x, t)), norm{array(scale), array(shift), log_scale} {}
};

// norm: null for a coupling alone.
void run_coupling(const Coupling& c, const Norm* norm, const Tensor& x, const Tensor& out, const Tensor& sum,
                  bool accumulate) {
  check_out(x, out, "out");
  check_sum(x, sum, "logdet");
  if (nothing_to_do(c.shape, sum, accumulate)) return;
  Target target(out, c.shape);
  check_overlap(x, out, !c.permutation.data);
  const Sum s(x, c.shape, sum, accumulate);
  const CouplingForward a{c, view(x), target.view(), s.logdet};
  if (norm) {
    const StepForward step{a, *norm};
    FLOWKIT_RUN(step, x, step);
  } else {
    FLOWKIT_RUN(coupling, x, a);
  }
  target.finish();
}

struct CouplingGrads {
  Tensor x, params, shift;
  Optional norm_scale, norm_shift;
};

// y is the output; gradients are dense in its layout. norm: null for a coupling alone.
CouplingGrads run_coupling_backward(Coupling c, const CouplingInputs& hold, const Norm* norm, const Tensor& grad_y,
                                    const Tensor& grad_logdet, const Tensor& y, bool affine, int64_t layout) {
  const bool last = is_channels_last(y);
  check_out(hold.x, grad_y, "grad_y");
  const Tensor grad = prepare(grad_y, c.shape.channels_last);
  Tensor grad_sum = grad_logdet.is_contiguous() ? grad_logdet : torch::stable::contiguous(grad_logdet);
  check_sum(y, grad_sum, "grad_logdet");
  CouplingGrads g{empty_dense(y, sizes_of(y), last), empty_dense(y, sizes_of(hold.params), last),
                  hold.shift ? empty_dense(y, sizes_of(*hold.shift), last) : empty_vector(y, 0, y.scalar_type())};
  if (norm) {
    g.norm_scale = empty_vector(y, y.size(1), accumulator(y));
    g.norm_shift = empty_vector(y, y.size(1), accumulator(y));
  }
  if (c.shape.size() == 0) {
    if (norm) {
      torch::stable::zero_(*g.norm_scale);
      torch::stable::zero_(*g.norm_shift);
    }
    return g;
  }
  CouplingBackward a{c, view(grad), view(hold.x), view(g.x), View(), View(), array(grad_sum)};
  if (affine) {
    const Packed p = unpack(g.params, hold.shift ? Optional(g.shift) : std::nullopt, layout);
    a.grad_scale = p.scale;
    a.grad_shift = p.shift;
  } else {
    a.grad_shift = view(g.params);
  }
  if (!norm) {
    FLOWKIT_RUN(coupling_backward, y, a);
    return g;
  }
  const Tensor partial = empty_vector(y, FLOWKIT_SIZE(step_partial_size, y, c.shape), accumulator(y));
  const StepBackward step{a, *norm, array(g.norm_scale), array(g.norm_shift), array(partial)};
  FLOWKIT_RUN(step_backward, y, step);
  return g;
}

}  // namespace

void affine_coupling_out(const Tensor& x, const Tensor& params, Optional shift, Optional permutation, int64_t begin,
                         int64_t layout, int64_t clamp, double bound, double gain, double offset, double factor,
                         int64_t form, double shift_gain, bool inverse, const Tensor& out, const Tensor& logdet) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, &params, shift ? *shift : params, !shift, permutation, begin,
                                      {layout, clamp, bound, gain, offset, factor, form, shift_gain}, inverse, hold);
  run_coupling(c, nullptr, hold.x, out, logdet, true);
}

std::tuple<Tensor, Tensor> affine_coupling(const Tensor& x, const Tensor& params, Optional shift, Optional permutation,
                                           int64_t begin, int64_t layout, int64_t clamp, double bound, double gain,
                                           double offset, double factor, int64_t form, double shift_gain,
                                           bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, &params, shift ? *shift : params, !shift, permutation, begin,
                                      {layout, clamp, bound, gain, offset, factor, form, shift_gain}, inverse, hold);
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_coupling(c, nullptr, hold.x, y, logdet, false);
  return {y, logdet};
}

void additive_coupling_out(const Tensor& x, const Tensor& shift, Optional permutation, int64_t begin, bool inverse,
                           const Tensor& out, const Tensor& logdet) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, nullptr, shift, false, permutation, begin, {}, inverse, hold);
  run_coupling(c, nullptr, hold.x, out, logdet, true);
}

std::tuple<Tensor, Tensor> additive_coupling(const Tensor& x, const Tensor& shift, Optional permutation, int64_t begin,
                                             bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, nullptr, shift, false, permutation, begin, {}, inverse, hold);
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_coupling(c, nullptr, hold.x, y, logdet, false);
  return {y, logdet};
}

std::tuple<Tensor, Tensor, Tensor> affine_coupling_backward(const Tensor& grad_y, const Tensor& grad_logdet,
                                                            const Tensor& y, const Tensor& params, Optional shift,
                                                            Optional permutation, int64_t begin, int64_t layout,
                                                            int64_t clamp, double bound, double gain, double offset,
                                                            double factor, int64_t form, double shift_gain,
                                                            bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(y, &params, shift ? *shift : params, !shift, permutation, begin,
                                      {layout, clamp, bound, gain, offset, factor, form, shift_gain}, inverse, hold);
  const CouplingGrads g = run_coupling_backward(c, hold, nullptr, grad_y, grad_logdet, y, true, layout);
  return {g.x, g.params, g.shift};
}

std::tuple<Tensor, Tensor> additive_coupling_backward(const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y,
                                                      const Tensor& shift, Optional permutation, int64_t begin,
                                                      bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(y, nullptr, shift, false, permutation, begin, {}, inverse, hold);
  const CouplingGrads g = run_coupling_backward(c, hold, nullptr, grad_y, grad_logdet, y, false, 0);
  return {g.x, g.params};
}

void affine_step_out(const Tensor& x, const Tensor& params, Optional shift, const Tensor& norm_scale,
                     const Tensor& norm_shift, Optional permutation, int64_t begin, int64_t layout, int64_t clamp,
                     double bound, double gain, double offset, double factor, int64_t form, double shift_gain,
                     bool log_scale, bool inverse, const Tensor& out, const Tensor& logdet) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, &params, shift ? *shift : params, !shift, permutation, begin,
                                      {layout, clamp, bound, gain, offset, factor, form, shift_gain}, inverse, hold);
  const NormInputs n(x, norm_scale, norm_shift, log_scale);
  run_coupling(c, &n.norm, hold.x, out, logdet, true);
}

std::tuple<Tensor, Tensor> affine_step(const Tensor& x, const Tensor& params, Optional shift, const Tensor& norm_scale,
                                       const Tensor& norm_shift, Optional permutation, int64_t begin, int64_t layout,
                                       int64_t clamp, double bound, double gain, double offset, double factor,
                                       int64_t form, double shift_gain, bool log_scale, bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, &params, shift ? *shift : params, !shift, permutation, begin,
                                      {layout, clamp, bound, gain, offset, factor, form, shift_gain}, inverse, hold);
  const NormInputs n(x, norm_scale, norm_shift, log_scale);
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_coupling(c, &n.norm, hold.x, y, logdet, false);
  return {y, logdet};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> affine_step_backward(
    const Tensor& grad_y, const Tensor& grad_logdet, const Tensor& y, const Tensor& params, Optional shift,
    const Tensor& norm_scale, const Tensor& norm_shift, Optional permutation, int64_t begin, int64_t layout,
    int64_t clamp, double bound, double gain, double offset, double factor, int64_t form, double shift_gain,
    bool log_scale, bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(y, &params, shift ? *shift : params, !shift, permutation, begin,
                                      {layout, clamp, bound, gain, offset, factor, form, shift_gain}, inverse, hold);
  const NormInputs n(y, norm_scale, norm_shift, log_scale);
  const CouplingGrads g = run_coupling_backward(c, hold, &n.norm, grad_y, grad_logdet, y, true, layout);
  return {g.x, g.params, g.shift, *g.norm_scale, *g.norm_shift};
}

void additive_step_out(const Tensor& x, const Tensor& shift, const Tensor& norm_scale, const Tensor& norm_shift,
                       Optional permutation, int64_t begin, bool log_scale, bool inverse, const Tensor& out,
                       const Tensor& logdet) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, nullptr, shift, false, permutation, begin, {}, inverse, hold);
  const NormInputs n(x, norm_scale, norm_shift, log_scale);
  run_coupling(c, &n.norm, hold.x, out, logdet, true);
}

std::tuple<Tensor, Tensor> additive_step(const Tensor& x, const Tensor& shift, const Tensor& norm_scale,
                                         const Tensor& norm_shift, Optional permutation, int64_t begin, bool log_scale,
                                         bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(x, nullptr, shift, false, permutation, begin, {}, inverse, hold);
  const NormInputs n(x, norm_scale, norm_shift, log_scale);
  Tensor y = empty_output(x), logdet = empty_vector(x, x.size(0), accumulator(x));
  run_coupling(c, &n.norm, hold.x, y, logdet, false);
  return {y, logdet};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> additive_step_backward(const Tensor& grad_y, const Tensor& grad_logdet,
                                                                  const Tensor& y, const Tensor& shift,
                                                                  const Tensor& norm_scale, const Tensor& norm_shift,
                                                                  Optional permutation, int64_t begin, bool log_scale,
                                                                  bool inverse) {
  CouplingInputs hold;
  const Coupling c = coupling_options(y, nullptr, shift, false, permutation, begin, {}, inverse, hold);
  const NormInputs n(y, norm_scale, norm_shift, log_scale);
  const CouplingGrads g = run_coupling_backward(c, hold, &n.norm, grad_y, grad_logdet, y, false, 0);
  return {g.x, g.params, *g.norm_scale, *g.norm_shift};
}

}  // namespace flowkit
