// half and half2 under the names of CUDA's header.

#pragma once

#include "small_float.h"

using __half = cuda_emulator::SmallFloat<10, -14, 15>;
using __half2 = cuda_emulator::Pair<__half>;
using half = __half;
using half2 = __half2;

inline __half __float2half(float a) { return __half(a); }
inline __half __float2half_rn(float a) { return __half(a); }
inline float __half2float(__half a) { return a; }
inline __half __ushort_as_half(unsigned short code) { return cuda_emulator::bits_as<__half>(code); }
inline unsigned short __half_as_ushort(__half a) { return a.code; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 a) { return {__half(a.x), __half(a.y)}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 a) { return {float(a.x), float(a.y)}; }
inline float __low2float(__half2 a) { return a.x; }
inline float __high2float(__half2 a) { return a.y; }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }
inline int __hisnan(__half a) { return float(a) != float(a); }
inline int __hisinf(__half a) { return std::isinf(float(a)) ? (float(a) > 0 ? 1 : -1) : 0; }
