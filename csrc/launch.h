// What register.cpp hands to a back end: plain views, sizes and options, and the entry points of both back ends.
#pragma once

#include <cstdint>

namespace flowkit {

enum class DType { float32, float64, bfloat16, float16 };

// l(u), see math/clamp.h.
enum class Clamp { none, tanh, atan, sigmoid, softplus, softclip, hard };

// A tensor (batch, channel, pixel): strides in elements; extent = elements from data to the last one, included.
struct View {
  void* data = nullptr;
  int64_t batch = 0, channel = 0, pixel = 0;
  int64_t extent = 0;
};

// Parameters of single elements (batch, channel, parameter, pixel), as View.
struct ParameterView {
  void* data = nullptr;
  int64_t batch = 0, channel = 0, parameter = 0, pixel = 0;
  int64_t extent = 0;
};

// A dense vector; extent in elements. data may be null: absent.
struct Array {
  void* data = nullptr;
  int64_t extent = 0;
};

// pixels = product of the spatial sizes. channels_last: x, y and their gradients have channel stride 1 (vectors too);
// otherwise pixel stride 1. Parameters may have any strides.
struct Shape {
  int64_t batch, channels, pixels;
  bool channels_last;
  int64_t size() const { return batch * channels * pixels; }
};

// Log-determinants are (batch,) in float (double for float64): written, or added to what is there if accumulate.
// partial is scratch for partial sums, `partial_size(shape)` elements of that type, null if that is 0.
struct LogDet {
  Array sum, partial;
  bool accumulate = false;
};

// x' = x * exp(l(u)) + t on channels [begin, begin + count), the others unchanged; y[:, j] = x'[:, permutation[j]].
// shift_first: x' = (x + t) * exp(l(u)). divide: -l(u) for l(u). t is shift_gain times `shift` (if there is a scale).
// bound, gain, offset, factor: of l(u), see math/clamp.h. inverse: from y (in `x`) to x (in `y`). scale.data is null for
// the additive coupling. y.data may equal x.data if there is no permutation.
struct Coupling {
  Shape shape;
  DType dtype;
  View scale, shift;  // (batch, count, pixels)
  Array permutation;  // int64, or null
  int64_t begin, count;
  Clamp clamp;
  double bound, gain, offset, factor, shift_gain = 1;
  bool shift_first, divide;
  bool inverse;
};
struct CouplingForward : Coupling {
  View x, y;
  LogDet logdet;
};
// y is the output of the direction `inverse` names.
struct CouplingBackward : Coupling {
  View grad_y, y, grad_x, grad_scale, grad_shift;
  Array grad_logdet;
};

// A coupling that transforms each element of channels [begin, begin + count) with `parameters` parameters of its own;
// the rest as in Coupling. Options: the elementwise map, see the header of csrc/math that takes them.
template <class Options>
struct Parametric {
  Shape shape;
  DType dtype;
  ParameterView params;  // (batch, count, parameters, pixels)
  Array permutation;     // int64, or null
  int64_t begin, count, parameters;
  bool inverse;
  Options options;
};
template <class Options>
struct ParametricForward : Parametric<Options> {
  View x, y;
  LogDet logdet;
};
// x is the domain side: what the forward direction reads and the inverse writes. grad_y is the gradient of the output,
// grad_x that of the input of the direction `inverse` names.
template <class Options>
struct ParametricBackward : Parametric<Options> {
  View grad_y, x, grad_x;
  ParameterView grad_params;
  Array grad_logdet;
};

// How raw parameters become knots, and what holds outside the box: see math/rational_quadratic.h.
enum class KnotMap { softmax, softclip, free, square };
enum class Tails { identity, interval, circular, affine };

struct RationalQuadraticOptions {
  int64_t bins;
  KnotMap map;
  Tails tails;
  double left, right, bottom, top;
  double min_size, min_slope;  // of bins, and of the spline at knots
  double gain, beta;           // factors of raw sizes and, within the softplus, of raw slopes
};

// log_scale: y = x * exp(scale) + shift, otherwise y = scale * (x + shift). scale, shift: (channels,) float or double.
struct ActNorm {
  Shape shape;
  DType dtype;
  Array scale, shift;
  bool log_scale, inverse;
};
struct ActNormForward : ActNorm {
  View x, y;
  LogDet logdet;  // partial unused
};
struct ActNormBackward : ActNorm {
  View grad_y, y, grad_x;
  Array grad_logdet, grad_scale, grad_shift;
  Array partial;  // `actnorm_partial_size(shape)` elements of the type of scale
};

// A flow step: y = actnorm(permute(coupling(x))), the coupling affine or additive; inverse: x from y. The actnorm acts
// on channels as they lie after the permutation. y.data may equal x.data if there is no permutation.
struct Norm {
  Array scale, shift;  // (channels,) float or double
  bool log_scale;
};
struct StepForward : CouplingForward {
  Norm norm;
};
struct StepBackward : CouplingBackward {
  Norm norm;
  Array grad_norm_scale, grad_norm_shift;
  Array norm_partial;  // `step_partial_size(shape)` elements of the type of norm.scale
};

struct LeakyReluForward {
  Shape shape;
  DType dtype;
  View x, y;
  double slope;
  bool inverse;
  LogDet logdet;
};
struct LeakyReluBackward {
  Shape shape;
  DType dtype;
  View grad_y, y, grad_x;
  double slope;
  bool inverse;
};

// y[:, j] = x[:, permutation[j]]; inverse: y[:, permutation[j]] = x[:, j].
struct Permute {
  Shape shape;
  DType dtype;
  View x, y;
  Array permutation;
  bool inverse;
};

// y[:, i] = sum_j weight[i, j] x[:, j], for up to max_linear_channels channels; weight dense in the dtype of x, or its
// transpose is meant. On a CPU torch's own matrix product is faster than any kernel that we wrote.
struct Linear {
  Shape shape;
  DType dtype;
  View x, y;
  Array weight;
  bool transposed;
};

// y = weight x + bias for each of `groups` maps: x (groups, in, samples), weight (groups, out, in), bias (groups, out), y
// (groups, out, samples), all dense, float32 or float64. For few samples on a CPU; else torch's matrix product is faster.
struct StackedLinear {
  DType dtype;
  int64_t groups, out, in, samples;
  Array x, weight, bias, y;
};
// Gradients that are not wanted are null.
struct StackedLinearBackward {
  DType dtype;
  int64_t groups, out, in, samples;
  Array grad_y, x, weight, grad_x, grad_weight, grad_bias;
};

enum class Activation { relu, leaky_relu, elu, silu, tanh, softplus };

// Several networks of one shape on the same input, whose results come one after the other: x (samples, in), y (samples,
// groups * out). Layer l has weight (groups, out, in) and bias (groups, out); between layers comes the activation, and a
// tanh ends the networks whose bit in `tanhs` is set. All dense; weights are of dtype, or bfloat16 where that is float32.
// For few samples on a CPU, as StackedLinear.
struct StackedLayer {
  Array weight, bias;
  int64_t in, out;
};
struct StackedMlp {
  DType dtype, weight_dtype;
  int64_t groups, samples, depth;
  const StackedLayer* layers;  // `depth` of them, in host memory
  Activation activation;
  uint64_t tanhs;
  Array x, y;
};

// What the network of a coupling on vectors reads, y (samples, inputs), dense: the channels of x outside [begin, end), as
// they lay before `permutation` if that is not null, then those of the condition (its data may be null).
struct PassivePart {
  DType dtype;
  int64_t samples, channels, condition_channels;
  View x, condition;
  Array permutation;
  int64_t begin, end;
  Array y;
};

enum class Residual { none, activated, linear };  // see flowkit/nets/made.py

// weight (out, in) and bias (out,), or (batch, out) if bias_stride is not 0; in the dtype of the whole.
struct MadeLayer {
  Array weight, bias;
  int64_t bias_stride, in, out;
};

// From y to x (both dense, (batch, channels)), where the parameters of channel c are the outputs c * parameters, ... of
// a masked network of `depth` layers on x. units: for the channels, then for each hidden layer, its units sorted by
// rank or degree; counts (depth, levels): how many of them are of degrees up to each level. The first layer reads the
// first `channels` of its inputs; what others (a condition) contribute is in its bias.
struct Made {
  DType dtype;  // float32 or float64
  int64_t batch, channels, levels, depth, parameters;
  Array y, x, logdet;
  const MadeLayer* layers;  // `depth` of them, in host memory
  Array units, counts;
  Activation activation;
  Residual residual;
  Array scratch;  // CUDA only: `made_scratch_size(*this)` elements
};
// (u, t), or (t, u) if shift_leads, of the affine coupling `transform`, of which only the formula counts.
struct MadeAffine : Made {
  Coupling transform;
  bool shift_leads;
};

// Solves conv(y) = x for y. conv is the convolution with zero padding that keeps the size and whose weight is
// autoregressive: only its taps before the centre count, in raster order, and the lower triangle of the centre;
// reverse: only those after it, and the upper triangle. transposed: the adjoint of that map is solved instead.
// Depth, height, width: sizes of dimensions that are not there are 1 and come first. In the order of substitution,
// which is raster order, backwards if reverse != transposed, a pixel depends only on pixels with a smaller sum of
// skew * position: those of one sum are a wavefront. y.data may equal x.data.
struct MaskedConvSolve {
  Shape shape;
  DType dtype;
  View x, y;
  Array weight;                                      // (channels, channels, *kernel), dense, in the dtype of x
  int64_t size[3], kernel[3], dilation[3], skew[3];  // skew[2] is 0 or 1
  bool reverse, transposed;
  Array scratch;  // CUDA only: `masked_conv_scratch_size(*this)` elements of the type of log-determinants
};

#define FLOWKIT_ENTRY_POINTS(...)                                 \
  int64_t partial_size(const Shape&);                             \
  int64_t actnorm_partial_size(const Shape&);                     \
  int64_t step_partial_size(const Shape&);                        \
  void coupling(const CouplingForward& __VA_ARGS__);              \
  void coupling_backward(const CouplingBackward& __VA_ARGS__);    \
  void actnorm(const ActNormForward& __VA_ARGS__);                \
  void actnorm_backward(const ActNormBackward& __VA_ARGS__);      \
  void step(const StepForward& __VA_ARGS__);                      \
  void step_backward(const StepBackward& __VA_ARGS__);            \
  void leaky_relu(const LeakyReluForward& __VA_ARGS__);           \
  void leaky_relu_backward(const LeakyReluBackward& __VA_ARGS__); \
  void permute(const Permute& __VA_ARGS__);                       \
  void masked_conv_solve(const MaskedConvSolve& __VA_ARGS__);     \
  void made_affine_inverse(const MadeAffine& __VA_ARGS__);

// The couplings with parameters for each element.
#define FLOWKIT_PARAMETRIC_ENTRY_POINTS(...)                                               \
  void rational_quadratic(const ParametricForward<RationalQuadraticOptions>& __VA_ARGS__); \
  void rational_quadratic_backward(const ParametricBackward<RationalQuadraticOptions>& __VA_ARGS__);

namespace cpu {
FLOWKIT_ENTRY_POINTS()
FLOWKIT_PARAMETRIC_ENTRY_POINTS()
void stacked_linear(const StackedLinear&);
void stacked_linear_backward(const StackedLinearBackward&);
void stacked_mlp(const StackedMlp&);
void passive_part(const PassivePart&);
}  // namespace cpu

namespace cuda {
using Stream = void*;  // cudaStream_t
FLOWKIT_ENTRY_POINTS(, Stream)
FLOWKIT_PARAMETRIC_ENTRY_POINTS(, Stream)
constexpr int64_t max_linear_channels = 128;
void linear(const Linear&, Stream);
constexpr int64_t most_made_layers = 24;
int64_t made_scratch_size(const Made&);
int64_t masked_conv_scratch_size(const MaskedConvSolve&);
}  // namespace cuda

}  // namespace flowkit
