// The sweep on a GPU, in chunks of rows: a library product fills a strip of dot products, these kernels do the rest.
//
//     z_ij = (g_j - c_ij) / eps log2(e) + log2 b_j     less what is the same for the whole row or all columns
//          = scale factor_i <x_i, y_j> + bias_j        squared Euclidean and cosine
//          = scale |x_i - y_j| + bias_j                Euclidean (scale < 0)
//     e_ij = 2^(z_ij - max_j z_ij),   S_i = sum_j e_ij,   p_ij = e_ij / S_i
//     f_i  = of_row_i - (max_j z_ij + log2 S_i + shift) / unit            unit = log2(e) / eps
//     r_i  = lo_i + (hi_i - lo_i) / (1 + exp((f_i + price_i) / eta)),   w_i = r_i + eps dr_i / df_i
//     q_j  = sum_i r_i p_ij
//
// A strip is read once where a row fits into the registers of a team of threads (`strip_*`): the row's maximum and sum
// come from two reductions, then every thread adds the mass times its own columns to sums that it keeps for GROUP rows.
// Wider rows are read twice (`stats`, then `columns`).
//
// Order: float32 sums run over GROUP rows of the pool, float64 ones over SEGMENT groups, then over segments in the order
// of the rows. Groups and segments are counted from the pool's first row, so that chunks change no sum.
//
//     operands.cuh    vectors of any type as 16-bit operands          settings.cuh    what all rows share, the row rule
//     logits.cuh      dot products to exponentials                    rows.cuh        rows' statistics to f, r and sums; q
//     here            the strip, read once or twice                   gram.cuh        the Gram's factors
//
// All integers are long long and all numbers that are passed are double, so that a launcher needs no types.

#include "gram.cuh"
#include "logits.cuh"
#include "numbers.cuh"
#include "operands.cuh"
#include "rows.cuh"
#include "settings.cuh"

// ---- read once

// A team of TEAM threads takes GROUP rows, each thread 4 QUADS columns of all of them. A team is a warp or a block.
//
// Two meetings a row. A slot is written again only after a meeting that follows all reads of it: the peaks' are read
// before the second meeting, the sums' before the next row's first.
template <int TEAM, int QUADS>
__device__ __forceinline__ void
strip(const float* dots, long long ld, long long rows, Columns columns, const float* factor, const float* square_of_row,
      const Settings& s, const double* lo, const double* hi, const double* price, RowStats out, float* part) {
    constexpr int WARPS = TEAM / 32;
    __shared__ Slots<float, WARPS> tops, peaks, totals, moments;
    __shared__ Slots<int, WARPS> nearests;
    const long long team = TEAM > 32 ? blockIdx.x : blockIdx.x * (blockDim.x / 32LL) + threadIdx.x / 32;
    const int me = threadIdx.x % TEAM;
    const long long first = team * GROUP, last = first + GROUP < rows ? first + GROUP : rows;
    if (first >= rows) return;
    const float scale = float(s.scale);
    const int width = int(ld);
    float4 sums[QUADS], next[QUADS];
    const auto load = [&](long long row) {
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const int at = 4 * (i * TEAM + me);
            if (at < width) next[i] = *reinterpret_cast<const float4*>(dots + row * ld + at);
        }
    };
#pragma unroll
    for (int i = 0; i < QUADS; i++) sums[i] = next[i] = make_float4(0, 0, 0, 0);
    load(first);
    for (long long row = first; row < last; row++) {
        const float row_factor = factor[row], square = square_of_row ? square_of_row[row] : 1.0f;
        float4 z[QUADS];
        float top = ABSENT, peak = ABSENT;
        int column = 0;
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const int at = 4 * (i * TEAM + me);
            z[i] = make_float4(ABSENT, ABSENT, ABSENT, ABSENT);
            if (at >= width) continue;
            const float4 value = values(next[i], row_factor, square, columns, at);
            z[i] = biased(value, scale, columns.bias, at);
            top = fmaxf(top, largest(z[i]));
            const float4 hard = columns.hard ? biased(value, scale, columns.hard, at) : z[i];
            if (out.nearest)
                keep_best(hard, at, peak, column);
            else
                peak = fmaxf(peak, largest(hard));
        }
        if (row + 1 < last) load(row + 1);
        float row_top = over_warp<Max>(top), row_peak = over_warp<Max>(peak);
        if (TEAM > 32) {
            tops.put(row_top), peaks.put(row_peak);
            __syncthreads();
            row_top = tops.template all<Max>(), row_peak = peaks.template all<Max>();
        }
        float total = 0, row_moment = 0;
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const float4 e = exponentials(z[i], row_top);
            total += sum(e);
            row_moment += moment(e, z[i], row_top);
            z[i] = e;
        }
        total = over_warp<Add>(total), row_moment = over_warp<Add>(row_moment);
        int nearest = 0;
        if (out.nearest) nearest = over_warp<Min>(peak == row_peak ? column : 0x7fffffff);
        if (TEAM > 32) {
            totals.put(total), moments.put(row_moment), nearests.put(nearest);
            __syncthreads();
            total = totals.template all<Add>(), row_moment = moments.template all<Add>();
            nearest = nearests.template all<Min>();
        }
        const float mass = mass_factor(s, Bounds(s, lo, hi, price, row), of_row(s, square_of_row, row), row_top, total);
#pragma unroll
        for (int i = 0; i < QUADS; i++) add_scaled(sums[i], mass, z[i]);
        if (me == 0) {
            out.top[row] = row_top, out.total[row] = total, out.moment[row] = row_moment, out.peak[row] = row_peak;
            if (out.nearest) out.nearest[row] = nearest;
        }
    }
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        const int at = 4 * (i * TEAM + me);
        if (at < width) *reinterpret_cast<float4*>(part + team * ld + at) = sums[i];
    }
}

// dots (rows, ld) with ld a multiple of 4 and at most 4 TEAM QUADS; factor, square_of_row (rows,), the latter null for 1;
// lo, hi, price (rows,) or null; part (groups, ld) gets the column sums of each GROUP rows, times n.
#define STRIP_PARAMETERS                                                                                               \
    const float *dots, long long ld, long long rows, const float *bias, const float *hard, const float *squared,       \
        const float *factor, const float *square_of_row, const Settings *s, const double *lo, const double *hi,        \
        const double *price, float *top, float *total, float *moment, float *peak, int *nearest, float *part
#define STRIP(team, quads)                                                                                             \
    strip<team, quads>(dots, ld, rows, {bias, hard, squared}, factor, square_of_row, *s, lo, hi, price,                \
                       {top, total, moment, peak, nearest}, part)

extern "C" __global__ void __launch_bounds__(128, 8) strip_32_1(STRIP_PARAMETERS) { STRIP(32, 1); }
extern "C" __global__ void __launch_bounds__(128, 5) strip_32_4(STRIP_PARAMETERS) { STRIP(32, 4); }
extern "C" __global__ void __launch_bounds__(128, 5) strip_128_4(STRIP_PARAMETERS) { STRIP(128, 4); }
extern "C" __global__ void __launch_bounds__(256, 2) strip_256_5(STRIP_PARAMETERS) { STRIP(256, 5); }
extern "C" __global__ void __launch_bounds__(512, 1) strip_512_5(STRIP_PARAMETERS) { STRIP(512, 5); }

// ---- read twice, where a row is too wide for that

// A maximum and the sum and moment of exponentials below it, to which more logits come.
struct Running {
    float top = ABSENT, total = 0, moment = 0;
    // sum_j e_j (z_j - top) changes with the top: e = e' 2^step, z - top = (z - top') + step.
    __device__ void raise(float to) {
        const float step = top - to, shrink = exp2_fast(step);
        moment = shrink * (moment + total * (total > 0 ? step : 0.0f));
        total *= shrink;
        top = to;
    }
    __device__ void add(float4 z) {
        const float to = largest(z);
        if (to > top) raise(to);
        const float4 e = exponentials(z, top);
        total += sum(e);
        moment += ::moment(e, z, top);
    }
};

// Rows' statistics, one block a row.
extern "C" __global__ void __launch_bounds__(256)
stats(const float* dots, long long ld, const float* bias, const float* hard, const float* squared, const float* factor,
      const float* square_of_row, const Settings* s, float* top, float* total, float* moment, float* peak, int* nearest) {
    __shared__ Slots<float, 8> tops, peaks, totals, moments;
    __shared__ Slots<int, 8> nearests;
    const long long row = blockIdx.x;
    const Columns columns{bias, hard, squared};
    const float scale = float(s->scale), row_factor = factor[row], square = square_of_row ? square_of_row[row] : 1.0f;
    Running mine;
    float best = ABSENT;
    int column = 0;
    for (int at = 4 * threadIdx.x; at < ld; at += 4 * blockDim.x) {
        const float4 dot = *reinterpret_cast<const float4*>(dots + row * ld + at);
        const float4 value = values(dot, row_factor, square, columns, at);
        const float4 z = biased(value, scale, bias, at);
        mine.add(z);
        keep_best(hard ? biased(value, scale, hard, at) : z, at, best, column);
    }
    tops.put(over_warp<Max>(mine.top)), peaks.put(over_warp<Max>(best));
    __syncthreads();
    mine.raise(tops.all<Max>());
    const float row_peak = peaks.all<Max>();
    totals.put(over_warp<Add>(mine.total)), moments.put(over_warp<Add>(mine.moment));
    nearests.put(over_warp<Min>(best == row_peak ? column : 0x7fffffff));
    __syncthreads();
    if (threadIdx.x) return;
    top[row] = mine.top, total[row] = totals.all<Add>(), moment[row] = moments.all<Add>(), peak[row] = row_peak;
    if (nearest) nearest[row] = nearests.all<Min>();
}

// part (groups, ld) = sum_i weight_i e_ij over each GROUP rows. Grid: column tiles of 1024, groups.
extern "C" __global__ void __launch_bounds__(256)
columns(const float* dots, long long ld, long long rows, const float* bias, const float* squared, const float* factor,
        const float* square_of_row, const Settings* s, const float* top, const float* weight, float* part) {
    const int at = 4 * (blockIdx.x * 256 + threadIdx.x);
    const long long first = blockIdx.y * (long long)GROUP, last = first + GROUP < rows ? first + GROUP : rows;
    if (at >= ld) return;
    const Columns columns{bias, nullptr, squared};
    const float scale = float(s->scale);
    float4 sums = make_float4(0, 0, 0, 0);
    for (long long row = first; row < last; row++) {
        if (weight[row] == 0) continue;
        const float4 dot = *reinterpret_cast<const float4*>(dots + row * ld + at);
        const float4 value = values(dot, factor[row], square_of_row ? square_of_row[row] : 1.0f, columns, at);
        add_scaled(sums, weight[row], exponentials(biased(value, scale, bias, at), top[row]));
    }
    *reinterpret_cast<float4*>(part + blockIdx.y * ld + at) = sums;
}
