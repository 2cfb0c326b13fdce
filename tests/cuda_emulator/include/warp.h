// Barriers, shuffles, votes and reductions: each is one meeting of a block's or a warp's threads.
//
// As on the device, every lane named in the mask has to come to the same call, and a lane that has returned never will.

#pragma once

#include <cstring>

#define EMULATED_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace cuda_emulator {

template <typename T>
uint64_t to_word(T value) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a lane passes on at most 8 bytes");
    uint64_t word = 0;
    __builtin_memcpy(&word, &value, sizeof(T));
    return word;
}

template <typename T>
T from_word(uint64_t word) {
    T value;
    __builtin_memcpy(&value, &word, sizeof(T));
    return value;
}

// The word of the lane that `argument` names, if it takes part; the device leaves other words undefined.
inline uint64_t word_of(const uint64_t* words, unsigned members, unsigned, unsigned argument) {
    return members >> argument & 1 ? words[argument] : 0xdeaddeaddeaddeadull;
}

inline uint64_t ballot_of(const uint64_t* words, unsigned members, unsigned, unsigned) {
    uint64_t set = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (members >> lane & 1 && words[lane]) set |= 1ull << lane;
    return set;
}

inline uint64_t alike(const uint64_t* words, unsigned members, unsigned me, unsigned) {
    uint64_t set = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (members >> lane & 1 && words[lane] == words[me]) set |= 1ull << lane;
    return set;
}

template <typename T, typename Op>
uint64_t folded(const uint64_t* words, unsigned members, unsigned, unsigned) {
    unsigned lane = static_cast<unsigned>(__builtin_ctz(members));
    T total = from_word<T>(words[lane]);
    while (++lane < 32)
        if (members >> lane & 1) total = Op::of(total, from_word<T>(words[lane]));
    return to_word(total);
}

inline uint64_t nothing(const uint64_t*, unsigned, unsigned, unsigned) { return 0; }

// The lane to read, or the own one where that lies outside the segment of `width` lanes.
inline unsigned partner(long wanted, unsigned width) {
    if (width == 0 || width > 32 || (width & (width - 1)))
        fail("a shuffle's width is %u: give a power of two up to 32", width);
    const long first = lane() / width * width;
    return static_cast<unsigned>(wanted >= first && wanted < first + long(width) ? wanted : long(lane()));
}

template <typename T>
T shuffle(const char* name, unsigned mask, T value, unsigned source, const char* file, int line) {
    return from_word<T>(meet_warp({name, file, line}, mask, to_word(value), source, word_of, false));
}

}  // namespace cuda_emulator

inline void __syncthreads(EMULATED_SITE) { cuda_emulator::meet_block({"__syncthreads", file, line}, 0); }

inline int __syncthreads_count(int truth, EMULATED_SITE) {
    return static_cast<int>(cuda_emulator::meet_block({"__syncthreads_count", file, line}, truth != 0));
}

inline int __syncthreads_or(int truth, EMULATED_SITE) { return __syncthreads_count(truth, file, line) != 0; }

inline int __syncthreads_and(int truth, EMULATED_SITE) { return __syncthreads_count(truth == 0, file, line) == 0; }

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_SITE) {
    cuda_emulator::meet_warp({"__syncwarp", file, line}, mask, 0, 0, cuda_emulator::nothing, true);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATED_SITE) {
    const unsigned inside = unsigned(width) - 1;
    const unsigned from = (cuda_emulator::lane() & ~inside) + (unsigned(source) & inside);
    return cuda_emulator::shuffle("__shfl_sync", mask, value, from, file, line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATED_SITE) {
    const unsigned source = cuda_emulator::partner(long(cuda_emulator::lane() ^ unsigned(bits)), unsigned(width));
    return cuda_emulator::shuffle("__shfl_xor_sync", mask, value, source, file, line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_SITE) {
    const unsigned source = cuda_emulator::partner(long(cuda_emulator::lane()) + long(delta), unsigned(width));
    return cuda_emulator::shuffle("__shfl_down_sync", mask, value, source, file, line);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_SITE) {
    const unsigned source = cuda_emulator::partner(long(cuda_emulator::lane()) - long(delta), unsigned(width));
    return cuda_emulator::shuffle("__shfl_up_sync", mask, value, source, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int truth, EMULATED_SITE) {
    using namespace cuda_emulator;
    return static_cast<unsigned>(meet_warp({"__ballot_sync", file, line}, mask, truth != 0, 0, ballot_of, false));
}

inline int __any_sync(unsigned mask, int truth, EMULATED_SITE) { return __ballot_sync(mask, truth, file, line) != 0; }

inline int __all_sync(unsigned mask, int truth, EMULATED_SITE) { return __ballot_sync(mask, !truth, file, line) == 0; }

template <typename T>
unsigned __match_any_sync(unsigned mask, T value, EMULATED_SITE) {
    using namespace cuda_emulator;
    return static_cast<unsigned>(meet_warp({"__match_any_sync", file, line}, mask, to_word(value), 0, alike, false));
}

// Lanes need not run together: to know of oneself alone is the least that the device promises.
inline unsigned __activemask() { return 1u << cuda_emulator::lane(); }

#define EMULATED_REDUCTION(name, expression)                                                                           \
    namespace cuda_emulator {                                                                                          \
    struct name##_op {                                                                                                 \
        template <typename T>                                                                                          \
        static T of(T a, T b) {                                                                                        \
            return expression;                                                                                         \
        }                                                                                                              \
    };                                                                                                                 \
    }                                                                                                                  \
    template <typename T>                                                                                              \
    T name(unsigned mask, T value, EMULATED_SITE) {                                                                    \
        using namespace cuda_emulator;                                                                                 \
        static_assert(sizeof(T) == 4 && T(1) / T(2) == T(0), "the device reduces 32-bit integers");                   \
        return from_word<T>(meet_warp({#name, file, line}, mask, to_word(value), 0, folded<T, name##_op>, false));     \
    }

EMULATED_REDUCTION(__reduce_add_sync, T(a + b))
EMULATED_REDUCTION(__reduce_min_sync, a < b ? a : b)
EMULATED_REDUCTION(__reduce_max_sync, a < b ? b : a)
EMULATED_REDUCTION(__reduce_and_sync, T(a & b))
EMULATED_REDUCTION(__reduce_or_sync, T(a | b))
EMULATED_REDUCTION(__reduce_xor_sync, T(a ^ b))
#undef EMULATED_REDUCTION
#undef EMULATED_SITE
