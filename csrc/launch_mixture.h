// What operators/mixture_logistic.cpp hands to a back end, and the entry points of both.
#pragma once

#include "launch.h"

namespace flowkit {

// y = logit(F(x)) exp(a) + b, see math/mixture_logistic.h.
struct MixtureLogisticOptions {
  int64_t components;
  double bound, min_log_scale;
};

#define FLOWKIT_MIXTURE_ENTRY_POINTS(...)                                              \
  void mixture_logistic(const ParametricForward<MixtureLogisticOptions>& __VA_ARGS__); \
  void mixture_logistic_backward(const ParametricBackward<MixtureLogisticOptions>& __VA_ARGS__);

namespace cpu {
FLOWKIT_MIXTURE_ENTRY_POINTS()
}  // namespace cpu

namespace cuda {
FLOWKIT_MIXTURE_ENTRY_POINTS(, Stream)
}  // namespace cuda

}  // namespace flowkit
