// A float of 16 bits, of any split between exponent and fraction: the arithmetic of half and bfloat16.
//
// Sums, products and quotients are taken in float and rounded once more. float has more than twice the digits and two
// more (24 >= 2 * 11 + 2), so the second rounding changes nothing.

#pragma once

#include <cmath>
#include <cstdint>

namespace cuda_emulator {

// Round to the nearest number with FRACTION bits after the point and exponents down to LEAST, ties to even.
template <int FRACTION, int LEAST, int MOST>
uint16_t narrow(float value) {
    const uint32_t bits = bits_as<uint32_t>(value);
    const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    constexpr int BIAS = 1 - LEAST;
    constexpr uint32_t INFINITE = (uint32_t(MOST + BIAS + 1) << FRACTION);
    const float size = fabsf(value);
    if (size != size) return static_cast<uint16_t>(0x7fff);
    if (size == 0) return sign;
    if (size > 3.4e38f) return static_cast<uint16_t>(sign | INFINITE);
    int exponent = 0;
    frexpf(size, &exponent);
    exponent = exponent - 1 < LEAST ? LEAST : exponent - 1;
    // In units of the last place; rint rounds ties to even, and a carry into the next exponent comes out right.
    const float digits = rintf(ldexpf(size, FRACTION - exponent));
    const auto code = (uint32_t(exponent - LEAST) << FRACTION) + uint32_t(digits);
    return static_cast<uint16_t>(sign | (exponent > MOST || code > INFINITE ? INFINITE : code));
}

template <int FRACTION, int LEAST>
float widen(uint16_t code) {
    constexpr uint32_t TOP = 0x7fffu >> FRACTION;
    const uint32_t exponent = (code & 0x7fffu) >> FRACTION, fraction = code & ((1u << FRACTION) - 1);
    const float sign = code & 0x8000 ? -1.0f : 1.0f;
    if (exponent == TOP) return fraction ? __builtin_nanf("") : sign * __builtin_inff();
    if (exponent == 0) return sign * ldexpf(float(fraction), LEAST - FRACTION);
    return sign * ldexpf(float(fraction + (1u << FRACTION)), int(exponent) - 1 + LEAST - FRACTION);
}

template <int FRACTION, int LEAST, int MOST>
struct SmallFloat {
    uint16_t code;

    SmallFloat() = default;
    SmallFloat(float value) : code(narrow<FRACTION, LEAST, MOST>(value)) {}
    SmallFloat(double value) : SmallFloat(static_cast<float>(value)) {}
    SmallFloat(int value) : SmallFloat(static_cast<float>(value)) {}
    operator float() const { return widen<FRACTION, LEAST>(code); }

    SmallFloat operator-() const {
        SmallFloat out;
        out.code = static_cast<uint16_t>(code ^ 0x8000);
        return out;
    }
    SmallFloat& operator+=(SmallFloat b) { return *this = SmallFloat(float(*this) + float(b)); }
    SmallFloat& operator-=(SmallFloat b) { return *this = SmallFloat(float(*this) - float(b)); }
    SmallFloat& operator*=(SmallFloat b) { return *this = SmallFloat(float(*this) * float(b)); }
    SmallFloat& operator/=(SmallFloat b) { return *this = SmallFloat(float(*this) / float(b)); }
    friend SmallFloat operator+(SmallFloat a, SmallFloat b) { return a += b; }
    friend SmallFloat operator-(SmallFloat a, SmallFloat b) { return a -= b; }
    friend SmallFloat operator*(SmallFloat a, SmallFloat b) { return a *= b; }
    friend SmallFloat operator/(SmallFloat a, SmallFloat b) { return a /= b; }
};

template <typename T>
struct alignas(4) Pair {
    T x, y;
    Pair() = default;
    Pair(T x, T y) : x(x), y(y) {}
};

}  // namespace cuda_emulator
