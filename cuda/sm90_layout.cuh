// What the warps of the kernel share: the arguments, shared memory, strips, and who takes which rows and columns.

#ifndef GAPSEL_SM90_LAYOUT_CUH
#define GAPSEL_SM90_LAYOUT_CUH

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
    TensorMap x;                 // (n, planes, d) in boxes of (128, 1, 64)
    TensorMap y;                 // (m, planes, d) in boxes of (columns_of_tile / 2, 1, 64)
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

__device__ int thread_of_group() { return threadIdx.x % warpgroup; }
// Rows of the thread's numbers within its group: this and this + 8. Columns: 8 i + this and the next, for i = 0, 1, ...
__device__ int first_row() { return thread_of_group() / 32 * 16 + thread_of_group() % 32 / 4; }
__device__ int first_column() { return thread_of_group() % 4 * 2; }

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

#endif
