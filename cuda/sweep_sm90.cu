// The sweep on Hopper (sm_90a): product, rows' statistics and column sums in one read of the pool; nothing n x m stays.
//
//     z_ij = scale factor_i <x_i, y_j> + bias_j      logits, in bits; with hard_j for bias_j they are the hard minimum's
//     top_i = max_j z_ij,   total_i = sum_j 2^(z_ij - top_i),   moment_i = sum_j 2^(z_ij - top_i) (z_ij - top_i)
//     f_i  = of_row_i - (top_i + log2 total_i + shift) / unit                 of_row_i = constant + of_square |x_i|^2
//     r_i  = lo_i + (hi_i - lo_i) / (1 + exp((f_i + price_i) / eta))          the row rule
//     q_j  = sum_i r_i 2^(z_ij - top_i) / total_i                             the column marginal
//
// x and y are float16, in planes: x = hi + lo where one plane does not hold all digits, and the product is the sum over
// pairs of planes. What a row's statistics are good for, f and h and the totals, is the kernel `rows` of sweep.cu.
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

using namespace hopper;

constexpr int rows_of_block = 128, columns_of_tile = GAPSEL_COLUMNS, depth_of_step = 64;
constexpr bool exact = GAPSEL_EXACT, wants_nearest = GAPSEL_NEAREST;

constexpr int warpgroup = 128, threads = 3 * warpgroup, ranks = 2, consumers = 2, summers = 96;
constexpr int registers_of_thread = 168, consumer_registers = 216, helper_registers = 72;
static_assert(helper_registers + consumers * consumer_registers == 3 * registers_of_thread, "none is left over");

constexpr int bytes_of_x = 2 * rows_of_block * depth_of_step, bytes_of_y = 2 * columns_of_tile * depth_of_step;
constexpr int stages = 192 * 1024 / (bytes_of_x + bytes_of_y);
// How many steps the first consumer is ahead: each is a step of the tensor cores during its exponentials, and a stage
// less for the copies to be early.
constexpr int lead = 2;
static_assert(lead < stages, "the first consumer has to get so far alone");

// The largest half is 65,504 and the smallest 2^-24: exponentials up to 2^15 have 39 bits below their maximum.
constexpr float headroom = exact ? 0.0f : 15.0f, without_headroom = exact ? 1.0f : 1.0f / (1 << 15);
// Below every true logit, and finite, so that differences are.
constexpr float absent = -1e38f;

// What a launch reads and writes. The host fills it; arrays are on the device.
struct Sweep {
    TensorMap x;                 // (planes, n, d) in boxes of (1, 128, 64)
    TensorMap y;                 // (planes, m, d) in boxes of (1, columns_of_tile / 2, 64)
    const float* factor;         // (n,)
    const float* square_of_row;  // (n,), or null where of_row is `constant`
    const float *bias, *hard;    // (whole tiles,), `absent` from m on
    const double *lo, *hi, *price;  // (n,), or null for `lo_of_all`, `hi_of_all`, `price_of_all`
    float *top, *total, *moment, *peak;  // (n,); peak: max_j of the hard logits
    int* nearest;                // (n,) its lowest column
    u64* q;                      // (m,) added to: n q_j in units of 1 / q_unit
    char* strips;                // (blocks of the grid, 2, bytes_of_strip)
    double scale, constant, of_square, shift, unit, lo_of_all, hi_of_all, price_of_all, eta;
    double mass_unit;            // n: masses times this are near 1
    double q_unit;               // a power of two: in such units the whole mass stays below 2^62
    int n, m, steps;             // rows, columns, steps of 64 along d
    int products;                // 1 to 3 pairs of planes
    int plane_of_x[3], plane_of_y[3];

    __device__ int tiles() const { return (m + columns_of_tile - 1) / columns_of_tile; }
    __device__ int blocks() const { return (n + rows_of_block - 1) / rows_of_block; }
    __device__ long long bytes_of_strip() const;
};

constexpr int numbers_of_thread = columns_of_tile / 2;
constexpr int pieces_of_thread = numbers_of_thread * (exact ? 4 : 2) / 16;
constexpr int bytes_of_strip_tile = consumers * pieces_of_thread * warpgroup * 16;

// A strip: per tile the exponentials, as the consumers' registers hold them, in pieces of 16 bytes; then per tile the
// tops to which they are relative.
__device__ long long Sweep::bytes_of_strip() const {
    return static_cast<long long>(tiles()) * (bytes_of_strip_tile + rows_of_block * 4);
}

// What a row knows of its logits so far; `top` is lower by `headroom` than its name says.
struct Row {
    float top, total, moment, peak;
    int nearest;
};

struct Shared {
    struct Stage {
        alignas(1024) char x[bytes_of_x];
        alignas(1024) char y[bytes_of_y];
    } stage[stages];
    // The producer is at most `stages` tiles ahead of the slower consumer's epilogue, since every tile has a stage.
    struct Columns {
        alignas(16) float bias[columns_of_tile];
        alignas(16) float hard[columns_of_tile];
    } columns[stages + 1];
    Row row[2][rows_of_block];
    float weight[rows_of_block];
    u64 full[stages], empty[stages];              // stages
    u64 strip_full[2], strip_empty[2], leading;   // strips; whether the first consumer is ahead
};

// A place in a ring and how often the ring was passed: the phase of its barriers.
template <int size>
struct Ring {
    u32 slot = 0, phase = 0;

    __device__ void advance() {
        if (++slot == size) {
            slot = 0;
            phase ^= 1;
        }
    }
};

// The 128-row blocks of this block of the grid: either of two neighbours, then onward by all clusters. Both of a cluster
// go through the same number, even where the second has no rows.
struct Blocks {
    int index, stride, end;

    __device__ explicit Blocks(const Sweep& sweep)
        : index(ranks * cluster_id() + rank_in_cluster()), stride(ranks * clusters()), end(sweep.blocks()) {}
    __device__ bool more() const { return index - static_cast<int>(rank_in_cluster()) < end; }
    __device__ void advance() { index += stride; }
};

// 1. The producer

// All blocks read all of y again and again: it is the last that the L2 should let go.
__device__ void load_step(const Sweep& sweep, Shared& shared, u32 stage, int row, int column, int step, u64 policy) {
    constexpr int half = columns_of_tile / ranks;
    const int pair = step / sweep.steps, depth = step % sweep.steps * depth_of_step;
    const u32 rank = rank_in_cluster();
    Shared::Stage& to = shared.stage[stage];
    u64* full = &shared.full[stage];
    copy_box(to.x, &sweep.x, depth, row, sweep.plane_of_x[pair], full);
    copy_box_to(
        (1 << ranks) - 1, to.y + rank * (bytes_of_y / ranks), &sweep.y, depth, column + static_cast<int>(rank) * half,
        sweep.plane_of_y[pair], full, policy);
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

// 2. The consumers

__device__ int thread_of_group() { return threadIdx.x % warpgroup; }
// Rows of the thread's numbers within its group: this and this + 8. Columns: 8 i + this and the next, for i = 0, 1, ...
__device__ int first_row() { return thread_of_group() / 32 * 16 + thread_of_group() % 32 / 4; }
__device__ int first_column() { return thread_of_group() % 4 * 2; }

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
            products_wait<1>();
            release(shared, before);
        }
        if (leads && step + 1 == (lead < steps ? lead : steps))
            barrier_arrive(&shared.leading);
        before = ring.slot;
        ring.advance();
    }
    products_wait<0>();
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

__device__ char* strip_of(const Sweep& sweep, u32 slot) {
    return sweep.strips + (2ll * blockIdx.x + slot) * sweep.bytes_of_strip();
}

// The first pieces of a tile; those of a consumer's thread are a warpgroup apart.
__device__ uint4* pieces_of(const Sweep& sweep, u32 slot, int tile, int group) {
    char* strip = strip_of(sweep, slot) + static_cast<long long>(tile) * bytes_of_strip_tile;
    return reinterpret_cast<uint4*>(strip) + group * pieces_of_thread * warpgroup;
}

__device__ float* tops_of(const Sweep& sweep, u32 slot, int tile) {
    char* strip = strip_of(sweep, slot) + static_cast<long long>(sweep.tiles()) * bytes_of_strip_tile;
    return reinterpret_cast<float*>(strip) + tile * rows_of_block;
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

// 3. The summers

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

// The kernel

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
