// float4 and its like, aligned as on the device.

#pragma once

#define EMULATED_VECTOR(T, name, align1, align2, align4)                                                               \
    struct name##1 {                                                                                                   \
        T x;                                                                                                           \
    };                                                                                                                 \
    struct alignas(align2) name##2 {                                                                                   \
        T x, y;                                                                                                        \
    };                                                                                                                 \
    struct alignas(align4) name##4 {                                                                                   \
        T x, y, z, w;                                                                                                  \
    };                                                                                                                 \
    inline name##1 make_##name##1(T x) { return {x}; }                                                                 \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                         \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

EMULATED_VECTOR(signed char, char, 1, 2, 4)
EMULATED_VECTOR(unsigned char, uchar, 1, 2, 4)
EMULATED_VECTOR(short, short, 2, 4, 8)
EMULATED_VECTOR(unsigned short, ushort, 2, 4, 8)
EMULATED_VECTOR(int, int, 4, 8, 16)
EMULATED_VECTOR(unsigned, uint, 4, 8, 16)
EMULATED_VECTOR(long long, longlong, 8, 16, 16)
EMULATED_VECTOR(unsigned long long, ulonglong, 8, 16, 16)
EMULATED_VECTOR(float, float, 4, 8, 16)
EMULATED_VECTOR(double, double, 8, 16, 16)
#undef EMULATED_VECTOR

struct float3 {
    float x, y, z;
};
struct int3 {
    int x, y, z;
};
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
