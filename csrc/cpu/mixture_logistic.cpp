// Mixtures of logistics.
#include "../math/mixture_logistic.h"

#include "parametric.h"

namespace flowkit::cpu::FLOWKIT_ISA {

void mixture_logistic(const ParametricForward<MixtureLogisticOptions>& a) {
  parametric_forward<math::MixtureLogistic>(a);
}

void mixture_logistic_backward(const ParametricBackward<MixtureLogisticOptions>& a) {
  parametric_backward<math::MixtureLogistic>(a);
}

}  // namespace flowkit::cpu::FLOWKIT_ISA
