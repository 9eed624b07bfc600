// The 16-bit storage types of CUDA for a host compiler: names and rounding (to nearest, ties to even) as in CUDA's
// headers.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  uint16_t bits;
};

struct __half {
  uint16_t bits;
};

namespace flowkit::emulation {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace flowkit::emulation

inline float __bfloat162float(__nv_bfloat16 value) {
  return flowkit::emulation::bits_float(static_cast<uint32_t>(value.bits) << 16);
}

inline __nv_bfloat16 __float2bfloat16(float value) {
  const uint32_t bits = flowkit::emulation::float_bits(value);
  if (value != value) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

inline float __half2float(__half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1fu, mantissa = value.bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 0x1f) return flowkit::emulation::bits_float(sign | 0x7f800000u | (mantissa << 13));
  return flowkit::emulation::bits_float(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

inline __half __float2half(float value) {
  const uint32_t bits = flowkit::emulation::float_bits(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7fff};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to 65536 or more: infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal; adding 0.5 leaves multiples of 2^-24 in the low bits
    const float shifted = flowkit::emulation::bits_float(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (flowkit::emulation::float_bits(shifted) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}
