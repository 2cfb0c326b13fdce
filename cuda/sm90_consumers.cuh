// The consumers: two warpgroups of 64 rows each, which multiply, take exponentials and write them into strips.

#ifndef GAPSEL_SM90_CONSUMERS_CUH
#define GAPSEL_SM90_CONSUMERS_CUH

#include "hopper.cuh"
#include "sm90_layout.cuh"

__device__ void release(Shared& shared, u32 stage) {
    const u32 lane = threadIdx.x % 32;
    if (lane < ranks)
        barrier_arrive_at(&shared.empty[stage], lane);
}

// Operands lie in shared memory as the engine leaves boxes of 128 bytes a row in its 128-byte swizzle: groups of 8 rows
// are 1024 bytes and start at multiples of 1024, and in row r the 16-byte piece p lies at place p ^ (r % 8). A step
// along the row within the 128 bytes is a step of the start address, which the hardware swizzles like any other.
__device__ u64 operand(const void* shared) {
    constexpr u64 swizzle_128 = 1ull << 62, group_of_rows = (1024ull >> 4) << 32, unused = 1ull << 16;
    return swizzle_128 | group_of_rows | unused | ((address(shared) & 0x3FFFF) >> 4);
}

// products (64, columns_of_tile) of the group's rows, over all steps. The first stage's product still runs when the
// second's is issued; then the first stage is free.
__device__ void multiply(
    float (&products)[numbers_of_thread], Shared& shared, Ring<stages>& ring, int group, int steps, bool leads) {
    u32 before = 0;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        barrier_wait(&shared.full[ring.slot], ring.phase);
        const u64 x = operand(shared.stage[ring.slot].x + group * (bytes_of_x / 2));
        const u64 y = operand(shared.stage[ring.slot].y);
        products_open();
#pragma unroll
        for (int k = 0; k < depth_of_step / 16; ++k)
            product(products, x + 2 * k, y + 2 * k, step + k > 0);
        products_commit();
        if (step > 0) {
            products_wait<1>(products);
            release(shared, before);
        }
        if (leads && step + 1 == (lead < steps ? lead : steps))
            barrier_arrive(&shared.leading);
        before = ring.slot;
        ring.advance();
    }
    products_wait<0>(products);
    release(shared, before);
}

__device__ void look_closer(Row& row, float logit, int column) {
    if (!wants_nearest) {
        row.peak = fmaxf(row.peak, logit);
    } else if (logit > row.peak) {
        row.peak = logit;
        row.nearest = column;
    }
}

__device__ float largest_of_four(float value) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
    return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}

__device__ float sum_of_four(float value) {
    value += __shfl_xor_sync(~0u, value, 1);
    return value + __shfl_xor_sync(~0u, value, 2);
}

// From products to logits; the hard maxima of the thread's columns go into its rows, and higher tops come back.
__device__ void to_logits(
    float (&numbers)[numbers_of_thread], Row (&rows)[2], const float (&scale)[2], const Shared::Columns& columns,
    int column, float (&top)[2]) {
    top[0] = top[1] = absent;
#pragma unroll
    for (int i = 0; i < numbers_of_thread; i += 4) {
        const int place = 2 * i + first_column();
        const float2 bias = *reinterpret_cast<const float2*>(columns.bias + place);
        const float2 hard = *reinterpret_cast<const float2*>(columns.hard + place);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float &left = numbers[i + 2 * r], &right = numbers[i + 2 * r + 1];
            look_closer(rows[r], fmaf(left, scale[r], hard.x), column + place);
            look_closer(rows[r], fmaf(right, scale[r], hard.y), column + place + 1);
            left = fmaf(left, scale[r], bias.x);
            right = fmaf(right, scale[r], bias.y);
            top[r] = fmaxf(top[r], fmaxf(left, right));
        }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r)
        top[r] = fmaxf(largest_of_four(top[r]) - headroom, rows[r].top);
}

// The sums so far, below a higher top.
__device__ void raise(Row& row, float top) {
    const float step = row.top - top, factor = exp2_fast(step);
    row.moment = factor * fmaf(row.total, step, row.moment);
    row.total *= factor;
    row.top = top;
}

__device__ float exponential(float logit, Row& row) {
    const float z = logit - row.top, e = exp2_fast(z);
    row.total += e;
    row.moment = fmaf(e, z, row.moment);
    return e;
}

__device__ u32 pair_of_halves(float left, float right, Row& row) {
    const float e = exponential(left, row);
    return to_halves(e, exponential(right, row));
}

// Logits of two rows by two columns (of floats) or by four (of halves) to a piece of exponentials.
__device__ uint4 to_piece(const float* z, Row (&rows)[2]) {
    if constexpr (exact)
        return make_uint4(
            __float_as_uint(exponential(z[0], rows[0])), __float_as_uint(exponential(z[1], rows[0])),
            __float_as_uint(exponential(z[2], rows[1])), __float_as_uint(exponential(z[3], rows[1])));
    else
        return make_uint4(
            pair_of_halves(z[0], z[1], rows[0]), pair_of_halves(z[2], z[3], rows[1]),
            pair_of_halves(z[4], z[5], rows[0]), pair_of_halves(z[6], z[7], rows[1]));
}

// Exponentials of the thread's logits, into the rows' sums and into the strip.
__device__ void to_strip(const float (&logits)[numbers_of_thread], Row (&rows)[2], uint4* strip) {
#pragma unroll
    for (int piece = 0; piece < pieces_of_thread; ++piece)
        __stcs(strip + piece * warpgroup, to_piece(logits + piece * (numbers_of_thread / pieces_of_thread), rows));
}

// Four threads share a row, each with a quarter of its columns; the first hands it over.
__device__ void hand_over(Row& row, Row& to) {
    row.total = sum_of_four(row.total);
    row.moment = sum_of_four(row.moment);
#pragma unroll
    for (int other = 1; other < 4; other *= 2) {
        const float peak = __shfl_xor_sync(~0u, row.peak, other);
        const int nearest = __shfl_xor_sync(~0u, row.nearest, other);
        if (peak > row.peak || (peak == row.peak && nearest < row.nearest)) {
            row.peak = peak;
            row.nearest = nearest;
        }
    }
    if (thread_of_group() % 4 == 0)
        to = row;
}

__device__ void consume(const Sweep& sweep, Shared& shared, int group) {
    const int tiles = sweep.tiles(), steps = sweep.products * sweep.steps;
    const int row = group * (rows_of_block / 2) + first_row();
    Ring<stages> ring;
    Ring<stages + 1> columns;
    Ring<2> strip;
    Blocks block(sweep);
    bool leads = group == 0;
    if (!leads && block.more())
        barrier_wait(&shared.leading, 0);
    for (; block.more(); block.advance(), strip.advance()) {
        Row rows[2];
        float scale[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int index = block.index * rows_of_block + row + 8 * r;
            rows[r] = {absent, 0.0f, 0.0f, absent, 0};
            scale[r] = index < sweep.n ? static_cast<float>(sweep.scale) * sweep.factor[index] : 0.0f;
        }
        barrier_wait(&shared.strip_empty[strip.slot], strip.phase ^ 1);
        for (int tile = 0; tile < tiles; ++tile, columns.advance()) {
            float numbers[numbers_of_thread], top[2];
            multiply(numbers, shared, ring, group, steps, leads);
            leads = false;
            to_logits(numbers, rows, scale, shared.columns[columns.slot], tile * columns_of_tile, top);
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                raise(rows[r], top[r]);
                if (thread_of_group() % 4 == 0)
                    tops_of(sweep, strip.slot, tile)[row + 8 * r] = top[r];
            }
            to_strip(numbers, rows, pieces_of(sweep, strip.slot, tile, group) + thread_of_group());
        }
        hand_over(rows[0], shared.row[strip.slot][row]);
        hand_over(rows[1], shared.row[strip.slot][row + 8]);
        barrier_arrive(&shared.strip_full[strip.slot]);
    }
}

#endif
