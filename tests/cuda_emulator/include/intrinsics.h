// Device functions that are not C's: bits, roundings, cached loads, and the fast ones, which here are exact.

#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>

#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf

inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float rsqrtf(float a) { return 1 / sqrtf(a); }
inline double rsqrt(double a) { return 1 / sqrt(a); }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1) : 0; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

namespace cuda_emulator {

template <typename To, typename From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "the bits stay as many");
    To out;
    __builtin_memcpy(&out, &value, sizeof(To));
    return out;
}

}  // namespace cuda_emulator

inline int __float_as_int(float a) { return cuda_emulator::bits_as<int>(a); }
inline unsigned __float_as_uint(float a) { return cuda_emulator::bits_as<unsigned>(a); }
inline float __int_as_float(int a) { return cuda_emulator::bits_as<float>(a); }
inline float __uint_as_float(unsigned a) { return cuda_emulator::bits_as<float>(a); }
inline long long __double_as_longlong(double a) { return cuda_emulator::bits_as<long long>(a); }
inline double __longlong_as_double(long long a) { return cuda_emulator::bits_as<double>(a); }

inline int __float2int_rn(float a) { return static_cast<int>(rintf(a)); }
inline int __float2int_rd(float a) { return static_cast<int>(floorf(a)); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }

inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a ? __builtin_clz(static_cast<unsigned>(a)) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll(static_cast<unsigned long long>(a)) : 64; }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline unsigned __brev(unsigned a) {
    unsigned out = 0;
    for (int bit = 0; bit < 32; bit++) out |= (a >> bit & 1) << (31 - bit);
    return out;
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned by) {
    return static_cast<unsigned>((static_cast<uint64_t>(hi) << 32 | lo) << (by & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by) {
    return static_cast<unsigned>((static_cast<uint64_t>(hi) << 32 | lo) >> (by & 31));
}

// Loads and stores that differ in caching alone.
#define EMULATED_LOAD(name)                                                                                            \
    template <typename T>                                                                                              \
    T name(const T* at) {                                                                                              \
        return *at;                                                                                                    \
    }
#define EMULATED_STORE(name)                                                                                           \
    template <typename T>                                                                                              \
    void name(T* at, T value) {                                                                                        \
        *at = value;                                                                                                   \
    }
EMULATED_LOAD(__ldg)
EMULATED_LOAD(__ldca)
EMULATED_LOAD(__ldcg)
EMULATED_LOAD(__ldcs)
EMULATED_LOAD(__ldcv)
EMULATED_LOAD(__ldlu)
EMULATED_STORE(__stcg)
EMULATED_STORE(__stcs)
EMULATED_STORE(__stwb)
EMULATED_STORE(__stwt)
#undef EMULATED_LOAD
#undef EMULATED_STORE

#define EMULATED_ORDER(T)                                                                                              \
    inline T min(T a, T b) { return b < a ? b : a; }                                                                   \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATED_ORDER(int)
EMULATED_ORDER(unsigned)
EMULATED_ORDER(long)
EMULATED_ORDER(unsigned long)
EMULATED_ORDER(long long)
EMULATED_ORDER(unsigned long long)
#undef EMULATED_ORDER
inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline long long clock64() { return 0; }
inline void __nanosleep(unsigned) {}
