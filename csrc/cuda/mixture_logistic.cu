// Mixtures of logistics.
#include "../math/mixture_logistic.h"
#include "parametric.cuh"

namespace flowkit::cuda {

void mixture_logistic(const ParametricForward<MixtureLogisticOptions>& c, Stream stream) {
  parametric<math::MixtureLogistic>(c, stream);
}

void mixture_logistic_backward(const ParametricBackward<MixtureLogisticOptions>& c, Stream stream) {
  parametric_backward<math::MixtureLogistic>(c, stream);
}

}  // namespace flowkit::cuda
