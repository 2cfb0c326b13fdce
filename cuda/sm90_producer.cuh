// The producer: one thread, which has the copy engine bring tiles of x and y into a ring of stages.

#ifndef GAPSEL_SM90_PRODUCER_CUH
#define GAPSEL_SM90_PRODUCER_CUH

#include "hopper.cuh"
#include "sm90_layout.cuh"

// All blocks read all of y again and again: it is the last that the L2 should let go.
__device__ void load_step(const Sweep& sweep, Shared& shared, u32 stage, int row, int column, int step, u64 policy) {
    constexpr int half = columns_of_tile / ranks;
    const int pair = step / sweep.steps, depth = step % sweep.steps * depth_of_step;
    const u32 rank = rank_in_cluster();
    Shared::Stage& to = shared.stage[stage];
    u64* full = &shared.full[stage];
    copy_box(to.x, &sweep.x, depth, sweep.plane_of_x[pair], row, full);
    copy_box_to(
        (1 << ranks) - 1, to.y + rank * (bytes_of_y / ranks), &sweep.y, depth, sweep.plane_of_y[pair],
        column + static_cast<int>(rank) * half, full, policy);
}

// A stage is free when all consumers of both blocks have left it, as either block writes into both.
__device__ void produce(const Sweep& sweep, Shared& shared) {
    constexpr u32 bytes_of_bias = sizeof(shared.columns[0].bias);
    const u64 policy = keep_in_l2();
    const int tiles = sweep.tiles(), steps = sweep.products * sweep.steps;
    Ring<stages> ring;
    Ring<stages + 1> columns;
    for (Blocks block(sweep); block.more(); block.advance()) {
        for (int tile = 0; tile < tiles; ++tile, columns.advance()) {
            Shared::Columns& to = shared.columns[columns.slot];
            const int column = tile * columns_of_tile;
            for (int step = 0; step < steps; ++step, ring.advance()) {
                u64* full = &shared.full[ring.slot];
                barrier_wait(&shared.empty[ring.slot], ring.phase ^ 1);
                barrier_arrive_expecting(full, bytes_of_x + bytes_of_y + (step ? 0 : 2 * bytes_of_bias));
                if (step == 0) {
                    copy_line(to.bias, sweep.bias + column, bytes_of_bias, full);
                    copy_line(to.hard, sweep.hard + column, bytes_of_bias, full);
                }
                load_step(sweep, shared, ring.slot, block.index * rows_of_block, column, step, policy);
            }
        }
    }
}

#endif
