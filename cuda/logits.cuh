// A row of logits: from dot products to biased values, exponentials, and what is kept of them.

#ifndef GAPSEL_LOGITS_CUH
#define GAPSEL_LOGITS_CUH

#include "numbers.cuh"

constexpr float ABSENT = -1e38f;  // below every logit, and finite


struct Columns {
    const float* bias;     // (ld,), ABSENT in columns that do not exist
    const float* hard;     // (ld,) the same without the columns' weights, or null where all weigh the same
    const float* squared;  // (ld,) |y_j|^2 for the Euclidean cost, else null
};

__device__ __forceinline__ float distance(float dot, float square_of_row, float square) {
    return sqrtf(fmaxf(fmaf(-2.0f, dot, square_of_row + square), 0.0f));
}

// What scale multiplies: a dot product, or a distance.
__device__ __forceinline__ float4 values(float4 dot, float factor, float square_of_row, const Columns& columns, int at) {
    dot = make_float4(dot.x * factor, dot.y * factor, dot.z * factor, dot.w * factor);
    if (!columns.squared) return dot;
    const float4 square = *reinterpret_cast<const float4*>(columns.squared + at);
    return make_float4(distance(dot.x, square_of_row, square.x), distance(dot.y, square_of_row, square.y),
                       distance(dot.z, square_of_row, square.z), distance(dot.w, square_of_row, square.w));
}

__device__ __forceinline__ float4 biased(float4 value, float scale, const float* bias, int at) {
    const float4 b = *reinterpret_cast<const float4*>(bias + at);
    return make_float4(fmaf(scale, value.x, b.x), fmaf(scale, value.y, b.y), fmaf(scale, value.z, b.z), fmaf(scale, value.w, b.w));
}

__device__ __forceinline__ float4 exponentials(float4 z, float top) {
    return make_float4(exp2_fast(z.x - top), exp2_fast(z.y - top), exp2_fast(z.z - top), exp2_fast(z.w - top));
}

// sum_j e_j (z_j - top); e is 0 where z is far below, and z is finite.
__device__ __forceinline__ float moment(float4 e, float4 z, float top) {
    return e.x * (z.x - top) + e.y * (z.y - top) + (e.z * (z.z - top) + e.w * (z.w - top));
}

__device__ __forceinline__ void add_scaled(float4& to, float c, float4 e) {
    to = make_float4(fmaf(c, e.x, to.x), fmaf(c, e.y, to.y), fmaf(c, e.z, to.z), fmaf(c, e.w, to.w));
}

// Keep the highest value, and the lowest column that has it.
__device__ __forceinline__ void keep_best(float4 z, int at, float& best, int& column) {
    const float part[4] = {z.x, z.y, z.z, z.w};
#pragma unroll
    for (int c = 0; c < 4; c++)
        if (part[c] > best) best = part[c], column = at + c;
}

// What a strip's rows yield, each (rows,).
struct RowStats {
    float* top;
    float* total;
    float* moment;
    float* peak;   // the highest hard logit
    int* nearest;  // its lowest column; may be null
};

// One thing from each warp of a team to all its threads.
template <typename T, int WARPS>
struct Slots {
    T of[WARPS];
    __device__ void put(T value) {
        if (threadIdx.x % 32 == 0) of[threadIdx.x / 32] = value;
    }
    template <typename Op>
    __device__ T all() const {
        T value = of[0];
#pragma unroll
        for (int warp = 1; warp < WARPS; warp++) value = Op::of(value, of[warp]);
        return value;
    }
};

#endif
