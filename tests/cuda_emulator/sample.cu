// Kernels that show what the emulator runs, and what it refuses.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define ALL 0xffffffffu

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(ALL, value, offset);
    return value;
}

// out += sum of x (n,)
extern "C" __global__ void __launch_bounds__(256, 2)
block_sum(const float* __restrict__ x, long long n, double* __restrict__ out, unsigned* __restrict__ blocks_done) {
    __shared__ float parts[8];
    float sum = 0;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        sum += __ldg(x + i);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    sum = warp_sum(threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0.0f);
    if (threadIdx.x == 0) {
        atomicAdd(out, (double)sum);
        atomicAdd(blocks_done, 1);
    }
}

// x (n,) backwards, through shared memory of n numbers.
extern "C" __global__ void reverse(float* x, int n) {
    extern __shared__ __align__(16) float tile[];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = tile[n - 1 - (int)threadIdx.x];
}

// The last block to be done adds up what all blocks wrote.
extern "C" __global__ void last_block_adds(const int* x, volatile int* parts, unsigned* done, int* out) {
    parts[blockIdx.x] = x[blockIdx.x];
    __threadfence();
    if (atomicAdd(done, 1u) != gridDim.x - 1) return;
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++) sum += parts[i];
    *out = sum;
}

template <typename T>
__global__ void scale(T* x, float by, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] = T(float(x[i]) * by);
}

extern "C" __global__ void to_half(const float* x, __half* out) {
    out[blockIdx.x * blockDim.x + threadIdx.x] = __float2half_rn(x[blockIdx.x * blockDim.x + threadIdx.x]);
}
extern "C" __global__ void from_half(const __half* x, float* out) {
    out[blockIdx.x * blockDim.x + threadIdx.x] = __half2float(x[blockIdx.x * blockDim.x + threadIdx.x]);
}
extern "C" __global__ void to_bfloat16(const float* x, __nv_bfloat16* out) {
    out[blockIdx.x * blockDim.x + threadIdx.x] = __float2bfloat16_rn(x[blockIdx.x * blockDim.x + threadIdx.x]);
}
extern "C" __global__ void from_bfloat16(const __nv_bfloat16* x, float* out) {
    out[blockIdx.x * blockDim.x + threadIdx.x] = __bfloat162float(x[blockIdx.x * blockDim.x + threadIdx.x]);
}

// out (9, 32): what each lane gets of each way to speak with the warp.
extern "C" __global__ void speak(const int* x, int* out) {
    const int lane = (int)threadIdx.x, value = x[lane];
    out[lane] = __shfl_sync(ALL, value, lane * 7);
    out[32 + lane] = __shfl_xor_sync(ALL, value, 5);
    out[64 + lane] = __shfl_down_sync(ALL, value, 3);
    out[96 + lane] = __shfl_up_sync(ALL, value, 3, 8);
    out[128 + lane] = (int)__ballot_sync(ALL, value > 2);
    out[160 + lane] = (int)__match_any_sync(ALL, value);
    out[192 + lane] = __reduce_add_sync(ALL, value);
    out[224 + lane] = __reduce_max_sync(lane < 8 ? 0x000000ffu : 0xffffff00u, value);
    out[256 + lane] = __syncthreads_count(value > 2);
}

extern "C" __global__ void copy(const int* x, int* out) { out[threadIdx.x] = x[threadIdx.x]; }

// What is refused; `wrong` 0 makes each of them right.

extern "C" __global__ void without_barrier(float* x, int wrong) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    if (!wrong) __syncthreads();
    x[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void without_syncwarp(float* x, int wrong) {
    __shared__ float tile[32];
    tile[threadIdx.x] = x[threadIdx.x];
    if (!wrong) __syncwarp();
    x[threadIdx.x] = tile[31 - threadIdx.x];
}
extern "C" __global__ void without_atomic(int* x, int wrong) {
    if (wrong) *x += 1;
    else atomicAdd(x, 1);
}
extern "C" __global__ void diverging(int* x, int wrong) {
    if (wrong && threadIdx.x < 32) return;
    __syncthreads();
    atomicAdd(x, 1);
}
extern "C" __global__ void barriers_apart(int* x, int wrong) {
    if (wrong && threadIdx.x < 32) __syncthreads();
    else __syncthreads();
    atomicAdd(x, 1);
}
extern "C" __global__ void lanes_missing(int* x, int wrong) {
    if (threadIdx.x < 16) atomicAdd(x, __shfl_sync(wrong ? ALL : 0xffffu, 1, 0));
}
extern "C" __global__ void beyond(int* x, int wrong) { x[wrong ? 16 : 15] = 1; }
extern "C" __global__ void before(int* x, int wrong) { x[-wrong] = 1; }
extern "C" __global__ void beyond_shared(int* x, int wrong) {
    __shared__ int tile[4];
    tile[wrong ? 4 : 3] = 1;
    *x = tile[3];
}
extern "C" __global__ void beyond_dynamic(int* x, int wrong) {
    extern __shared__ int tile[];
    tile[wrong ? 4 : 3] = 1;
    *x = tile[wrong ? 4 : 3];
}
extern "C" __global__ void misaligned(int* x, int wrong) { *x = reinterpret_cast<int4*>(x + wrong)->y; }
extern "C" __global__ void overflowing(int* x, int wrong) { *x = wrong * 2147483647 + (int)blockDim.x; }
extern "C" __global__ void asserting(int* x, int wrong) {
    assert(!wrong);
    *x = 1;
}
extern "C" __global__ void from_nowhere(int* x, int wrong) { *x = wrong ? *reinterpret_cast<int*>(wrong * 64ll) : 0; }
extern "C" __global__ void breaking_const(const int* x, int wrong) {
    if (wrong) *const_cast<int*>(x) = 1;
    assert(*x == 0);
}
extern "C" __global__ void strange_mask(int* x, int wrong) { atomicAdd(x, __any_sync(wrong ? 0x7fffffffu : ALL, 1)); }
