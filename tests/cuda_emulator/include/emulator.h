// What a kernel sees of the emulator: CUDA's words as C++, put before the source by -include.
//
// A block's threads are fibers of one operating-system thread (runtime.cpp): each runs until it waits, at a barrier or
// with its warp. Blocks run one after another, so a plain static variable is shared memory.

#pragma once

#include "host.h"
#include "vectors.h"

#define CUDA_EMULATOR 1
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 750  // the least that the portable kernels run on
#endif

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __grid_constant__

#define threadIdx (cuda_emulator::thread_index())
#define blockIdx (cuda_emulator::block_index())
#define blockDim (cuda_emulator::block_size())
#define gridDim (cuda_emulator::grid_size())
#define warpSize 32

#undef assert
#define assert(truth)                                                                                                  \
    ((truth) ? void() : cuda_emulator::fail("assertion failed: %s at %s:%d", #truth, __FILE__, __LINE__))

#include "atomics.h"
#include "intrinsics.h"
#include "warp.h"
