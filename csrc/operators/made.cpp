// The inverse of masked autoregressive transforms.
#include "operators.h"
#include "tensors.h"

namespace flowkit {
namespace {

void check_like_y(const Tensor& y, const Tensor& t, const char* name) {
  FLOWKIT_CHECK(t.scalar_type() == y.scalar_type() && same_device(y, t) && t.is_contiguous(), "flowkit: ", name,
                " must be dense, of the dtype and on the device of y");
}

// The layers, checked against each other; `channels` inputs of the first are used.
std::vector<MadeLayer> layers_of(const Tensor& y, const std::vector<Tensor>& weights,
                                 const std::vector<Tensor>& biases) {
  FLOWKIT_CHECK(!weights.empty() && weights.size() == biases.size(), "flowkit: one bias is needed for each weight");
  std::vector<MadeLayer> layers;
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor &weight = weights[l], &bias = biases[l];
    check_like_y(y, weight, "weights");
    check_like_y(y, bias, "biases");
    const bool shared = bias.dim() == 1;
    FLOWKIT_CHECK(weight.dim() == 2 && (shared || (bias.dim() == 2 && bias.size(0) == y.size(0))) &&
                      bias.size(shared ? 0 : 1) == weight.size(0),
                  "flowkit: weights are (out, in) and biases (out,) or (B, out)");
    FLOWKIT_CHECK(l == 0 ? weight.size(1) >= y.size(1) : weight.size(1) == layers.back().out,
                  "flowkit: the inputs of a layer are not the outputs of the one before");
    layers.push_back({array(weight), array(bias), shared ? 0 : bias.size(1), weight.size(1), weight.size(0)});
  }
  return layers;
}

// The sorted units and their counts are indices into memory: each must be what it says. On a GPU the caller vouches for
// them: looking at them would synchronise.
void check_units(const Tensor& y, const Made& a) {
  int64_t units = a.channels;
  for (int64_t l = 0; l + 1 < a.depth; ++l) units += a.layers[l].out;
  FLOWKIT_CHECK(units == a.units.extent, "flowkit: units must hold ", units, " indices, got ", a.units.extent);
  if (!y.is_cuda()) {
    const auto* unit = static_cast<const int64_t*>(a.units.data);
    const auto* counts = static_cast<const int64_t*>(a.counts.data);
    for (int64_t l = 0; l < a.depth; ++l) {
      const int64_t size = l == 0 ? a.channels : a.layers[l - 1].out;
      std::vector<bool> seen(size);
      for (int64_t k = 0; k < size; ++k, ++unit) {
        FLOWKIT_CHECK(*unit >= 0 && *unit < size && !seen[*unit], "flowkit: units are no permutation of a layer's");
        seen[*unit] = true;
      }
      for (int64_t m = 0, last = 0; m < a.levels; last = counts[l * a.levels + m++])
        FLOWKIT_CHECK(counts[l * a.levels + m] >= last && counts[l * a.levels + m] <= size,
                      "flowkit: counts must grow up to the size of a layer");
      FLOWKIT_CHECK(l > 0 || counts[a.levels - 1] == size, "flowkit: some channels have no rank");
    }
  }
}

struct Prepared {
  std::vector<MadeLayer> layers;
  Tensor x, logdet;
  Optional scratch;
};

// All but the transform of the channels, which has `parameters` parameters each.
Prepared prepare_made(const Tensor& y, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases,
                      const Tensor& units, const Tensor& counts, int64_t activation, int64_t residual,
                      int64_t parameters, Made& a) {
  check_x(y);
  FLOWKIT_CHECK(y.dim() == 2 && (y.scalar_type() == ScalarType::Float || y.scalar_type() == ScalarType::Double),
                "flowkit: y must be (B, C) of float32 or float64");
  check_like_y(y, y, "y");
  Prepared p{layers_of(y, weights, biases), empty_output(y), empty_vector(y, y.size(0), accumulator(y)), {}};
  const auto depth = static_cast<int64_t>(p.layers.size());
  FLOWKIT_CHECK(units.scalar_type() == ScalarType::Long && counts.scalar_type() == ScalarType::Long &&
                    units.is_contiguous() && counts.is_contiguous() && counts.dim() == 2 && counts.size(0) == depth &&
                    counts.size(1) > 0 && same_device(y, units) && same_device(y, counts),
                "flowkit: units and counts must be dense int64 tensors, counts (layers, levels)");
  FLOWKIT_CHECK(activation >= 0 && activation <= static_cast<int64_t>(Activation::softplus) && residual >= 0 &&
                    residual <= static_cast<int64_t>(Residual::linear),
                "flowkit: unknown activation or residual");
  FLOWKIT_CHECK(residual == 0 || depth % 2 == 0, "flowkit: residual blocks have two layers each");
  for (int64_t l = 2; residual && l + 1 < depth; l += 2)
    FLOWKIT_CHECK(p.layers[l].out == p.layers[0].out, "flowkit: residual blocks must have one width");
  FLOWKIT_CHECK(p.layers.back().out == parameters * y.size(1), "flowkit: the last layer must give ", parameters,
                " outputs a channel");
  a.dtype = dtype_of(y);
  a.batch = y.size(0);
  a.channels = y.size(1);
  a.levels = counts.size(1);
  a.depth = depth;
  a.parameters = parameters;
  a.y = array(y);
  a.x = array(p.x);
  a.logdet = array(p.logdet);
  a.layers = p.layers.data();
  a.units = array(units);
  a.counts = array(counts);
  a.activation = static_cast<Activation>(activation);
  a.residual = static_cast<Residual>(residual);
#ifdef FLOWKIT_CUDA_KERNELS
  if (on_cuda(y)) {
    FLOWKIT_CHECK(depth <= cuda::most_made_layers, "flowkit: a network may have ", cuda::most_made_layers,
                  " layers on a GPU, got ", depth);
    p.scratch = empty_vector(y, cuda::made_scratch_size(a), accumulator(y));
    a.scratch = array(p.scratch);
  }
#endif
  check_units(y, a);
  return p;
}

}  // namespace

std::tuple<Tensor, Tensor> made_affine_inverse(const Tensor& y, std::vector<Tensor> weights, std::vector<Tensor> biases,
                                               const Tensor& units, const Tensor& counts, int64_t activation,
                                               int64_t residual, int64_t layout, int64_t clamp, double bound,
                                               double gain, double offset, double factor, int64_t form) {
  FLOWKIT_CHECK(clamp >= 0 && clamp <= static_cast<int64_t>(Clamp::hard) && form >= 0 && form <= 2,
                "flowkit: unknown clamp or form");
  FLOWKIT_CHECK(layout == 2 || layout == 3, "flowkit: scale and shift of a channel must lie together");
  MadeAffine a;
  const Prepared p = prepare_made(y, weights, biases, units, counts, activation, residual, 2, a);
  a.transform.scale = {a.layers[0].weight.data};  // not null: it has a scale
  a.transform.clamp = static_cast<Clamp>(clamp);
  a.transform.bound = bound;
  a.transform.gain = gain;
  a.transform.offset = offset;
  a.transform.factor = factor;
  a.transform.shift_first = form == 1;
  a.transform.divide = form == 2;
  a.shift_leads = layout == 3;
  if (a.channels == 0) {
    Tensor logdet = p.logdet;
    if (a.batch > 0) torch::stable::zero_(logdet);
  } else if (a.batch > 0) {
    FLOWKIT_RUN(made_affine_inverse, y, a);
  }
  return {p.x, p.logdet};
}

}  // namespace flowkit
