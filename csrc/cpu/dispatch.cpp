// Chooses at run time among the builds of the CPU kernels for different instruction sets.
#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#include "../launch_mixture.h"
#define FLOWKIT_ISA generic
#include "simd.h"

#define FLOWKIT_DECLARE(isa)                          \
  namespace flowkit::cpu::isa {                       \
  void coupling(const CouplingForward&);              \
  void coupling_backward(const CouplingBackward&);    \
  void actnorm(const ActNormForward&);                \
  void actnorm_backward(const ActNormBackward&);      \
  void step(const StepForward&);                      \
  void step_backward(const StepBackward&);            \
  void leaky_relu(const LeakyReluForward&);           \
  void leaky_relu_backward(const LeakyReluBackward&); \
  void permute(const Permute&);                       \
  void made_affine_inverse(const MadeAffine&);        \
  FLOWKIT_PARAMETRIC_ENTRY_POINTS()                   \
  FLOWKIT_MIXTURE_ENTRY_POINTS()                      \
  void masked_conv_solve(const MaskedConvSolve&);     \
  void stacked_linear(const StackedLinear&);          \
  void stacked_linear_backward(const StackedLinearBackward&); \
  void stacked_mlp(const StackedMlp&);                \
  void passive_part(const PassivePart&);              \
  }

FLOWKIT_DECLARE(generic)
#ifdef FLOWKIT_X86
FLOWKIT_DECLARE(avx2)
FLOWKIT_DECLARE(avx512)
#endif

namespace flowkit::cpu {

// FLOWKIT_CPU_CAPABILITY=generic|avx2|avx512 asks for less than the machine has.
Capability capability() {
#ifdef FLOWKIT_X86
  static const Capability found = [] {
    const char* wanted = std::getenv("FLOWKIT_CPU_CAPABILITY");
    const auto allowed = [&](const char* name) { return wanted == nullptr || std::strcmp(wanted, name) == 0; };
    __builtin_cpu_init();
    if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      return Capability::avx512;
    if ((allowed("avx2") || allowed("avx512")) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c"))
      return Capability::avx2;
    return Capability::generic;
  }();
  return found;
#else
  return Capability::generic;
#endif
}

// Kernels may cut samples into other rows than the layout suggests, but no unit is shorter than half of unit_elements.
int64_t partial_size(const Shape& shape) {
  constexpr int64_t shortest = generic::unit_elements / 2;
  const int64_t sample = shape.channels * shape.pixels;
  return sample <= shortest ? 0 : shape.batch * ((sample + shortest - 1) / shortest);
}

// Units are of about 2 * unit_elements, no shorter than half of that, and one row at least.
int64_t actnorm_partial_size(const Shape& shape) {
  return (shape.size() / generic::unit_elements + 1) * 2 * shape.channels;
}

// Channels that lie outside the pixels leave a part a sample, channels inside one a work unit. Vectors are one sample.
int64_t step_partial_size(const Shape& shape) {
  const int64_t batch = shape.pixels == 1 ? 1 : shape.batch, sample = shape.size() / std::max<int64_t>(batch, 1);
  return 2 * shape.channels * batch * (sample / (generic::unit_elements / 2) + 1);
}

#ifdef FLOWKIT_X86
#define FLOWKIT_CALL(name, argument)                          \
  switch (capability()) {                                     \
    case Capability::avx512: return avx512::name(argument);   \
    case Capability::avx2: return avx2::name(argument);       \
    case Capability::generic: return generic::name(argument); \
  }
#else
#define FLOWKIT_CALL(name, argument) return generic::name(argument);
#endif

void coupling(const CouplingForward& a) { FLOWKIT_CALL(coupling, a) }
void coupling_backward(const CouplingBackward& a) { FLOWKIT_CALL(coupling_backward, a) }
void actnorm(const ActNormForward& a) { FLOWKIT_CALL(actnorm, a) }
void actnorm_backward(const ActNormBackward& a) { FLOWKIT_CALL(actnorm_backward, a) }
void step(const StepForward& a) { FLOWKIT_CALL(step, a) }
void step_backward(const StepBackward& a) { FLOWKIT_CALL(step_backward, a) }
void leaky_relu(const LeakyReluForward& a) { FLOWKIT_CALL(leaky_relu, a) }
void leaky_relu_backward(const LeakyReluBackward& a) { FLOWKIT_CALL(leaky_relu_backward, a) }
void permute(const Permute& a) { FLOWKIT_CALL(permute, a) }
void made_affine_inverse(const MadeAffine& a) { FLOWKIT_CALL(made_affine_inverse, a) }
void rational_quadratic(const ParametricForward<RationalQuadraticOptions>& a) { FLOWKIT_CALL(rational_quadratic, a) }
void rational_quadratic_backward(const ParametricBackward<RationalQuadraticOptions>& a) {
  FLOWKIT_CALL(rational_quadratic_backward, a)
}
void masked_conv_solve(const MaskedConvSolve& a) { FLOWKIT_CALL(masked_conv_solve, a) }
void stacked_linear(const StackedLinear& a) { FLOWKIT_CALL(stacked_linear, a) }
void stacked_linear_backward(const StackedLinearBackward& a) { FLOWKIT_CALL(stacked_linear_backward, a) }
void stacked_mlp(const StackedMlp& a) { FLOWKIT_CALL(stacked_mlp, a) }
void passive_part(const PassivePart& a) { FLOWKIT_CALL(passive_part, a) }
void mixture_logistic(const ParametricForward<MixtureLogisticOptions>& a) { FLOWKIT_CALL(mixture_logistic, a) }
void mixture_logistic_backward(const ParametricBackward<MixtureLogisticOptions>& a) {
  FLOWKIT_CALL(mixture_logistic_backward, a)
}

}  // namespace flowkit::cpu
