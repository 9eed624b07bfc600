// Storage types and the types that kernels compute in: float for everything but double.
#pragma once

#include "device.cuh"

namespace flowkit::cuda {

template <class S>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::type;

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float widen(__half v) { return __half2float(v); }

template <class S>
__device__ __forceinline__ S narrow(Compute<S> v) {
  return v;
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float v) {
  return __float2bfloat16(v);
}
template <>
__device__ __forceinline__ __half narrow<__half>(float v) {
  return __float2half(v);
}

// Elements of S in 128 bits.
template <class S>
constexpr int pack_width = 16 / sizeof(S);

template <int N, class S>
__device__ __forceinline__ Pack<Compute<S>, N> load(device_ptr<const S> data, int64_t i) {
  const Pack<S, N> stored = load_pack<N, S>(data, i);
  Pack<Compute<S>, N> values;
#pragma unroll
  for (int k = 0; k < N; ++k) values.values[k] = widen(stored.values[k]);
  return values;
}

template <class S, int N>
__device__ __forceinline__ void store(device_ptr<S> data, int64_t i, const Pack<Compute<S>, N>& values) {
  Pack<S, N> stored;
#pragma unroll
  for (int k = 0; k < N; ++k) stored.values[k] = narrow<S>(values.values[k]);
  store_pack<N, S>(data, i, stored);
}

// Calls run(S{}) with the storage type of a dtype.
template <class Run>
void dispatch(DType dtype, Run run) {
  switch (dtype) {
    case DType::float32: return run(float{});
    case DType::float64: return run(double{});
    case DType::bfloat16: return run(__nv_bfloat16{});
    case DType::float16: return run(__half{});
  }
}

}  // namespace flowkit::cuda
