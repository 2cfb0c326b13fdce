// What the two halves of the runtime, fibers and memory, know of each other.

#pragma once

#include "include/host.h"

// A piece of memory that a launch may touch: an argument's array, or the image of the compiled source.
struct Region {
    char* start;
    size_t size;
    int kind;
    int word;  // bytes of an element, at most 8
};

namespace cuda_emulator {

// fibers (runtime.cpp): who runs, and where the stacks lie
struct Now {
    unsigned thread, block;  // numbers in the block and in the grid
    char *stacks, *end_of_stacks;
};
extern Now now __attribute__((visibility("hidden")));

// memory (memory.cpp)
void memory_starts(const Region* regions, int count, unsigned shared, unsigned blocks);
void memory_starts_block();
void memory_orders_block();
void memory_orders_warp(unsigned warp);
void memory_ends();

}  // namespace cuda_emulator
