// Inverse of a masked autoregressive transform: one walk over the ranks, in which each weight of the network is used
// once.
//
// A hidden unit of degree m depends on the channels of ranks below m alone. So at rank m the units of degree m are
// computed, layer by layer, then the parameters of the channels of rank m, then these channels; what is known is kept.
// With the units of every layer sorted by degree, each row needs a prefix of the row below: no mask is left. Weights
// are packed once a call in the order in which they are read, and samples are the lanes.
#include "../math/coupling.h"

#include "activate.h"
#include "simd.h"

namespace flowkit::cpu::FLOWKIT_ISA {
namespace {

template <class C>
struct Lanes {
  typedef C Vector __attribute__((vector_size(64)));
  static constexpr int64_t size = 64 / sizeof(C);
};

constexpr int64_t group_rows = 4;  // rows of a layer computed together

// Rows [first, first + rows) of a layer, in the order of the sorted units, from the first `inputs` values below.
struct Step {
  int64_t layer, first, rows, inputs, weights;
};

template <class C>
class Program {
 public:
  explicit Program(const Made& a) : a_(a) {
    const int64_t* units = get<int64_t>(a.units);
    for (int64_t l = 0; l < a.depth; ++l) {
      sorted_.push_back(units);
      units += l == 0 ? a.channels : a.layers[l - 1].out;
    }
    for (int64_t m = 0; m < a.levels; ++m) {
      const int64_t known = count(0, m - 1);
      for (int64_t l = 0; l + 1 < a.depth; ++l)
        add(l, count(l + 1, m - 1), count(l + 1, m), l == 0 ? known : count(l, m));
      for (int64_t k = known; k < count(0, m); ++k)
        add(a.depth - 1, k * a.parameters, (k + 1) * a.parameters, a.depth == 1 ? known : count(a.depth - 1, m));
    }
    pack();
  }

  const std::vector<Step>& steps() const { return steps_; }
  const C* weights(const Step& s) const { return packed_.data() + s.weights; }
  int64_t channel(int64_t k) const { return sorted_[0][k]; }

  // The place, in its layer, of a row in sorted order.
  int64_t unit(int64_t layer, int64_t row) const {
    if (layer + 1 < a_.depth) return sorted_[layer + 1][row];
    return sorted_[0][row / a_.parameters] * a_.parameters + row % a_.parameters;
  }

 private:
  // Units of degrees up to m of the row of values `l`: 0 the channels, then the hidden layers.
  int64_t count(int64_t l, int64_t m) const { return m < 0 ? 0 : get<int64_t>(a_.counts)[l * a_.levels + m]; }

  void add(int64_t layer, int64_t first, int64_t last, int64_t inputs) {
    if (last == first) return;
    steps_.push_back({layer, first, last - first, inputs, size_});
    size_ += (last - first) * inputs;
  }

  void pack() {
    packed_.resize(size_);
    torch::stable::parallel_for(0, static_cast<int64_t>(steps_.size()), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Step& s = steps_[i];
        const MadeLayer& layer = a_.layers[s.layer];
        C* to = packed_.data() + s.weights;
        for (int64_t r = 0; r < s.rows; r += group_rows) {
          const int64_t rows = std::min(group_rows, s.rows - r);
          for (int64_t k = 0; k < rows; ++k) {
            const C* from = get<C>(layer.weight) + unit(s.layer, s.first + r + k) * layer.in;
            for (int64_t j = 0; j < s.inputs; ++j) to[j * rows + k] = from[sorted_[s.layer][j]];
          }
          to += rows * s.inputs;
        }
      }
    });
  }

  const Made& a_;
  std::vector<const int64_t*> sorted_;  // of the channels, then of each hidden layer
  std::vector<Step> steps_;
  std::vector<C> packed_;
  int64_t size_ = 0;
};

// What a channel undergoes, for n samples: values y become x, and the log-derivatives are added; a row a parameter.
template <class C>
struct Transform {
  virtual ~Transform() = default;
  virtual void operator()(int64_t n, const C* params, C* values, C* logdet) const = 0;
};

// `samples` lanes of vectors, from sample `first` on; the last sample fills the lanes that are left over.
template <class C, int vectors>
class Block {
  using Vector = typename Lanes<C>::Vector;
  static constexpr int64_t samples = vectors * Lanes<C>::size;

 public:
  Block(const Made& a, const Program<C>& program, const Transform<C>& transform)
      : a_(a), program_(program), transform_(transform) {
    int64_t size = a.channels + a.parameters;
    for (int64_t l = 0; l + 1 < a.depth; ++l) {
      const bool stream = a.residual != Residual::none && l % 2 == 0;
      const bool plain = stream && (a.residual == Residual::linear || l + 2 == a.depth);
      layers_.push_back({!plain, stream && l > 0, size, size});
      size += a.layers[l].out;
      if (stream && !plain) {
        layers_.back().raw = size;
        size += a.layers[l].out;
      }
    }
    C* memory = scratch<C>(size * samples + Lanes<C>::size);
    memory_ = memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64 / sizeof(C);
  }

  void run(int64_t first) {
    C logdet[samples] = {};
    for (const Step& s : program_.steps()) {
      if (s.layer + 1 < a_.depth) {
        evaluate(s, first, row(layers_[s.layer].raw + s.first));
        finish(s);
      } else {
        evaluate(s, first, row(a_.channels));
        invert(s.first / a_.parameters, first, logdet);
      }
    }
    for (int64_t i = 0; i < std::min(samples, a_.batch - first); ++i)
      static_cast<C*>(a_.logdet.data)[first + i] = logdet[i];
  }

 private:
  struct Layer {
    bool activates, adds;  // adds: to the stream two layers below
    int64_t value, raw;    // rows of memory: what is read above, and what a later block adds to, before the activation
  };

  C* row(int64_t index) const { return memory_ + index * samples; }
  int64_t sample(int64_t first, int64_t i) const { return std::min(first + i, a_.batch - 1); }

  // The linear part of a step, to rows of memory.
  void evaluate(const Step& s, int64_t first, C* to) const {
    const C* in = s.layer == 0 ? row(0) : row(layers_[s.layer - 1].value);
    const C* weights = program_.weights(s);
    for (int64_t r = 0; r < s.rows; r += group_rows) {
      const int64_t rows = std::min(group_rows, s.rows - r);
      for (int64_t k = 0; k < rows; ++k)
        bias(s.layer, program_.unit(s.layer, s.first + r + k), first, to + (r + k) * samples);
      switch (rows) {
        case 1: multiply<1>(weights, in, s.inputs, to + r * samples); break;
        case 2: multiply<2>(weights, in, s.inputs, to + r * samples); break;
        case 3: multiply<3>(weights, in, s.inputs, to + r * samples); break;
        default: multiply<4>(weights, in, s.inputs, to + r * samples);
      }
      weights += rows * s.inputs;
    }
  }

  void bias(int64_t l, int64_t unit, int64_t first, C* to) const {
    const MadeLayer& layer = a_.layers[l];
    const C* from = get<C>(layer.bias) + unit;
    for (int64_t i = 0; i < samples; ++i) to[i] = from[layer.bias_stride ? sample(first, i) * layer.bias_stride : 0];
  }

  // to[r] += sum_j weights[j][r] * in[j].
  template <int rows>
  static void multiply(const C* weights, const C* in, int64_t inputs, C* to) {
    Vector sum[rows][vectors];
    auto* out = reinterpret_cast<Vector*>(to);
    const auto* from = reinterpret_cast<const Vector*>(in);
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v) sum[r][v] = out[r * vectors + v];
    for (int64_t j = 0; j < inputs; ++j)
      for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v) sum[r][v] += weights[j * rows + r] * from[j * vectors + v];
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v) out[r * vectors + v] = sum[r][v];
  }

  // What follows the linear part of a hidden layer.
  void finish(const Step& s) const {
    const Layer& layer = layers_[s.layer];
    const int64_t n = s.rows * samples;
    C *raw = row(layer.raw + s.first), *value = row(layer.value + s.first);
    if (layer.adds) {
      const C* stream = row(layers_[s.layer - 2].raw + s.first);
      for (int64_t i = 0; i < n; ++i) raw[i] += stream[i];
    }
    if (!layer.activates) return;
    activate(raw, n, a_.activation, value);
  }

  // The channel at place k of the order, from its parameters.
  void invert(int64_t k, int64_t first, C* logdet) const {
    const int64_t channel = program_.channel(k), valid = std::min(samples, a_.batch - first);
    const C* y = get<C>(a_.y) + channel;
    C *x = static_cast<C*>(a_.x.data) + channel, *lanes = row(k);
    for (int64_t i = 0; i < samples; ++i) lanes[i] = y[sample(first, i) * a_.channels];
    transform_(samples, row(a_.channels), lanes, logdet);
    for (int64_t i = 0; i < valid; ++i) x[(first + i) * a_.channels] = lanes[i];
  }

  const Made& a_;
  const Program<C>& program_;
  const Transform<C>& transform_;
  std::vector<Layer> layers_;
  C* memory_;
};

template <class C, class Formula>
struct AffineTransform : Transform<C> {
  Formula formula;
  bool shift_leads;

  AffineTransform(const Formula& f, bool leads) : formula(f), shift_leads(leads) {}

  void operator()(int64_t n, const C* params, C* values, C* logdet) const override {
    const C *u = params + (shift_leads ? n : 0), *t = params + (shift_leads ? 0 : n);
    const Formula f = formula;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) values[i] = f.forward(values[i], u[i], t[i], logdet[i]);
  }
};

template <class C, int vectors>
void run_blocks(const Made& a, const Program<C>& program, const Transform<C>& transform) {
  constexpr int64_t samples = vectors * Lanes<C>::size;
  torch::stable::parallel_for(0, (a.batch + samples - 1) / samples, 1, [&](int64_t begin, int64_t end) {
    Block<C, vectors> block(a, program, transform);
    for (int64_t i = begin; i < end; ++i) block.run(i * samples);
  });
}

template <class C>
void run(const Made& a, const Transform<C>& transform) {
  const Program<C> program(a);
  if (a.batch <= Lanes<C>::size)
    run_blocks<C, 1>(a, program, transform);
  else
    run_blocks<C, 4>(a, program, transform);
}

// Calls f with a value of the compute type.
template <class F>
void with_type(const Made& a, const F& f) {
  if (a.dtype == DType::float64)
    f(double());
  else
    f(float());
}

}  // namespace

void made_affine_inverse(const MadeAffine& a) {
  with_type(a, [&](auto value) {
    using C = decltype(value);
    math::with_formula<C, true>(a.transform, [&](const auto& formula) {
      run<C>(a, AffineTransform<C, std::decay_t<decltype(formula)>>(formula, a.shift_leads));
    });
  });
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
