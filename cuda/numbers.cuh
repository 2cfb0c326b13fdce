// Numbers and warps: float16 in plain C, fast powers of two, four floats at a time, reductions.

#ifndef GAPSEL_NUMBERS_CUH
#define GAPSEL_NUMBERS_CUH

typedef unsigned short Half;  // the bits of a float16; plain C, for not every run-time compiler finds cuda_fp16.h


constexpr unsigned ALL = 0xffffffffu;

__device__ __forceinline__ float exp2_fast(float t) {
#ifdef CUDA_EMULATOR
    return exp2f(t);
#else
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(t));
    return e;
#endif
}

__device__ __forceinline__ float from_half(Half bits) {
    const unsigned magnitude = bits & 0x7fffu;
    float value = __uint_as_float((magnitude << 13) + 0x38000000u);
    if (magnitude < 0x0400u) value = float(magnitude) * 5.9604645e-8f;  // 2^-24; CuPy's compiler flushes small float32
    if (magnitude >= 0x7c00u) value = __uint_as_float(0x7f800000u | magnitude << 13);
    return bits & 0x8000u ? -value : value;
}

// The nearest float16, ties to even; |x| < 65504.
__device__ __forceinline__ Half to_half(float x) {
    unsigned bits = __float_as_uint(x);
    const unsigned sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits < 0x38800000u)  // below 2^-14 float16 counts in steps of 2^-24, as float32 does above 0.5
        return Half(sign | (__float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3f000000u));
    bits += 0xfffu + (bits >> 13 & 1u);
    return Half(sign | (bits - 0x38000000u) >> 13);
}

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ __forceinline__ float largest(float4 a) { return fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w)); }

__device__ __forceinline__ float sum(float4 a) { return (a.x + a.y) + (a.z + a.w); }

struct Max {
    __device__ static float of(float a, float b) { return fmaxf(a, b); }
};
struct Min {
    __device__ static int of(int a, int b) { return a < b ? a : b; }
};
struct Add {
    template <typename T>
    __device__ static T of(T a, T b) {
        return a + b;
    }
};

// Every lane gets the same bits, since a + b = b + a.
template <typename Op, typename T>
__device__ __forceinline__ T over_warp(T value) {
    for (int bit = 16; bit; bit /= 2) value = Op::of(value, __shfl_xor_sync(ALL, value, bit));
    return value;
}

// The lowest number of a row that cannot be used stays in `status`.
__device__ __forceinline__ void note_bad_row(long long* status, long long row) { atomicMin(status, row); }

#endif
