// The seam between a compiled kernel and the emulator's runtime: what the one calls of the other.

#pragma once

#include <cstddef>
#include <cstdint>

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_emulator {

// Where the calling thread is.
uint3 thread_index();
uint3 block_index();
dim3 block_size();
dim3 grid_size();
unsigned lane();

// The block's dynamic shared memory.
void* dynamic_shared();

// End the launch with a message.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// A place in the source; the same for all that meet there.
struct Site {
    const char* name;
    const char* file;
    int line;
};

// What each thread of a meeting gets, from the words that all of them brought; `members` has a bit for each.
using Combine = uint64_t (*)(const uint64_t* words, unsigned members, unsigned lane, unsigned argument);

// Wait for the lanes of `mask`; `ordered` if memory is in order afterwards, as after __syncwarp.
uint64_t meet_warp(Site site, unsigned mask, uint64_t word, unsigned argument, Combine combine, bool ordered);

// Wait for all threads of the block and return the sum of their words.
uint64_t meet_block(Site site, uint64_t word);

// An access that is atomic, and a __threadfence.
void touch_atomically(const void* at, size_t size);
void fence();

}  // namespace cuda_emulator

// What a compiled source file offers to the runtime.
struct EmulatedKernel {
    const char* name;
    void (*run)(void** arguments);
    int count;  // of arguments
    const int* sizes;      // of each, in bytes
    const bool* constant;  // whether it is a pointer to what the kernel may not write
    int most_threads;      // of __launch_bounds__; 0 where it is not said
};
