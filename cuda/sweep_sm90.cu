// The sweep on Hopper (sm_90a): product, rows' statistics and column sums in one read of the pool; nothing n x m stays.
//
//     z_ij = scale factor_i <x_i, y_j> + bias_j      logits, in bits; with hard_j for bias_j they are the hard minimum's
//     top_i = max_j z_ij,   total_i = sum_j 2^(z_ij - top_i),   moment_i = sum_j 2^(z_ij - top_i) (z_ij - top_i)
//     f_i  = of_row_i - (top_i + log2 total_i + shift) / unit                 of_row_i = constant + of_square |x_i|^2
//     r_i  = lo_i + (hi_i - lo_i) / (1 + exp((f_i + price_i) / eta))          the row rule
//     q_j  = sum_i r_i 2^(z_ij - top_i) / total_i                             the column marginal
//
// x and y are float16, in planes: x = hi + lo where one plane does not hold all digits, and the product is the sum over
// pairs of planes. What a row's statistics are good for, f and h and the totals, is the kernel `rows` of rows.cuh.
//
// q needs each row's sum, and that is known only when the whole row has been multiplied. Multiplying twice would halve
// the speed; so a block of 128 rows writes its exponentials into a strip of its own in global memory, and while the
// tensor cores work on the next block, three warps apply the rule to the rows just finished and read the strip back.
// That is 4 bytes of traffic per exponential (8 where strips hold float32), a third of what the memory can carry in the
// time that the product takes at d = 768, and it needs no word between the blocks of a grid.
//
//     warp 0         producer   copies tiles of x and y into a ring of stages
//     warps 1-3      summers    the block before: row rule, q
//     warps 4-7      consumer   64 rows: product, logits, exponentials, running sums, strip
//     warps 8-11     consumer   the other 64 rows
//
// (A warpgroup of its own for the summers does not compile: at 512 threads a thread may have 128 registers, and a
// product 256 columns wide asks for 154, whatever setmaxnreg says.)
//
// Two blocks in a cluster take 256 rows and share each tile of y, half of which either copies for both. The consumers
// share the stages, but one runs `lead` steps before the other: while it takes exponentials, the other one has the
// tensor cores to itself. Exponentials are relative to the largest logit of the row so far; each tile of a strip
// remembers which that was.
//
// Order: float32 sums run within blocks of 128 rows; across blocks q is added in 64-bit integers, which do not mind the
// order. So no bit depends on the number of multiprocessors, nor on how a pool is cut into launches, as long as the cuts
// are at multiples of 128 rows.
//
// Compiled with three settings: GAPSEL_COLUMNS of a tile, 128 or 256; GAPSEL_EXACT, strips of float32, or else of half;
// GAPSEL_NEAREST, whether the columns of the hard minima are wanted.

#include "hopper.cuh"
#include "sm90_consumers.cuh"
#include "sm90_layout.cuh"
#include "sm90_producer.cuh"
#include "sm90_summers.cuh"

__device__ void start(const Sweep& sweep, Shared& shared) {
    if (threadIdx.x == 0) {
        prefetch_map(&sweep.x);
        prefetch_map(&sweep.y);
        for (int stage = 0; stage < stages; ++stage) {
            barrier_init(&shared.full[stage], 1);
            barrier_init(&shared.empty[stage], ranks * consumers * warpgroup / 32);
        }
        for (int slot = 0; slot < 2; ++slot) {
            barrier_init(&shared.strip_full[slot], consumers * warpgroup);
            barrier_init(&shared.strip_empty[slot], summers);
        }
        barrier_init(&shared.leading, warpgroup);
        barrier_init_fence();
    }
    __syncwarp();
    cluster_sync();
}

static_assert(sizeof(Shared) + 1024 <= 227 * 1024, "what a block may have");

extern "C" __global__ void __cluster_dims__(ranks, 1, 1) __launch_bounds__(threads, 1)
    sweep_sm90(const __grid_constant__ Sweep sweep) {
    extern __shared__ char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory + (-address(memory) & 1023));
    start(sweep, shared);
    const int group = static_cast<int>(threadIdx.x) / warpgroup - 1;
    if (group < 0) {
        give_registers<helper_registers>();
        if (threadIdx.x == 0)
            produce(sweep, shared);
        else if (threadIdx.x >= 32)
            sum_up(sweep, shared);
    } else {
        take_registers<consumer_registers>();
        consume(sweep, shared, group);
    }
    // The producer's warp comes together again; neither block ends while the other may still write into its memory.
    __syncwarp();
    cluster_sync();
}
