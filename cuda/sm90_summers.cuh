// The summers: three warps, which give the rows just finished their masses and add up their exponentials by columns.

#ifndef GAPSEL_SM90_SUMMERS_CUH
#define GAPSEL_SM90_SUMMERS_CUH

#include "hopper.cuh"
#include "sm90_layout.cuh"

__device__ int summer() { return threadIdx.x - 32; }
__device__ void summers_sync() { named_sync(1, summers); }

// The mass of a row, by the rule; exp never overflows, whatever the size of f.
__device__ double mass_of(const Sweep& sweep, const Row& row, int index) {
    const double lo = sweep.lo ? sweep.lo[index] : sweep.lo_of_all, hi = sweep.hi ? sweep.hi[index] : sweep.hi_of_all;
    const double of_row = sweep.constant + (sweep.square_of_row ? sweep.of_square * sweep.square_of_row[index] : 0.0);
    const double f = of_row - (row.top + log2(static_cast<double>(row.total)) + sweep.shift) / sweep.unit;
    const double x = (f + (sweep.price ? sweep.price[index] : sweep.price_of_all)) / sweep.eta;
    const double tail = exp(-fabs(x));
    return lo + (hi - lo) * (x > 0 ? tail : 1.0) / (1.0 + tail);
}

__device__ void write_row(const Sweep& sweep, const Row& row, int index) {
    const float total = row.total * without_headroom;
    sweep.top[index] = row.top + headroom;
    sweep.total[index] = total;
    sweep.moment[index] = fmaf(-headroom, total, row.moment * without_headroom);
    sweep.peak[index] = row.peak;
    if (wants_nearest)
        sweep.nearest[index] = row.nearest;
}

// All rows of a block: what is known of them, and what their exponentials weigh in q.
__device__ void finish_rows(const Sweep& sweep, Shared& shared, const Row* rows, int block) {
    for (int i = summer(); i < rows_of_block; i += summers) {
        const int index = block * rows_of_block + i;
        double weight = 0.0;
        if (index < sweep.n) {
            write_row(sweep, rows[i], index);
            weight = mass_of(sweep, rows[i], index) * sweep.mass_unit / rows[i].total;
        }
        shared.weight[i] = static_cast<float>(weight);
    }
    summers_sync();
}

// A lane's rows in a block: number i of 16 is half of a consumer's warp, 8 rows, of which the lane has one.
constexpr int rows_of_lane = rows_of_block / 8;
__device__ int row_of_lane(int i) { return 8 * i + threadIdx.x % 32 / 4; }

// weight (16,) of the lane's rows in one tile of the strip.
__device__ void weigh_rows(
    float (&weight)[rows_of_lane], const Shared& shared, const Row* rows, const float* tops) {
#pragma unroll
    for (int i = 0; i < rows_of_lane; ++i) {
        const int row = row_of_lane(i);
        weight[i] = shared.weight[row] * exp2_fast(tops[row] - rows[row].top);
    }
}

// A piece has 2 rows by 4 columns of halves, or by 2 of floats.
constexpr int columns_of_piece = exact ? 2 : 4;

__device__ void add_piece(float (&sums)[columns_of_piece], uint4 piece, float first, float second) {
    if constexpr (exact) {
        sums[0] = fmaf(second, __uint_as_float(piece.z), fmaf(first, __uint_as_float(piece.x), sums[0]));
        sums[1] = fmaf(second, __uint_as_float(piece.w), fmaf(first, __uint_as_float(piece.y), sums[1]));
    } else {
        const float2 a = from_halves(piece.x), b = from_halves(piece.y), c = from_halves(piece.z), d = from_halves(piece.w);
        sums[0] = fmaf(second, b.x, fmaf(first, a.x, sums[0]));
        sums[1] = fmaf(second, b.y, fmaf(first, a.y, sums[1]));
        sums[2] = fmaf(second, d.x, fmaf(first, c.x, sums[2]));
        sums[3] = fmaf(second, d.y, fmaf(first, c.y, sums[3]));
    }
}

// Of two numbers the lane keeps one and the lane that differs in bit `other` gets the other: the sum of the kept.
__device__ float exchange(float low, float high, int other) {
    const bool upper = threadIdx.x & other;
    const float got = __shfl_xor_sync(~0u, upper ? low : high, other);
    return (upper ? high : low) + got;
}

// Over the 8 rows of a warp's lanes: the sum of one of the piece's columns, chosen by bits 16 and 8 of the lane.
__device__ float sum_over_lanes(const float (&sums)[columns_of_piece]) {
    float sum;
    if constexpr (exact) {
        sum = exchange(sums[0], sums[1], 16);
        sum += __shfl_xor_sync(~0u, sum, 8);
    } else {
        sum = exchange(exchange(sums[0], sums[2], 16), exchange(sums[1], sums[3], 16), 8);
    }
    return sum + __shfl_xor_sync(~0u, sum, 4);
}

__device__ int column_of_lane(int piece) {
    const int lane = threadIdx.x % 32, upper = lane / 16, lower = lane / 8 % 2;
    return exact ? 8 * piece + first_column() + upper : 16 * piece + 8 * upper + first_column() + lower;
}

// Every third piece of a tile: the columns' weighted sums over the block's rows, into q.
__device__ void sum_tile(const Sweep& sweep, u32 slot, int tile, const float (&weight)[rows_of_lane]) {
    constexpr int lanes_alike = exact ? 8 + 4 : 4, warps = warpgroup / 32;
    const uint4* pieces = pieces_of(sweep, slot, tile, 0) + threadIdx.x % 32;
    for (int piece = summer() / 32; piece < pieces_of_thread; piece += summers / 32) {
        float sums[columns_of_piece] = {};
#pragma unroll
        for (int i = 0; i < consumers * warps; ++i) {
            const int place = (i / warps * pieces_of_thread + piece) * warps + i % warps;
            add_piece(sums, __ldcs(pieces + 32 * place), weight[2 * i], weight[2 * i + 1]);
        }
        const float sum = sum_over_lanes(sums);
        const int column = tile * columns_of_tile + column_of_lane(piece);
        if ((threadIdx.x & lanes_alike) == 0 && column < sweep.m)
            atomicAdd(sweep.q + column, static_cast<u64>(__double2ll_rn(sum * sweep.q_unit)));
    }
}

// A strip has left for the memory when it is read; it is called back a tile ahead.
__device__ void prefetch_tile(const Sweep& sweep, u32 slot, int tile) {
    if (summer() == 0)
        prefetch_line(pieces_of(sweep, slot, tile, 0), bytes_of_strip_tile);
}

__device__ void sum_up(const Sweep& sweep, Shared& shared) {
    const int tiles = sweep.tiles();
    Ring<2> strip;
    for (Blocks block(sweep); block.more(); block.advance(), strip.advance()) {
        barrier_wait(&shared.strip_full[strip.slot], strip.phase);
        prefetch_tile(sweep, strip.slot, 0);
        const Row* rows = shared.row[strip.slot];
        finish_rows(sweep, shared, rows, block.index);
        for (int tile = 0; tile < tiles; ++tile) {
            float weight[rows_of_lane];
            weigh_rows(weight, shared, rows, tops_of(sweep, strip.slot, tile));
            if (tile + 1 < tiles)
                prefetch_tile(sweep, strip.slot, tile + 1);
            sum_tile(sweep, strip.slot, tile, weight);
        }
        summers_sync();  // the next block's weights take the place of these
        barrier_arrive(&shared.strip_empty[strip.slot]);
    }
}

#endif
