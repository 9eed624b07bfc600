// Rational-quadratic splines.
#include "../math/rational_quadratic.h"

#include "parametric.h"

namespace flowkit::cpu::FLOWKIT_ISA {

void rational_quadratic(const ParametricForward<RationalQuadraticOptions>& a) {
  parametric_forward<math::RationalQuadratic>(a);
}

void rational_quadratic_backward(const ParametricBackward<RationalQuadraticOptions>& a) {
  parametric_backward<math::RationalQuadratic>(a);
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
