// bfloat16 under the names of CUDA's header.

#pragma once

#include "small_float.h"

using __nv_bfloat16 = cuda_emulator::SmallFloat<7, -126, 127>;
using __nv_bfloat162 = cuda_emulator::Pair<__nv_bfloat16>;

inline __nv_bfloat16 __float2bfloat16(float a) { return __nv_bfloat16(a); }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return __nv_bfloat16(a); }
inline float __bfloat162float(__nv_bfloat16 a) { return a; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short code) { return cuda_emulator::bits_as<__nv_bfloat16>(code); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.code; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 a) { return {__nv_bfloat16(a.x), __nv_bfloat16(a.y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 a) { return {float(a.x), float(a.y)}; }
inline float __low2float(__nv_bfloat162 a) { return a.x; }
inline float __high2float(__nv_bfloat162 a) { return a.y; }
