// Everything that cuda/hopper.cuh names, on the CPU: barriers, the copy engine and the tensor cores of one cluster.
//
// The engine and the tensor cores may be as late as the rules allow. A copy lands in some later round; a product reads
// its operands and writes its registers at once or as late as `products_wait`, by chance. So what is freed too early is
// overwritten in time, and what is read too early is stale. Fences do nothing here, but where one is missing a launch
// fails. Operands are read at the addresses that the PTX manual gives
// for 128-byte swizzled, K-major matrices, and boxes are written where it says that the engine puts them.

#pragma once
#define GAPSEL_HOPPER_CUH  // takes its place

#include "fibers.h"

#include "vectors.h"

#include <cmath>
#include <cstddef>
#include <deque>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define threadIdx (emulated::Index{emulated::me->thread()})
#define blockIdx (emulated::Index{emulated::this_cluster * emulated::blocks_of_cluster + emulated::me->rank()})

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

struct alignas(64) TensorMap {
    u64 opaque[16];
};

namespace emulated {

struct Index {
    unsigned x;
};

// What the host writes into a TensorMap here: an array of halves (rows, planes, columns) and the size of a box.
struct Map {
    const u16* start;
    u64 columns, planes, rows;
    u64 plane_stride, row_stride;  // in bytes
    u64 box_columns, box_rows;
};

struct Barrier {
    unsigned expected = 0, pending = 0;
    long bytes = 0;
    u64 phase = 0;  // completed ones
};

inline std::map<const void*, Barrier> barriers;
inline std::vector<std::function<void()>> copies;
inline unsigned cluster_arrived, cluster_count;
inline bool unfenced;                     // barriers were initialised, and the engine may not know it
inline bool opened[threads_of_cluster];  // whether a thread's registers are ready for products
inline std::map<std::pair<unsigned, unsigned>, std::pair<unsigned, unsigned>> named;  // (rank, barrier): arrived, count

inline u32 address(const void* shared, unsigned rank) {
    const long at = static_cast<const char*>(shared) - window(rank);
    if (at < 0 || at >= static_cast<long>(shared_size)) fail("%ld is no address of the block's shared memory", at);
    return static_cast<u32>(at);
}

inline Barrier& barrier_at(const void* at) {
    const auto found = barriers.find(at);
    if (found == barriers.end()) fail("a barrier is used that was not initialised");
    return found->second;
}

inline void complete(Barrier& barrier) {
    moves++;
    if (barrier.pending > 0 || barrier.bytes != 0) return;
    barrier.pending = barrier.expected;
    barrier.phase++;
}

inline void arrive(Barrier& barrier, long bytes = 0) {
    if (barrier.pending == 0) fail("more threads arrive than the barrier expects");
    barrier.pending--;
    barrier.bytes += bytes;
    complete(barrier);
}

inline void land(void* barrier, long bytes) {
    Barrier& at = barrier_at(barrier);
    at.bytes -= bytes;
    complete(at);
}

// The same place in another block of the cluster.
template <typename T>
T* in_block(T* shared, unsigned rank) {
    return reinterpret_cast<T*>(window(rank) + address(shared, me->rank()));
}

// A swizzle acts on addresses: bits 7-9 are added to bits 4-6.
inline u32 swizzled(u32 at) { return at ^ (at >> 3 & 0x70); }

inline void write_box(const Map& map, unsigned rank, u32 to, long column, long plane, long row) {
    for (u64 r = 0; r < map.box_rows; r++)
        for (u64 c = 0; c < map.box_columns; c++) {
            const u64 x = column + c, y = row + r, z = plane;
            const bool inside = x < map.columns && y < map.rows && z < map.planes;
            const char* from = reinterpret_cast<const char*>(map.start) + z * map.plane_stride + y * map.row_stride + 2 * x;
            const u32 at = to + static_cast<u32>(2 * (r * map.box_columns + c));
            memcpy(window(rank) + swizzled(at), inside ? from : "\0", 2);
        }
}

inline void schedule_box(
    u16 ranks, void* shared, const TensorMap* opaque, int column, int plane, int row, u64* barrier) {
    Map map;
    memcpy(&map, opaque, sizeof map);
    const u32 to = address(shared, me->rank());
    if (to % 1024) fail("a box goes to %u, which is no multiple of 1024", to);
    for (unsigned rank = 0; rank < blocks_of_cluster; rank++)
        if (ranks >> rank & 1)
            copies.push_back([=, at = in_block(barrier, rank)] {
                write_box(map, rank, to, column, plane, row);
                land(at, static_cast<long>(2 * map.box_columns * map.box_rows));
            });
}

// Some of the copies land, in any order.
inline void run_copies(bool all) {
    for (unsigned tries = all ? static_cast<unsigned>(copies.size()) : dice.below(3); tries > 0 && !copies.empty(); tries--) {
        const unsigned i = dice.below(static_cast<u32>(copies.size()));
        const auto copy = copies[i];
        copies.erase(copies.begin() + i);
        copy();
    }
}

struct Halves {
    float value[1 << 16];
    Halves() {
        for (int bits = 0; bits < 1 << 16; bits++) {
            const int exponent = bits >> 10 & 31, fraction = bits & 1023;
            const float size = exponent ? ldexpf(static_cast<float>(1024 + fraction), exponent - 25) : ldexpf(static_cast<float>(fraction), -24);
            value[bits] = bits & 0x8000 ? -size : size;
        }
    }
};

inline float from_half(u16 bits) {
    static const Halves halves;
    return halves.value[bits];
}

// Element (row, k) of the operand that a descriptor names.
inline float element(u64 descriptor, unsigned row, unsigned k) {
    const u32 start = static_cast<u32>(descriptor & 0x3fff) << 4, groups = static_cast<u32>(descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) fail("the descriptor is not of an aligned matrix with 128-byte swizzle");
    const u32 at = swizzled(start + row / 8 * groups + row % 8 * 128 + 2 * k);
    if (at + 2 > shared_size) fail("an operand lies outside shared memory");
    u16 bits;
    memcpy(&bits, window(me->rank()) + at, 2);
    return from_half(bits);
}

struct Product {
    float* d;
    unsigned numbers;
    u64 a, b;
    bool add;

    // The part of the thread that has issued it.
    void run() const {
        const unsigned thread = me->thread() % 128;
        float x[2][16];
        for (unsigned r = 0; r < 2; r++)
            for (unsigned k = 0; k < 16; k++) x[r][k] = element(a, thread / 32 * 16 + thread % 32 / 4 + 8 * r, k);
        for (unsigned i = 0; i < numbers; i++) {
            float sum = add ? d[i] : 0.0f;
            for (unsigned k = 0; k < 16; k++) sum += x[i / 2 % 2][k] * element(b, 8 * (i / 4) + thread % 4 * 2 + i % 2, k);
            d[i] = sum;
        }
    }
};

// A thread's unfinished products, in groups; the last group is still open.
inline std::deque<std::vector<Product>> unfinished[threads_of_cluster];
inline int registers_of_block[blocks_of_cluster];

inline void start_product(float* d, unsigned numbers, u64 a, u64 b, bool add) {
    if (!opened[me->number]) fail("a product begins before products_open");
    auto& groups = unfinished[me->number];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({d, numbers, a, b, add});
    if (groups.size() == 1 && groups.back().size() == 1 && dice.below(2)) {
        groups.back()[0].run();
        groups.back().clear();
    }
}

}  // namespace emulated

namespace hopper {

using emulated::barrier_at;
using emulated::me;

#define EMULATED_LINE int line = __builtin_LINE()

inline u32 address(const void* shared) { return emulated::address(shared, me->rank()); }
inline u32 cluster_id() { return emulated::this_cluster; }
inline u32 clusters() { return emulated::all_clusters; }
inline u32 rank_in_cluster() { return me->rank(); }

inline void cluster_sync(EMULATED_LINE) {
    emulated::meet(0, line);
    if (emulated::unfenced) emulated::fail("the cluster meets before barrier_init_fence");
    const unsigned count = emulated::cluster_count;
    if (++emulated::cluster_arrived == emulated::threads_of_cluster) {
        emulated::cluster_arrived = 0;
        emulated::cluster_count++;
    }
    emulated::moves++;
    emulated::wait_until("waits for the cluster", [&] { return emulated::cluster_count != count; });
}

inline void named_sync(u32 barrier, u32 threads, EMULATED_LINE) {
    emulated::meet(0, line);
    auto& [arrived, count] = emulated::named[{me->rank(), barrier}];
    const unsigned before = count;
    if (++arrived == threads) {
        arrived = 0;
        count++;
    }
    emulated::moves++;
    emulated::wait_until("waits at a named barrier", [&, &now = count] { return now != before; });
}

template <int registers>
void give_registers(EMULATED_LINE) {
    emulated::meet(0, line);
    emulated::registers_of_block[me->rank()] += 168 - registers;
    emulated::moves++;
}

template <int registers>
void take_registers(EMULATED_LINE) {
    emulated::meet(0, line);
    emulated::wait_until("waits for registers", [] { return emulated::registers_of_block[me->rank()] >= registers - 168; });
    emulated::registers_of_block[me->rank()] -= registers - 168;
}

inline void barrier_init(u64* barrier, u32 arrivals) {
    address(barrier);
    emulated::barriers[barrier] = {arrivals, arrivals, 0, 0};
    emulated::unfenced = true;
}

inline void barrier_init_fence() { emulated::unfenced = false; }
inline void barrier_arrive(u64* barrier) { emulated::arrive(barrier_at(barrier)); }
inline void barrier_arrive_at(u64* barrier, u32 rank) { emulated::arrive(barrier_at(emulated::in_block(barrier, rank))); }
inline void barrier_arrive_expecting(u64* barrier, u32 bytes) { emulated::arrive(barrier_at(barrier), bytes); }

inline void barrier_wait(u64* barrier, u32 phase) {
    emulated::wait_until("waits at a barrier", [&, &at = barrier_at(barrier)] { return (at.phase & 1) != phase; });
}

inline u64 keep_in_l2() { return 0; }
inline void prefetch_map(const TensorMap*) {}
inline void prefetch_line(const void*, u32) {}

inline void copy_box(void* shared, const TensorMap* map, int column, int plane, int row, u64* barrier) {
    emulated::schedule_box(static_cast<u16>(1 << me->rank()), shared, map, column, plane, row, barrier);
}

inline void copy_box_to(
    u16 ranks, void* shared, const TensorMap* map, int column, int plane, int row, u64* barrier, u64) {
    emulated::schedule_box(ranks, shared, map, column, plane, row, barrier);
}

inline void copy_line(void* shared, const void* global, u32 bytes, u64* barrier) {
    if (address(shared) % 16 || reinterpret_cast<u64>(global) % 16 || bytes % 16) emulated::fail("a line is not in steps of 16 bytes");
    emulated::copies.push_back([=] {
        memcpy(shared, global, bytes);
        emulated::land(barrier, bytes);
    });
}

inline void products_open(EMULATED_LINE) {
    emulated::meet(0, line);
    emulated::opened[me->number] = true;
}

inline void products_commit(EMULATED_LINE) {
    emulated::meet(0, line);
    emulated::opened[me->number] = false;
    emulated::unfinished[me->number].emplace_back();
}

template <int pending, int numbers>
void products_wait(float (&)[numbers], EMULATED_LINE) {
    emulated::meet(0, line);
    auto& groups = emulated::unfinished[me->number];
    while (groups.size() > pending + 1) {
        for (const auto& product : groups.front()) product.run();
        groups.pop_front();
    }
    emulated::meet(1, line);  // it waits for the whole warp's
}

inline void product(float (&d)[64], u64 a, u64 b, bool add) { emulated::start_product(d, 64, a, b, add); }
inline void product(float (&d)[128], u64 a, u64 b, bool add) { emulated::start_product(d, 128, a, b, add); }

inline float exp2_fast(float z) { return z < -126.0f ? 0.0f : exp2f(z); }

// To the nearest half, ties to even; of numbers from 0 to 65,504.
inline u32 to_half(float value) {
    if (!(value >= 0.0f && value <= 65504.0f)) emulated::fail("%g does not fit into a half", value);
    int exponent = 0;
    frexpf(value, &exponent);
    exponent = exponent < -13 || value == 0.0f ? -13 : exponent;  // below 2^-14 halves count in steps of 2^-24
    const auto digits = static_cast<u32>(rintf(ldexpf(value, 11 - exponent)));
    return digits + (static_cast<u32>(exponent + 13) << 10);
}

inline u32 to_halves(float first, float second) { return to_half(first) | to_half(second) << 16; }
inline float2 from_halves(u32 word) {
    return {emulated::from_half(static_cast<u16>(word)), emulated::from_half(static_cast<u16>(word >> 16))};
}

}  // namespace hopper

// What CUDA C++ itself names.

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, EMULATED_LINE) {
    static_assert(sizeof(T) <= 8);
    if (mask != ~0u) emulated::fail("line %d: the warp does not meet as a whole", line);
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    word = emulated::meet(word, line)[emulated::me->lane() ^ static_cast<unsigned>(bits)];
    memcpy(&value, &word, sizeof value);
    return value;
}

inline void __syncwarp(EMULATED_LINE) { emulated::meet(0, line); }
inline void __stcs(uint4* to, uint4 value) { *to = value; }
inline uint4 __ldcs(const uint4* from) { return *from; }
inline u64 atomicAdd(u64* to, u64 value) {
    const u64 before = *to;
    *to = before + value;
    return before;
}
inline long long __double2ll_rn(double value) { return llrint(value); }
inline u32 __float_as_uint(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline float __uint_as_float(u32 bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
