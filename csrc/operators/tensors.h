// From tensors to the views of launch.h: layouts, fresh outputs, checks, and the choice of back end.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "../launch.h"

#define FLOWKIT_CHECK STD_TORCH_CHECK

namespace flowkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

inline DType dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::float32;
    case ScalarType::Double: return DType::float64;
    case ScalarType::BFloat16: return DType::bfloat16;
    case ScalarType::Half: return DType::float16;
    default: FLOWKIT_CHECK(false, "flowkit: x must be float32, float64, bfloat16 or float16");
  }
  return DType::float32;
}

inline ScalarType accumulator(const Tensor& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Comes first in every operator: nothing else is asked of a tensor that is no (B, C, *spatial) on a device of ours.
inline void check_x(const Tensor& x) {
  int32_t device;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(x.get(), &device));
  FLOWKIT_CHECK(x.dim() >= 2 && x.dim() <= 5, "flowkit: x must be (B, C, *spatial) with 0 to 3 spatial dimensions");
  FLOWKIT_CHECK(device == aoti_torch_device_type_cpu() || device == aoti_torch_device_type_cuda(),
                "flowkit: x must be on a CPU or a CUDA device");
  dtype_of(x);
}

// Sizes or strides of a tensor of up to 8 dimensions.
struct Sizes {
  int64_t rank = 0;
  int64_t values[8] = {};

  int64_t& operator[](int64_t d) { return values[d]; }
  int64_t operator[](int64_t d) const { return values[d]; }
  torch::headeronly::IntHeaderOnlyArrayRef ref() const { return {values, static_cast<size_t>(rank)}; }
};

inline Sizes sizes_of(const Tensor& t) {
  const auto sizes = t.sizes();
  FLOWKIT_CHECK(sizes.size() <= 8, "flowkit: a tensor has more than 8 dimensions");
  Sizes s{static_cast<int64_t>(sizes.size())};
  std::copy(sizes.begin(), sizes.end(), s.values);
  return s;
}

// Whether all spatial dimensions can be walked with one stride.
inline bool spatial_is_one_run(const Tensor& t) {
  const auto sizes = t.sizes();
  const auto strides = t.strides();
  for (size_t d = 2; d + 1 < sizes.size(); ++d)
    if (strides[d] != strides[d + 1] * sizes[d + 1]) return false;
  return true;
}

// The rule of flowkit/ops/_layout.py.
inline bool is_channels_last(const Tensor& t) {
  const auto sizes = t.sizes();
  const auto strides = t.strides();
  return t.dim() >= 3 && strides[1] == 1 && sizes[1] > 1 && spatial_is_one_run(t) && strides[t.dim() - 1] >= sizes[1];
}

inline Sizes dense_strides(const Sizes& sizes, bool channels_last) {
  Sizes strides{sizes.rank};
  int64_t pitch = 1;
  const auto place = [&](int64_t d) {
    strides[d] = pitch;
    pitch *= sizes[d];
  };
  if (channels_last) place(1);
  for (int64_t d = sizes.rank - 1; d >= (channels_last ? 2 : 1); --d) place(d);
  place(0);
  return strides;
}

inline Tensor empty(const Tensor& like, const Sizes& sizes, const Sizes& strides, ScalarType type) {
  static const int32_t types[] = {aoti_torch_dtype_float32(), aoti_torch_dtype_float64(), aoti_torch_dtype_bfloat16(),
                                  aoti_torch_dtype_float16()};
  const int32_t dtype = type == ScalarType::Float      ? types[0]
                        : type == ScalarType::Double   ? types[1]
                        : type == ScalarType::BFloat16 ? types[2]
                                                       : types[3];
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      sizes.rank, sizes.values, strides.values, dtype,
      like.is_cuda() ? aoti_torch_device_type_cuda() : aoti_torch_device_type_cpu(), like.get_device_index(), &handle));
  return Tensor(handle);
}

// Fresh memory costs more in page faults than a layer in arithmetic: ask for large pages.
inline void expect_writes(const Tensor& t) {
#ifdef __linux__
  constexpr size_t page = size_t(2) << 20;
  const size_t bytes = t.numel() * t.element_size();
  if (!t.is_cpu() || bytes < 4 * page) return;
  const auto begin = (reinterpret_cast<uintptr_t>(t.data_ptr()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(t.data_ptr()) + bytes) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

inline Tensor empty_dense(const Tensor& like, const Sizes& sizes, bool channels_last) {
  Tensor t = empty(like, sizes, dense_strides(sizes, channels_last), like.scalar_type());
  expect_writes(t);
  return t;
}

// A fresh y for x.
inline Tensor empty_output(const Tensor& x) {
  check_x(x);
  return empty_dense(x, sizes_of(x), is_channels_last(x));
}

inline Tensor empty_vector(const Tensor& like, int64_t size, ScalarType type) {
  return empty(like, {1, {size}}, {1, {1}}, type);
}

inline int64_t pixels_of(const Tensor& t) {
  int64_t pixels = 1;
  for (int64_t d = 2; d < t.dim(); ++d) pixels *= t.size(d);
  return pixels;
}

inline Shape shape_of(const Tensor& x) {
  const int64_t pixels = pixels_of(x);
  return {x.size(0), x.size(1), pixels, pixels == 1 || is_channels_last(x)};
}

inline Tensor dense_copy(const Tensor& t, bool channels_last) {
  Tensor copy = empty_dense(t, sizes_of(t), channels_last);
  torch::stable::copy_(copy, t);
  return copy;
}

// x as the kernels want it: its inner dimension (channels or pixels) dense.
inline Tensor prepare(const Tensor& t, bool channels_last) {
  if (t.numel() == 0) return t;
  const bool image = t.dim() > 2 && pixels_of(t) > 1;
  const bool fits = !image ? t.size(1) == 1 || t.stride(1) == 1
                           : spatial_is_one_run(t) && (channels_last ? t.stride(1) == 1 : t.stride(t.dim() - 1) == 1);
  return fits ? t : dense_copy(t, channels_last && t.dim() > 2);
}

// Parameters may have any strides, as long as pixels are one run.
inline Tensor prepare_params(const Tensor& t, bool channels_last) {
  return t.numel() == 0 || spatial_is_one_run(t) ? t : dense_copy(t, channels_last && t.dim() > 2);
}

inline View view(const Tensor& t) {
  View v;
  v.data = t.data_ptr();
  v.batch = t.stride(0);
  v.channel = t.stride(1);
  const int64_t pixels = pixels_of(t);
  v.pixel = pixels > 1 ? 0 : 1;
  for (int64_t d = t.dim() - 1; d >= 2 && v.pixel == 0; --d)
    if (t.size(d) > 1) v.pixel = t.stride(d);
  v.extent = t.numel() == 0 ? 0 : 1 + (t.size(0) - 1) * v.batch + (t.size(1) - 1) * v.channel + (pixels - 1) * v.pixel;
  return v;
}

inline Array array(const Tensor& t) { return {t.data_ptr(), t.numel()}; }
inline Array array(const Optional& t) { return t ? array(*t) : Array(); }

inline bool same_device(const Tensor& a, const Tensor& b) {
  int32_t type_a, type_b;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(a.get(), &type_a));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(b.get(), &type_b));
  return type_a == type_b && a.get_device_index() == b.get_device_index();
}

inline void check_permutation(const Tensor& x, const Optional& permutation) {
  if (!permutation) return;
  FLOWKIT_CHECK(
      permutation->dim() == 1 && permutation->numel() == x.size(1) && permutation->scalar_type() == ScalarType::Long &&
          permutation->is_contiguous() && same_device(x, *permutation),
      "flowkit: permutation must be a contiguous int64 tensor of ", x.size(1), " elements on the device of x");
#ifndef FLOWKIT_EMULATE_CUDA
  if (!x.is_cuda()) {  // on a GPU the caller vouches for the values: looking at them would synchronise
    const auto* p = static_cast<const int64_t*>(permutation->data_ptr());
    std::vector<bool> seen(x.size(1));
    for (int64_t j = 0; j < x.size(1); ++j) {
      FLOWKIT_CHECK(p[j] >= 0 && p[j] < x.size(1) && !seen[p[j]], "flowkit: permutation is not a permutation of 0..",
                    x.size(1) - 1);
      seen[p[j]] = true;
    }
  }
#endif
}

inline void check_like(const Tensor& x, const Tensor& t, const char* name) {
  FLOWKIT_CHECK(t.dim() == x.dim() && t.scalar_type() == x.scalar_type() && same_device(x, t), "flowkit: ", name,
                " must have the rank, dtype and device of x");
  for (int64_t d = 0; d < x.dim(); ++d)
    FLOWKIT_CHECK(d == 1 || t.size(d) == x.size(d), "flowkit: ", name, " has size ", t.size(d), " in dimension ", d,
                  ", x has ", x.size(d));
}

inline void check_out(const Tensor& x, const Tensor& out, const char* name) {
  check_like(x, out, name);
  FLOWKIT_CHECK(out.size(1) == x.size(1), "flowkit: ", name, " must have the shape of x");
}

// Elements from the first to the last one of t.
inline int64_t extent(const Tensor& t) {
  int64_t elements = 1;
  for (int64_t d = 0; d < t.dim(); ++d) elements += (t.size(d) - 1) * t.stride(d);
  return t.numel() == 0 ? 0 : elements;
}

// Reading and writing may share memory only element by element.
inline void check_overlap(const Tensor& x, const Tensor& out, bool in_place) {
  const auto from = static_cast<const char*>(x.data_ptr()), to = static_cast<const char*>(out.data_ptr());
  const int64_t size = static_cast<int64_t>(x.element_size());
  if (from + extent(x) * size <= to || to + extent(out) * size <= from) return;
  bool same = in_place && from == to;
  for (int64_t d = 0; d < x.dim(); ++d) same = same && (x.size(d) == 1 || x.stride(d) == out.stride(d));
  FLOWKIT_CHECK(same, "flowkit: out overlaps x", in_place ? " without being x" : "; this operator cannot run in place");
}

// scale or shift of an actnorm, dense.
inline Tensor channel_parameter(const Tensor& x, const Tensor& t) {
  check_x(x);
  FLOWKIT_CHECK(t.dim() == 1 && t.numel() == x.size(1) && t.scalar_type() == accumulator(x) && same_device(x, t),
                "flowkit: scale and shift must be (", x.size(1), ",) tensors in the accumulator type of x");
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

inline void check_sum(const Tensor& x, const Tensor& sum, const char* name) {
  FLOWKIT_CHECK(sum.dim() == 1 && sum.size(0) == x.size(0) && sum.scalar_type() == accumulator(x) &&
                    sum.is_contiguous() && same_device(x, sum),
                "flowkit: ", name, " must be a contiguous (B,) tensor in the accumulator type of x");
}

// FLOWKIT_RUN(name, x, args): runs an entry point of the back end that x lies on; FLOWKIT_SIZE asks it for a size.
#if defined(FLOWKIT_EMULATE_CUDA)
#define FLOWKIT_CUDA_KERNELS
inline bool on_cuda(const Tensor&) { return true; }
#define FLOWKIT_RUN_CUDA(name, x, args) cuda::name(args, nullptr)
#define FLOWKIT_RUN(name, x, args) FLOWKIT_RUN_CUDA(name, x, args)
#define FLOWKIT_SIZE(name, x, shape) cuda::name(shape)
#elif defined(FLOWKIT_CUDA)
#define FLOWKIT_CUDA_KERNELS
inline bool on_cuda(const Tensor& x) { return x.is_cuda(); }
inline cuda::Stream current_stream(const Tensor& x) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return stream;
}
#define FLOWKIT_RUN_CUDA(name, x, args)                                          \
  do {                                                                           \
    const torch::stable::accelerator::DeviceGuard guard((x).get_device_index()); \
    cuda::name(args, current_stream(x));                                         \
  } while (false)
#define FLOWKIT_RUN(name, x, args)     \
  do {                                 \
    if (on_cuda(x))                    \
      FLOWKIT_RUN_CUDA(name, x, args); \
    else                               \
      cpu::name(args);                 \
  } while (false)
#define FLOWKIT_SIZE(name, x, shape) (on_cuda(x) ? cuda::name(shape) : cpu::name(shape))
#else
#define FLOWKIT_RUN(name, x, args) cpu::name(args)
#define FLOWKIT_SIZE(name, x, shape) cpu::name(shape)
#endif

// A result tensor: computed in a dense buffer where `out` has strides that the kernels do not take.
class Target {
 public:
  Target(const Tensor& out, const Shape& shape) : out_(out), used_(prepared(out, shape)) {}
  View view() const { return flowkit::view(used_); }
  void finish() {
    if (used_.data_ptr() != out_.data_ptr()) torch::stable::copy_(out_, used_);
  }

 private:
  static Tensor prepared(const Tensor& out, const Shape& shape) {
    const bool image = out.dim() > 2 && shape.pixels > 1;
    const bool fits = !image ? out.size(1) == 1 || out.stride(1) == 1
                             : spatial_is_one_run(out) && out.stride(shape.channels_last ? 1 : out.dim() - 1) == 1;
    return fits || out.numel() == 0 ? out : empty_dense(out, sizes_of(out), shape.channels_last && out.dim() > 2);
  }

  Tensor out_, used_;
};

// Where the log-det goes, with scratch for its partial sums.
struct Sum {
  LogDet logdet;
  std::optional<Tensor> partial;

  Sum(const Tensor& x, const Shape& shape, const Tensor& sum, bool accumulate) {
    const int64_t size = FLOWKIT_SIZE(partial_size, x, shape);
    if (size > 0) partial = empty_vector(x, size, accumulator(x));
    logdet = {array(sum), array(partial), accumulate};
  }
};

// Whether x is empty; its log-det is then 0.
inline bool nothing_to_do(const Shape& shape, const Tensor& sum, bool accumulate) {
  if (shape.size() != 0) return false;
  Tensor s = sum;
  if (!accumulate && sum.numel() > 0) torch::stable::zero_(s);
  return true;
}

}  // namespace flowkit
