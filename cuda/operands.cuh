// Vectors as operands of a product: any type in, 16-bit out.
//
// x = hi + lo with hi, lo in float16, scaled by powers of two so that 22 digits survive. What is whole in float16 needs no
// lo.

#ifndef GAPSEL_OPERANDS_CUH
#define GAPSEL_OPERANDS_CUH

#include "numbers.cuh"

enum Type { FLOAT16, BFLOAT16, FLOAT32 };

__device__ __forceinline__ float read(const void* raw, long long type, long long at) {
    if (type == FLOAT16) return from_half(static_cast<const Half*>(raw)[at]);
    if (type == BFLOAT16) return __uint_as_float(unsigned(static_cast<const Half*>(raw)[at]) << 16);
    return static_cast<const float*>(raw)[at];
}

// factor (rows,) = 1 / |x_i| of float16 rows that are multiplied as they lie. One warp a row.
extern "C" __global__ void __launch_bounds__(256)
measure(const Half* x, long long rows, long long d, float* factor, long long* status, long long first_row) {
    const long long row = blockIdx.x * (blockDim.x / 32LL) + threadIdx.x / 32;
    if (row >= rows) return;
    double squared = 0;
    for (long long k = threadIdx.x % 32; k < d; k += 32) {
        const double value = from_half(x[row * d + k]);
        squared += value * value;
    }
    squared = over_warp<Add>(squared);
    if (threadIdx.x % 32) return;
    if (!(squared > 0 && squared < 1e300)) note_bad_row(status, first_row + row);
    factor[row] = float(1 / sqrt(squared));
}

// 2^k as two factors, since float32 has no 2^150.
struct PowerOfTwo {
    float a, b;
    __device__ explicit PowerOfTwo(int k) : a(__int_as_float((127 + k / 2) << 23)), b(__int_as_float((127 + k - k / 2) << 23)) {}
    __device__ float times(float v) const { return v * a * b; }
};

// k such that 2^k v lies in [2^14, 2^15), for finite v >= 2^-126.
__device__ __forceinline__ int lift(float v) { return 14 - (int(__float_as_uint(v) >> 23) - 127); }

// Rows of any type (rows, d) as float16 (rows, ld): hi in columns 0..d-1, lo, if there is one, in columns half..half+d-1.
//
// v = x - centre, where there is a centre. With `fixed` = 0 each row gets the power of two that suits it, and
// v / unit_i = factor_i (hi + lo), where unit_i = |v_i| if unit, else 1. Otherwise hi + lo = fixed v / unit_i.
// squared (rows,) = |hi + lo|^2 in units of v. Outputs may be null; other columns of out are not written. One warp a row.
extern "C" __global__ void __launch_bounds__(256)
pack(const void* raw, long long type, long long rows, long long d, const float* centre, long long unit, double fixed,
     Half* out, long long ld, long long half, float* factor, float* squared, long long* status, long long first_row) {
    const long long row = blockIdx.x * (blockDim.x / 32LL) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return;
    float top = 0;
    bool finite = true;
    for (long long k = lane; k < d; k += 32) {
        const float v = read(raw, type, row * d + k) - (centre ? centre[k] : 0.0f);
        finite = finite && fabsf(v) <= 3.4028234e38f;
        top = fmaxf(top, fabsf(v));
    }
    top = over_warp<Max>(top);
    finite = __all_sync(ALL, finite);
    const bool empty = top < 1.1754944e-38f;  // 2^-126, below which float32 may count as 0
    if (lane == 0 && (!finite || (unit && empty))) note_bad_row(status, first_row + row);
    const int k2 = finite && !empty ? lift(top) : 0;
    const PowerOfTwo lifted(k2);
    double norm = 0;
    if (fixed > 0 && unit) {
        for (long long k = lane; k < d; k += 32) {
            const double v = lifted.times(read(raw, type, row * d + k) - (centre ? centre[k] : 0.0f));
            norm += v * v;
        }
        norm = sqrt(over_warp<Add>(norm));
    }
    const float scale = float(fixed > 0 ? (unit ? fixed / norm : ldexp(fixed, -k2)) : 1.0);
    double length = 0;
    for (long long k = lane; k < d; k += 32) {
        const float v = scale * lifted.times(read(raw, type, row * d + k) - (centre ? centre[k] : 0.0f));
        const Half hi = to_half(finite ? v : 0.0f);
        const Half lo = to_half(finite ? v - from_half(hi) : 0.0f);
        out[row * ld + k] = hi;
        if (half) out[row * ld + half + k] = lo;
        const double kept = double(from_half(hi)) + (half ? double(from_half(lo)) : 0.0);
        length += kept * kept;
    }
    length = over_warp<Add>(length);
    if (lane) return;
    const double back = fixed > 0 ? 1 / fixed : ldexp(1.0, -k2);
    if (factor) factor[row] = float(unit ? 1 / sqrt(length) : back);
    if (squared) squared[row] = float(length * back * back);
}

#endif
