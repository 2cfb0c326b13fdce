// The Gram matrix: the rows it is made of, as factors of a product, and what becomes of the product.

#ifndef GAPSEL_GRAM_CUH
#define GAPSEL_GRAM_CUH

#include "logits.cuh"
#include "numbers.cuh"
#include "settings.cuh"

// The rows whose weight (rows,) is not 0, in order, in `kept`, and how many in `count`. One block.
extern "C" __global__ void __launch_bounds__(1024)
compact(const float* weight, long long rows, int* kept, int* count) {
    __shared__ int before[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int found = 0;
    for (long long first = 0; first < rows; first += 1024) {
        const long long row = first + threadIdx.x;
        const bool stays = row < rows && weight[row] != 0;
        const unsigned votes = __ballot_sync(ALL, stays);
        if (lane == 0) before[warp] = __popc(votes);
        __syncthreads();
        int at = found, all = 0;
        for (int i = 0; i < 32; i++) {
            if (i < warp) at += before[i];
            all += before[i];
        }
        if (stays) kept[at + __popc(votes & ((1u << lane) - 1))] = int(row);
        found += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) *count = found;
}

// For each row of `kept` (count,) a row of two float16 matrices (count, ld): v = root p, and u = sgn(w) v, so that
// u' v = root^2 n sum_i v_i w_i p_i p_i'. One block a row.
extern "C" __global__ void __launch_bounds__(256)
plan(const float* dots, long long ld, const float* bias, const float* squared, const float* factor,
     const float* square_of_row, const Settings* s, const float* top, const float* gram_root, const int* kept, Half* u,
     Half* v) {
    const long long row = kept[blockIdx.x], slot = blockIdx.x;
    const Columns columns{bias, nullptr, squared};
    const float scale = float(s->scale), root = fabsf(gram_root[row]), square = square_of_row ? square_of_row[row] : 1.0f;
    const Half sign = gram_root[row] < 0 ? 0x8000 : 0;
    for (int at = 4 * threadIdx.x; at < ld; at += 4 * blockDim.x) {
        const float4 dot = *reinterpret_cast<const float4*>(dots + row * ld + at);
        const float4 value = values(dot, factor[row], square, columns, at);
        const float4 e = exponentials(biased(value, scale, bias, at), top[row]);
        const float part[4] = {root * e.x, root * e.y, root * e.z, root * e.w};
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const Half bits = to_half(part[c]);
            v[slot * ld + at + c] = bits;
            u[slot * ld + at + c] = bits ^ sign;
        }
    }
}

// total (size,) += part (size,)
extern "C" __global__ void __launch_bounds__(256) add(const float* part, double* total, long long size) {
    for (long long at = blockIdx.x * 256LL + threadIdx.x; at < size; at += gridDim.x * 256LL) total[at] += part[at];
}

// z (ld, ld) becomes scale (z + z'). Grid: tiles of 32 x 32, those on and above the diagonal do both halves.
extern "C" __global__ void __launch_bounds__(1024) mirror(double* z, long long ld, double scale) {
    __shared__ double upper[32][33], lower[32][33];
    if (blockIdx.x < blockIdx.y) return;
    const int c = threadIdx.x % 32, r = threadIdx.x / 32;
    const long long row = blockIdx.y * 32LL + r, column = blockIdx.x * 32LL + c;
    const long long row_below = blockIdx.x * 32LL + r, column_below = blockIdx.y * 32LL + c;
    if (row < ld && column < ld) upper[r][c] = z[row * ld + column];
    if (row_below < ld && column_below < ld) lower[r][c] = z[row_below * ld + column_below];
    __syncthreads();
    if (row < ld && column < ld) z[row * ld + column] = scale * (upper[r][c] + lower[c][r]);
    if (row_below < ld && column_below < ld) z[row_below * ld + column_below] = scale * (lower[r][c] + upper[c][r]);
}

#endif
