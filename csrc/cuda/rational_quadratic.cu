// Rational-quadratic splines.
#include "../math/rational_quadratic.h"
#include "parametric.cuh"

namespace flowkit::cuda {

void rational_quadratic(const ParametricForward<RationalQuadraticOptions>& c, Stream stream) {
  parametric<math::RationalQuadratic>(c, stream);
}

void rational_quadratic_backward(const ParametricBackward<RationalQuadraticOptions>& c, Stream stream) {
  parametric_backward<math::RationalQuadratic>(c, stream);
}

}  // namespace flowkit::cuda
