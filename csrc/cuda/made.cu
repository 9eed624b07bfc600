// The inverse of masked autoregressive transforms: one walk over the ranks, in which each weight of the network is used
// once; see csrc/cpu/made.cpp for what happens at a rank.
//
// A first kernel sorts the weights by degree, so that each row needs a prefix of the units below. Then a block takes a
// few samples through all ranks; what it knows of them lies in scratch, samples inside. A warp makes one unit of all
// its samples at a time.
#include "../math/activation.h"
#include "../math/coupling.h"
#include "geometry.cuh"
#include "storage.cuh"

namespace flowkit::cuda {
namespace {

constexpr int made_threads = 128;
constexpr int samples = 8;  // of a block

// A layer: where its sorted weights are, and the lines of scratch for its results. keeps: the sum before the activation
// too, for the next residual block to add to.
template <class T>
struct Layer {
  readonly_ptr<T> weight, bias;
  int64_t bias_stride, in, used, out;  // used: inputs that are sorted units, not conditions
  int64_t sorted;                      // its first weight among the sorted ones
  int64_t below_units, units;          // where the sorted units of its inputs and of its outputs begin
  int64_t value, raw;
  bool activates, keeps, adds;
};

template <class T>
struct Network {
  Layer<T> layers[most_made_layers];
  int depth;
  int64_t batch, channels, levels, parameters;
  int64_t outputs, logs, lines;  // lines of the parameters and of the log-determinants of channels, and of all
  readonly_ptr<int64_t> units, counts;
  Activation activation;

  // Units of degrees up to m of the values below layer l: the channels, then the hidden layers.
  __device__ __forceinline__ int64_t count(int l, int64_t m) const { return m < 0 ? 0 : counts[l * levels + m]; }

  // The place, in layer l, of its row r in sorted order.
  __device__ __forceinline__ int64_t unit(int l, int64_t r) const {
    return l + 1 < depth ? units[layers[l].units + r] : units[r / parameters] * parameters + r % parameters;
  }
};

template <class T>
__global__ void __launch_bounds__(block_threads) made_sort(Network<T> network, device_ptr<T> sorted, int64_t size) {
  int64_t i = int64_t(blockIdx.x) * block_threads + threadIdx.x;
  if (i >= size) return;
  const int64_t to = i;
  int l = 0;
  for (; i >= network.layers[l].out * network.layers[l].used; ++l) i -= network.layers[l].out * network.layers[l].used;
  const Layer<T>& layer = network.layers[l];
  const int64_t r = i / layer.used, j = i % layer.used;
  sorted[to] = layer.weight[network.unit(l, r) * layer.in + network.units[layer.below_units + j]];
}

template <class T>
struct Affine {
  Coupling coupling;
  int u, t;

  // x from y, with parameters p(0), p(1); adds log|dx/dy|.
  template <class Params>
  __device__ __forceinline__ T operator()(T y, const Params& p, T& logdet) const {
    T x = y;
    math::with_formula<T, true>(coupling, [&](const auto& formula) { x = formula.forward(y, p(u), p(t), logdet); });
    return x;
  }
};

// Line `line` of the block's scratch holds one number of each of its samples.
template <class T>
struct Lines {
  device_ptr<T> data;

  __device__ __forceinline__ T operator()(int64_t line, int sample) const { return data[line * samples + sample]; }
  __device__ __forceinline__ void set(int64_t line, int sample, T value) const {
    data[line * samples + sample] = value;
  }
};

// Rows [first, last) of layer l from the first `inputs` sorted units below, which begin at line `below`.
template <class T>
__device__ __forceinline__ void evaluate(const Network<T>& network, readonly_ptr<T> sorted, const Lines<T>& lines,
                                         int l, int64_t first, int64_t last, int64_t below, int64_t inputs) {
  const Layer<T>& layer = network.layers[l];
  const int lane = threadIdx.x % warp_lanes;
  for (int64_t r = first + threadIdx.x / warp_lanes; r < last; r += made_threads / warp_lanes) {
    T sums[samples] = {};
    for (int64_t j = lane; j < inputs; j += warp_lanes) {
      const T w = sorted[layer.sorted + r * layer.used + j];
      const Pack<T, samples> values = load_pack<samples, T>(lines.data, (below + j) * samples);
#pragma unroll
      for (int k = 0; k < samples; ++k) sums[k] += w * values.values[k];
    }
    T mine = 0;
#pragma unroll
    for (int k = 0; k < samples; ++k) {
      const T sum = group_sum(sums[k], warp_lanes);
      if (lane == k) mine = sum;
    }
    if (lane >= samples) continue;
    const int64_t sample = int64_t(blockIdx.x) * samples + lane;
    const int64_t row = layer.bias_stride && sample >= network.batch ? network.batch - 1 : sample;
    mine += layer.bias[row * layer.bias_stride + network.unit(l, r)];
    if (layer.adds) mine += lines(network.layers[l - 2].raw + r, lane);
    if (layer.keeps) lines.set(layer.raw + r, lane, mine);
    lines.set(layer.value + r, lane, layer.activates ? math::activate(mine, network.activation) : mine);
  }
}

template <class T, class Transform>
__global__ void __launch_bounds__(made_threads)
    made_inverse_kernel(Network<T> network, Transform transform, readonly_ptr<T> sorted, readonly_ptr<T> y,
                        device_ptr<T> x, device_ptr<T> logdet, device_ptr<T> scratch) {
  const Lines<T> lines{scratch + int64_t(blockIdx.x) * network.lines * samples};
  const int last = network.depth - 1;
  const int64_t first_sample = int64_t(blockIdx.x) * samples;
  for (int64_t m = 0; m < network.levels; ++m) {
    const int64_t known = network.count(0, m - 1), reached = network.count(0, m);
    for (int l = 0; l < last; ++l) {
      evaluate(network, sorted, lines, l, network.count(l + 1, m - 1), network.count(l + 1, m),
               l == 0 ? 0 : network.layers[l - 1].value, l == 0 ? known : network.count(l, m));
      __syncthreads();
    }
    evaluate(network, sorted, lines, last, known * network.parameters, reached * network.parameters,
             last == 0 ? 0 : network.layers[last - 1].value, last == 0 ? known : network.count(last, m));
    __syncthreads();
    for (int64_t i = threadIdx.x; i < (reached - known) * samples; i += made_threads) {
      const int64_t k = known + i / samples, channel = network.units[k];
      const int s = static_cast<int>(i % samples);
      const int64_t b = first_sample + s;
      const auto parameter = [&](int p) { return lines(network.outputs + k * network.parameters + p, s); };
      T log = 0;
      const T value = transform(b < network.batch ? y[b * network.channels + channel] : T(0), parameter, log);
      lines.set(k, s, value);
      lines.set(network.logs + k, s, log);
      if (b < network.batch) x[b * network.channels + channel] = value;
    }
    __syncthreads();
  }
  const int s = threadIdx.x;
  if (s >= samples || first_sample + s >= network.batch) return;
  T sum = 0;
  for (int64_t k = 0; k < network.channels; ++k) sum += lines(network.logs + k, s);
  logdet[first_sample + s] = sum;
}

// The layers with the places of their weights and results; returns how many weights are sorted.
template <class T>
int64_t describe(const Made& a, Network<T>& network) {
  network.depth = static_cast<int>(a.depth);
  network.batch = a.batch;
  network.channels = a.channels;
  network.levels = a.levels;
  network.parameters = a.parameters;
  network.units = view(static_cast<const int64_t*>(a.units.data), a.units.extent);
  network.counts = view(static_cast<const int64_t*>(a.counts.data), a.counts.extent);
  network.activation = a.activation;
  network.logs = a.channels;
  int64_t line = 2 * a.channels, weights = 0, units = 0;
  for (int64_t l = 0; l < a.depth; ++l) {
    const MadeLayer& from = a.layers[l];
    Layer<T>& to = network.layers[l];
    const bool hidden = l + 1 < a.depth, stream = hidden && a.residual != Residual::none && l % 2 == 0;
    to.weight = view(static_cast<const T*>(from.weight.data), from.weight.extent);
    to.bias = view(static_cast<const T*>(from.bias.data), from.bias.extent);
    to.bias_stride = from.bias_stride;
    to.in = from.in;
    to.used = l == 0 ? a.channels : from.in;
    to.out = from.out;
    to.sorted = weights;
    to.below_units = units;
    to.units = units + to.used;
    to.activates = hidden && !(stream && (a.residual == Residual::linear || l + 2 == a.depth));
    to.keeps = stream && to.activates;
    to.adds = stream && l > 0;
    to.value = to.raw = line;
    line += from.out;
    if (to.keeps) {
      to.raw = line;
      line += from.out;
    }
    weights += to.out * to.used;
    units += to.used;
  }
  network.outputs = network.layers[a.depth - 1].value;
  network.lines = line;
  return weights;
}

template <class T, class Transform>
void launch(const Made& a, const Transform& transform, Stream stream) {
  Network<T> network;
  const int64_t weights = describe(a, network), blocks = ceil_div(a.batch, samples);
  const int64_t lines = blocks * network.lines * samples;
  const auto scratch = view(static_cast<T*>(a.scratch.data), lines);
  const auto sorted = view(static_cast<T*>(a.scratch.data) + lines, weights);
  FLOWKIT_LAUNCH(made_sort<T>, static_cast<unsigned>(ceil_div(weights, block_threads)), block_threads, 0, stream,
                 network, sorted, weights);
  const auto y = view(static_cast<const T*>(a.y.data), a.y.extent);
  const auto x = view(static_cast<T*>(a.x.data), a.x.extent);
  const auto logdet = view(static_cast<T*>(a.logdet.data), a.logdet.extent);
  FLOWKIT_LAUNCH((made_inverse_kernel<T, Transform>), static_cast<unsigned>(blocks), made_threads, 0, stream, network,
                 transform, sorted, y, x, logdet, scratch);
}

template <class T>
void affine_inverse(const MadeAffine& a, Stream stream) {
  launch<T>(a, Affine<T>{a.transform, a.shift_leads ? 1 : 0, a.shift_leads ? 0 : 1}, stream);
}

}  // namespace

int64_t made_scratch_size(const Made& a) {
  Network<float> network;
  const int64_t weights = describe(a, network);
  return ceil_div(a.batch, samples) * samples * network.lines + weights;
}

void made_affine_inverse(const MadeAffine& a, Stream stream) {
  if (a.batch == 0 || a.channels == 0) return;
  if (a.dtype == DType::float64)
    affine_inverse<double>(a, stream);
  else
    affine_inverse<float>(a, stream);
}

}  // namespace flowkit::cuda
