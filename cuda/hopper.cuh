// The instructions of sm_90a that C++ has no words for, one function each: nothing here decides anything.
//
// Shared memory is named by its 32-bit address in the block's window; the same address names the same place in every
// block of a cluster. A phase bit is 0 for a barrier's first completion, 1 for its second, 0 for its third.
//
// tests/cuda_emulator gives the same names to functions of the CPU, so that the kernels' logic runs without a GPU; what
// it cannot show, the letters of an instruction, stands here alone.

#ifndef GAPSEL_HOPPER_CUH
#define GAPSEL_HOPPER_CUH

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// CUtensorMap, which only the driver reads and writes.
struct alignas(64) TensorMap {
    u64 opaque[16];
};

namespace hopper {

__device__ __forceinline__ u32 address(const void* shared) { return static_cast<u32>(__cvta_generic_to_shared(shared)); }

__device__ __forceinline__ u32 cluster_id() {
    u32 id;
    asm("mov.u32 %0, %%clusterid.x;" : "=r"(id));
    return id;
}

__device__ __forceinline__ u32 clusters() {
    u32 count;
    asm("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
    return count;
}

__device__ __forceinline__ u32 rank_in_cluster() {
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// All threads of all blocks of the cluster.
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Among `threads` threads, whole warps of one block. Barrier 0 is __syncthreads'.
__device__ __forceinline__ void named_sync(u32 barrier, u32 threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Every warp of a warpgroup calls these, once, with a multiple of 8; `take` waits until others have given.
template <int registers>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// mbarriers: a phase completes when `arrivals` threads have arrived and all expected bytes have landed.

__device__ __forceinline__ void barrier_init(u64* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(barrier)), "r"(arrivals) : "memory");
}

// Makes the initialised barriers known to the cluster and to the copy engine; a cluster_sync has to follow.
__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(address(barrier)) : "memory");
}

// At the same barrier of another block, after reads. No release for the cluster: it would wait until all that the thread
// has written is seen by the whole GPU (MEMBAR.ALL.GPU), though nothing but reads is to be ordered.
__device__ __forceinline__ void barrier_arrive_at(u64* barrier, u32 rank) {
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.release.cta.shared::cluster.b64 _, [there];\n"
        "}" ::"r"(address(barrier)),
        "r"(rank)
        : "memory");
}

__device__ __forceinline__ void barrier_arrive_expecting(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(address(barrier)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void barrier_wait(u64* barrier, u32 phase) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(address(barrier)),
        "r"(phase)
        : "memory");
}

// Copies, by the engine; each lets its bytes count at `barrier`.

// A policy for copies: what they bring is the last that the L2 should let go.
__device__ __forceinline__ u64 keep_in_l2() {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ void prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<u64>(map)) : "memory");
}

// The box at (column, plane, row) of a map, whose dimensions come in the order of their strides, as the driver's manual
// wants them; what lies outside arrives as zero and counts as well.
__device__ __forceinline__ void copy_box(
    void* shared, const TensorMap* map, int column, int plane, int row, u64* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(address(shared)),
        "l"(reinterpret_cast<u64>(map)), "r"(address(barrier)), "r"(column), "r"(plane), "r"(row)
        : "memory");
}

// The same into the same place of every block whose bit is set in `ranks`, each counting at its own barrier.
__device__ __forceinline__ void copy_box_to(
    u16 ranks, void* shared, const TensorMap* map, int column, int plane, int row, u64* barrier, u64 policy) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint"
        " [%0], [%1, {%3, %4, %5}], [%2], %6, %7;" ::"r"(address(shared)),
        "l"(reinterpret_cast<u64>(map)), "r"(address(barrier)), "r"(column), "r"(plane), "r"(row), "h"(ranks), "l"(policy)
        : "memory");
}

// `bytes` in a row; both ends and the number are multiples of 16.
__device__ __forceinline__ void copy_line(void* shared, const void* global, u32 bytes, u64* barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address(shared)),
        "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(address(barrier))
        : "memory");
}

__device__ __forceinline__ void prefetch_line(const void* global, u32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
}

// Matrix products of a warpgroup: d (64, N) += a (64, 16) b (N, 16)', where descriptors name a and b in shared memory.
//
// Thread t holds d in its registers: element i is row 16 (t / 32) + t % 32 / 4 + 8 (i / 2 % 2), column
// 8 (i / 4) + 2 (t % 4) + i % 2. Between `products_open` and `products_wait` nobody may touch it.

__device__ __forceinline__ void products_open() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most `pending` of the committed groups are unfinished. d passes through, so that the compiler moves no use of
// it to before the wait.
template <int pending, int numbers>
__device__ __forceinline__ void products_wait(float (&d)[numbers]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#pragma unroll
    for (float& number : d) asm volatile("" : "+f"(number)::"memory");
}

#define GAPSEL_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define GAPSEL_D16(i) GAPSEL_D4(i), GAPSEL_D4(i + 4), GAPSEL_D4(i + 8), GAPSEL_D4(i + 12)
#define GAPSEL_D64(i) GAPSEL_D16(i), GAPSEL_D16(i + 16), GAPSEL_D16(i + 32), GAPSEL_D16(i + 48)
#define GAPSEL_0_TO_63                                                                                    \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                               \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                     \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                     \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define GAPSEL_64_TO_127                                                                                  \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                     \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                     \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "         \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
// Signs + and +, no transposition: both operands have their 16 numbers side by side.
#define GAPSEL_WGMMA(shape, registers, a, b, scale) \
    "{\n.reg .pred adds;\nsetp.ne.b32 adds, " scale ", 0;\n" \
    "wgmma.mma_async.sync.aligned." shape ".f32.f16.f16 {" registers "}, " a ", " b ", adds, 1, 1, 0, 0;\n}"

// Without `add`, d is replaced.
__device__ __forceinline__ void product(float (&d)[64], u64 a, u64 b, bool add) {
    asm volatile(GAPSEL_WGMMA("m64n128k16", GAPSEL_0_TO_63, "%64", "%65", "%66")
                 : GAPSEL_D64(0)
                 : "l"(a), "l"(b), "r"(static_cast<u32>(add)));
}

__device__ __forceinline__ void product(float (&d)[128], u64 a, u64 b, bool add) {
    asm volatile(GAPSEL_WGMMA("m64n256k16", GAPSEL_0_TO_63 ", " GAPSEL_64_TO_127, "%128", "%129", "%130")
                 : GAPSEL_D64(0), GAPSEL_D64(64)
                 : "l"(a), "l"(b), "r"(static_cast<u32>(add)));
}

#undef GAPSEL_D4
#undef GAPSEL_D16
#undef GAPSEL_D64
#undef GAPSEL_0_TO_63
#undef GAPSEL_64_TO_127
#undef GAPSEL_WGMMA

// Numbers.

// 2^z, to two units in the last place; 0 below 2^-126.
__device__ __forceinline__ float exp2_fast(float z) {
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(z));
    return e;
}

// Two halves in a word, the first in its lower part.
__device__ __forceinline__ u32 to_halves(float first, float second) {
    u32 word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
    return word;
}

__device__ __forceinline__ float2 from_halves(u32 word) {
    float2 pair;
    asm("{\n"
        ".reg .b16 first, second;\n"
        "mov.b32 {first, second}, %2;\n"
        "cvt.f32.f16 %0, first;\n"
        "cvt.f32.f16 %1, second;\n"
        "}"
        : "=f"(pair.x), "=f"(pair.y)
        : "r"(word));
    return pair;
}

}  // namespace hopper

#endif  // GAPSEL_HOPPER_CUH
