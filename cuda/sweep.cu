// The sweep on a GPU, in chunks of rows: a library product fills a strip of dot products, these kernels do the rest.
//
//     z_ij = (g_j - c_ij) / eps log2(e) + log2 b_j     less what is the same for the whole row or all columns
//          = scale factor_i <x_i, y_j> + bias_j        squared Euclidean and cosine
//          = scale |x_i - y_j| + bias_j                Euclidean (scale < 0)
//     e_ij = 2^(z_ij - max_j z_ij),   S_i = sum_j e_ij,   p_ij = e_ij / S_i
//     f_i  = of_row_i - (max_j z_ij + log2 S_i + shift) / unit            unit = log2(e) / eps
//     r_i  = lo_i + (hi_i - lo_i) / (1 + exp((f_i + price_i) / eta)),   w_i = r_i + eps dr_i / df_i
//     q_j  = sum_i r_i p_ij
//
// A strip is read once where a row fits into the registers of a team of threads (`strip_*`): the row's maximum and sum
// come from two reductions, then every thread adds the mass times its own columns to sums that it keeps for GROUP rows.
// Wider rows are read twice (`stats`, then `columns`).
//
// Order: float32 sums run over GROUP rows of the pool, float64 ones over SEGMENT groups, then over segments in the order
// of the rows. Groups and segments are counted from the pool's first row, so that chunks change no sum.
//
// Operands are 16-bit: x = hi + lo with hi, lo in float16, scaled by powers of two so that 22 digits survive. What is
// whole in float16 needs no lo.
//
// All integers are long long and all numbers that are passed are double, so that a launcher needs no types.

typedef unsigned short Half;  // the bits of a float16; plain C, for not every run-time compiler finds cuda_fp16.h

constexpr int GROUP = 32;     // rows of a float32 column sum; 64 would halve the partial sums' traffic, 6 % of the strip's
constexpr int SEGMENT = 16;   // groups of a float64 partial sum
constexpr int ROW_BLOCK = 256;
constexpr unsigned ALL = 0xffffffffu;
constexpr float ABSENT = -1e38f;  // below every logit, and finite

// What all rows share; a float64 array on the host, in this order.
struct Settings {
    double scale;       // factor of a dot product or a distance, in log2 units
    double constant;    // of_row_i = constant + of_square |x_i|^2
    double of_square;
    double shift;       // what was taken off all biases
    double hard_shift;  // and off all hard biases
    double unit;        // log2(e) / eps
    double eps;
    double lo;          // bounds and price of all rows, where there is no array of them
    double hi;
    double price;
    double eta;
    double n;           // rows of the pool
    double least;       // mass n r_i from which a row is in the Gram with certainty
    double root;        // factor of the Gram's rows
    double limit;       // |x_i|^2 above which logits would leave float32
};

// ---- helpers

__device__ __forceinline__ float exp2_fast(float t) {
#ifdef CUDA_EMULATOR
    return exp2f(t);
#else
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(t));
    return e;
#endif
}

__device__ __forceinline__ float from_half(Half bits) {
    const unsigned magnitude = bits & 0x7fffu;
    float value = __uint_as_float((magnitude << 13) + 0x38000000u);
    if (magnitude < 0x0400u) value = float(magnitude) * 5.9604645e-8f;  // 2^-24; CuPy's compiler flushes small float32
    if (magnitude >= 0x7c00u) value = __uint_as_float(0x7f800000u | magnitude << 13);
    return bits & 0x8000u ? -value : value;
}

// The nearest float16, ties to even; |x| < 65504.
__device__ __forceinline__ Half to_half(float x) {
    unsigned bits = __float_as_uint(x);
    const unsigned sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits < 0x38800000u)  // below 2^-14 float16 counts in steps of 2^-24, as float32 does above 0.5
        return Half(sign | (__float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3f000000u));
    bits += 0xfffu + (bits >> 13 & 1u);
    return Half(sign | (bits - 0x38000000u) >> 13);
}

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ __forceinline__ float largest(float4 a) { return fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w)); }

__device__ __forceinline__ float sum(float4 a) { return (a.x + a.y) + (a.z + a.w); }

struct Max {
    __device__ static float of(float a, float b) { return fmaxf(a, b); }
};
struct Min {
    __device__ static int of(int a, int b) { return a < b ? a : b; }
};
struct Add {
    template <typename T>
    __device__ static T of(T a, T b) {
        return a + b;
    }
};

// Every lane gets the same bits, since a + b = b + a.
template <typename Op, typename T>
__device__ __forceinline__ T over_warp(T value) {
    for (int bit = 16; bit; bit /= 2) value = Op::of(value, __shfl_xor_sync(ALL, value, bit));
    return value;
}

__device__ __forceinline__ void note_bad_row(long long* status, long long row) { atomicMin(status, row); }

// ---- operands

enum Type { FLOAT16, BFLOAT16, FLOAT32 };

__device__ __forceinline__ float read(const void* raw, long long type, long long at) {
    if (type == FLOAT16) return from_half(static_cast<const Half*>(raw)[at]);
    if (type == BFLOAT16) return __uint_as_float(unsigned(static_cast<const Half*>(raw)[at]) << 16);
    return static_cast<const float*>(raw)[at];
}

// factor (rows,) = 1 / |x_i| of float16 rows that are multiplied as they lie. One warp a row.
extern "C" __global__ void __launch_bounds__(256)
measure(const Half* x, long long rows, long long d, float* factor, long long* status, long long first_row) {
    const long long row = blockIdx.x * (blockDim.x / 32LL) + threadIdx.x / 32;
    if (row >= rows) return;
    double squared = 0;
    for (long long k = threadIdx.x % 32; k < d; k += 32) {
        const double value = from_half(x[row * d + k]);
        squared += value * value;
    }
    squared = over_warp<Add>(squared);
    if (threadIdx.x % 32) return;
    if (!(squared > 0 && squared < 1e300)) note_bad_row(status, first_row + row);
    factor[row] = float(1 / sqrt(squared));
}

// 2^k as two factors, since float32 has no 2^150.
struct PowerOfTwo {
    float a, b;
    __device__ explicit PowerOfTwo(int k) : a(__int_as_float((127 + k / 2) << 23)), b(__int_as_float((127 + k - k / 2) << 23)) {}
    __device__ float times(float v) const { return v * a * b; }
};

// k such that 2^k v lies in [2^14, 2^15), for finite v >= 2^-126.
__device__ __forceinline__ int lift(float v) { return 14 - (int(__float_as_uint(v) >> 23) - 127); }

// Rows of any type (rows, d) as float16 (rows, ld): hi in columns 0..d-1, lo, if there is one, in columns half..half+d-1.
//
// v = x - centre, where there is a centre. With `fixed` = 0 each row gets the power of two that suits it, and
// v / unit_i = factor_i (hi + lo), where unit_i = |v_i| if unit, else 1. Otherwise hi + lo = fixed v / unit_i.
// squared (rows,) = |hi + lo|^2 in units of v. Outputs may be null; other columns of out are not written. One warp a row.
extern "C" __global__ void __launch_bounds__(256)
pack(const void* raw, long long type, long long rows, long long d, const float* centre, long long unit, double fixed,
     Half* out, long long ld, long long half, float* factor, float* squared, long long* status, long long first_row) {
    const long long row = blockIdx.x * (blockDim.x / 32LL) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return;
    float top = 0;
    bool finite = true;
    for (long long k = lane; k < d; k += 32) {
        const float v = read(raw, type, row * d + k) - (centre ? centre[k] : 0.0f);
        finite = finite && fabsf(v) <= 3.4028234e38f;
        top = fmaxf(top, fabsf(v));
    }
    top = over_warp<Max>(top);
    finite = __all_sync(ALL, finite);
    const bool empty = top < 1.1754944e-38f;  // 2^-126, below which float32 may count as 0
    if (lane == 0 && (!finite || (unit && empty))) note_bad_row(status, first_row + row);
    const int k2 = finite && !empty ? lift(top) : 0;
    const PowerOfTwo lifted(k2);
    double norm = 0;
    if (fixed > 0 && unit) {
        for (long long k = lane; k < d; k += 32) {
            const double v = lifted.times(read(raw, type, row * d + k) - (centre ? centre[k] : 0.0f));
            norm += v * v;
        }
        norm = sqrt(over_warp<Add>(norm));
    }
    const float scale = float(fixed > 0 ? (unit ? fixed / norm : ldexp(fixed, -k2)) : 1.0);
    double length = 0;
    for (long long k = lane; k < d; k += 32) {
        const float v = scale * lifted.times(read(raw, type, row * d + k) - (centre ? centre[k] : 0.0f));
        const Half hi = to_half(finite ? v : 0.0f);
        const Half lo = to_half(finite ? v - from_half(hi) : 0.0f);
        out[row * ld + k] = hi;
        if (half) out[row * ld + half + k] = lo;
        const double kept = double(from_half(hi)) + (half ? double(from_half(lo)) : 0.0);
        length += kept * kept;
    }
    length = over_warp<Add>(length);
    if (lane) return;
    const double back = fixed > 0 ? 1 / fixed : ldexp(1.0, -k2);
    if (factor) factor[row] = float(unit ? 1 / sqrt(length) : back);
    if (squared) squared[row] = float(length * back * back);
}

// ---- a row of logits

struct Columns {
    const float* bias;     // (ld,), ABSENT in columns that do not exist
    const float* hard;     // (ld,) the same without the columns' weights, or null where all weigh the same
    const float* squared;  // (ld,) |y_j|^2 for the Euclidean cost, else null
};

__device__ __forceinline__ float distance(float dot, float square_of_row, float square) {
    return sqrtf(fmaxf(fmaf(-2.0f, dot, square_of_row + square), 0.0f));
}

// What scale multiplies: a dot product, or a distance.
__device__ __forceinline__ float4 values(float4 dot, float factor, float square_of_row, const Columns& columns, int at) {
    dot = make_float4(dot.x * factor, dot.y * factor, dot.z * factor, dot.w * factor);
    if (!columns.squared) return dot;
    const float4 square = *reinterpret_cast<const float4*>(columns.squared + at);
    return make_float4(distance(dot.x, square_of_row, square.x), distance(dot.y, square_of_row, square.y),
                       distance(dot.z, square_of_row, square.z), distance(dot.w, square_of_row, square.w));
}

__device__ __forceinline__ float4 biased(float4 value, float scale, const float* bias, int at) {
    const float4 b = *reinterpret_cast<const float4*>(bias + at);
    return make_float4(fmaf(scale, value.x, b.x), fmaf(scale, value.y, b.y), fmaf(scale, value.z, b.z), fmaf(scale, value.w, b.w));
}

__device__ __forceinline__ float4 exponentials(float4 z, float top) {
    return make_float4(exp2_fast(z.x - top), exp2_fast(z.y - top), exp2_fast(z.z - top), exp2_fast(z.w - top));
}

// sum_j e_j (z_j - top); e is 0 where z is far below, and z is finite.
__device__ __forceinline__ float moment(float4 e, float4 z, float top) {
    return e.x * (z.x - top) + e.y * (z.y - top) + (e.z * (z.z - top) + e.w * (z.w - top));
}

__device__ __forceinline__ void add_scaled(float4& to, float c, float4 e) {
    to = make_float4(fmaf(c, e.x, to.x), fmaf(c, e.y, to.y), fmaf(c, e.z, to.z), fmaf(c, e.w, to.w));
}

// Keep the highest value, and the lowest column that has it.
__device__ __forceinline__ void keep_best(float4 z, int at, float& best, int& column) {
    const float part[4] = {z.x, z.y, z.z, z.w};
#pragma unroll
    for (int c = 0; c < 4; c++)
        if (part[c] > best) best = part[c], column = at + c;
}

// A row's bounds, and the price of its mass above the lower one.
struct Bounds {
    double lo, hi, price;
    __device__ Bounds(const Settings& s, const double* lo_of, const double* hi_of, const double* price_of, long long row)
        : lo(lo_of ? lo_of[row] : s.lo), hi(hi_of ? hi_of[row] : s.hi), price(price_of ? price_of[row] : s.price) {}
};

__device__ __forceinline__ double of_row(const Settings& s, const float* square_of_row, long long row) {
    return s.constant + (square_of_row ? s.of_square * square_of_row[row] : 0.0);
}

// n r_i / S_i in float32: what e_ij is multiplied by in q. The exact r_i is the business of `rows`.
__device__ __forceinline__ float mass_factor(const Settings& s, const Bounds& bounds, double of_row, float top, float total) {
    double r = bounds.lo;
    if (bounds.hi > bounds.lo) {
        const float x = float((bounds.price + of_row - (double(top) + log2f(total) + s.shift) / s.unit) / s.eta);
        r += (bounds.hi - bounds.lo) / (1.0f + expf(x));
    }
    return float(r * s.n) / total;
}

// What a strip's rows yield, each (rows,).
struct RowStats {
    float* top;
    float* total;
    float* moment;
    float* peak;   // the highest hard logit
    int* nearest;  // its lowest column; may be null
};

// ---- the strip, read once

// One thing from each warp of a team to all its threads.
template <typename T, int WARPS>
struct Slots {
    T of[WARPS];
    __device__ void put(T value) {
        if (threadIdx.x % 32 == 0) of[threadIdx.x / 32] = value;
    }
    template <typename Op>
    __device__ T all() const {
        T value = of[0];
#pragma unroll
        for (int warp = 1; warp < WARPS; warp++) value = Op::of(value, of[warp]);
        return value;
    }
};

// A team of TEAM threads takes GROUP rows, each thread 4 QUADS columns of all of them. A team is a warp or a block.
//
// Two meetings a row. A slot is written again only after a meeting that follows all reads of it: the peaks' are read
// before the second meeting, the sums' before the next row's first.
template <int TEAM, int QUADS>
__device__ __forceinline__ void
strip(const float* dots, long long ld, long long rows, Columns columns, const float* factor, const float* square_of_row,
      const Settings& s, const double* lo, const double* hi, const double* price, RowStats out, float* part) {
    constexpr int WARPS = TEAM / 32;
    __shared__ Slots<float, WARPS> tops, peaks, totals, moments;
    __shared__ Slots<int, WARPS> nearests;
    const long long team = TEAM > 32 ? blockIdx.x : blockIdx.x * (blockDim.x / 32LL) + threadIdx.x / 32;
    const int me = threadIdx.x % TEAM;
    const long long first = team * GROUP, last = first + GROUP < rows ? first + GROUP : rows;
    if (first >= rows) return;
    const float scale = float(s.scale);
    const int width = int(ld);
    float4 sums[QUADS], next[QUADS];
    const auto load = [&](long long row) {
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const int at = 4 * (i * TEAM + me);
            if (at < width) next[i] = *reinterpret_cast<const float4*>(dots + row * ld + at);
        }
    };
#pragma unroll
    for (int i = 0; i < QUADS; i++) sums[i] = next[i] = make_float4(0, 0, 0, 0);
    load(first);
    for (long long row = first; row < last; row++) {
        const float row_factor = factor[row], square = square_of_row ? square_of_row[row] : 1.0f;
        float4 z[QUADS];
        float top = ABSENT, peak = ABSENT;
        int column = 0;
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const int at = 4 * (i * TEAM + me);
            z[i] = make_float4(ABSENT, ABSENT, ABSENT, ABSENT);
            if (at >= width) continue;
            const float4 value = values(next[i], row_factor, square, columns, at);
            z[i] = biased(value, scale, columns.bias, at);
            top = fmaxf(top, largest(z[i]));
            const float4 hard = columns.hard ? biased(value, scale, columns.hard, at) : z[i];
            if (out.nearest)
                keep_best(hard, at, peak, column);
            else
                peak = fmaxf(peak, largest(hard));
        }
        if (row + 1 < last) load(row + 1);
        float row_top = over_warp<Max>(top), row_peak = over_warp<Max>(peak);
        if (TEAM > 32) {
            tops.put(row_top), peaks.put(row_peak);
            __syncthreads();
            row_top = tops.template all<Max>(), row_peak = peaks.template all<Max>();
        }
        float total = 0, row_moment = 0;
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const float4 e = exponentials(z[i], row_top);
            total += sum(e);
            row_moment += moment(e, z[i], row_top);
            z[i] = e;
        }
        total = over_warp<Add>(total), row_moment = over_warp<Add>(row_moment);
        int nearest = 0;
        if (out.nearest) nearest = over_warp<Min>(peak == row_peak ? column : 0x7fffffff);
        if (TEAM > 32) {
            totals.put(total), moments.put(row_moment), nearests.put(nearest);
            __syncthreads();
            total = totals.template all<Add>(), row_moment = moments.template all<Add>();
            nearest = nearests.template all<Min>();
        }
        const float mass = mass_factor(s, Bounds(s, lo, hi, price, row), of_row(s, square_of_row, row), row_top, total);
#pragma unroll
        for (int i = 0; i < QUADS; i++) add_scaled(sums[i], mass, z[i]);
        if (me == 0) {
            out.top[row] = row_top, out.total[row] = total, out.moment[row] = row_moment, out.peak[row] = row_peak;
            if (out.nearest) out.nearest[row] = nearest;
        }
    }
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        const int at = 4 * (i * TEAM + me);
        if (at < width) *reinterpret_cast<float4*>(part + team * ld + at) = sums[i];
    }
}

// dots (rows, ld) with ld a multiple of 4 and at most 4 TEAM QUADS; factor, square_of_row (rows,), the latter null for 1;
// lo, hi, price (rows,) or null; part (groups, ld) gets the column sums of each GROUP rows, times n.
#define STRIP_PARAMETERS                                                                                               \
    const float *dots, long long ld, long long rows, const float *bias, const float *hard, const float *squared,       \
        const float *factor, const float *square_of_row, const Settings *s, const double *lo, const double *hi,        \
        const double *price, float *top, float *total, float *moment, float *peak, int *nearest, float *part
#define STRIP(team, quads)                                                                                             \
    strip<team, quads>(dots, ld, rows, {bias, hard, squared}, factor, square_of_row, *s, lo, hi, price,                \
                       {top, total, moment, peak, nearest}, part)

extern "C" __global__ void __launch_bounds__(128, 8) strip_32_1(STRIP_PARAMETERS) { STRIP(32, 1); }
extern "C" __global__ void __launch_bounds__(128, 5) strip_32_4(STRIP_PARAMETERS) { STRIP(32, 4); }
extern "C" __global__ void __launch_bounds__(128, 5) strip_128_4(STRIP_PARAMETERS) { STRIP(128, 4); }
extern "C" __global__ void __launch_bounds__(256, 2) strip_256_5(STRIP_PARAMETERS) { STRIP(256, 5); }
extern "C" __global__ void __launch_bounds__(512, 1) strip_512_5(STRIP_PARAMETERS) { STRIP(512, 5); }

// ---- the strip, where a row is too wide for that

// A maximum and the sum and moment of exponentials below it, to which more logits come.
struct Running {
    float top = ABSENT, total = 0, moment = 0;
    // sum_j e_j (z_j - top) changes with the top: e = e' 2^step, z - top = (z - top') + step.
    __device__ void raise(float to) {
        const float step = top - to, shrink = exp2_fast(step);
        moment = shrink * (moment + total * (total > 0 ? step : 0.0f));
        total *= shrink;
        top = to;
    }
    __device__ void add(float4 z) {
        const float to = largest(z);
        if (to > top) raise(to);
        const float4 e = exponentials(z, top);
        total += sum(e);
        moment += ::moment(e, z, top);
    }
};

// Rows' statistics, one block a row.
extern "C" __global__ void __launch_bounds__(256)
stats(const float* dots, long long ld, const float* bias, const float* hard, const float* squared, const float* factor,
      const float* square_of_row, const Settings* s, float* top, float* total, float* moment, float* peak, int* nearest) {
    __shared__ Slots<float, 8> tops, peaks, totals, moments;
    __shared__ Slots<int, 8> nearests;
    const long long row = blockIdx.x;
    const Columns columns{bias, hard, squared};
    const float scale = float(s->scale), row_factor = factor[row], square = square_of_row ? square_of_row[row] : 1.0f;
    Running mine;
    float best = ABSENT;
    int column = 0;
    for (int at = 4 * threadIdx.x; at < ld; at += 4 * blockDim.x) {
        const float4 dot = *reinterpret_cast<const float4*>(dots + row * ld + at);
        const float4 value = values(dot, row_factor, square, columns, at);
        const float4 z = biased(value, scale, bias, at);
        mine.add(z);
        keep_best(hard ? biased(value, scale, hard, at) : z, at, best, column);
    }
    tops.put(over_warp<Max>(mine.top)), peaks.put(over_warp<Max>(best));
    __syncthreads();
    mine.raise(tops.all<Max>());
    const float row_peak = peaks.all<Max>();
    totals.put(over_warp<Add>(mine.total)), moments.put(over_warp<Add>(mine.moment));
    nearests.put(over_warp<Min>(best == row_peak ? column : 0x7fffffff));
    __syncthreads();
    if (threadIdx.x) return;
    top[row] = mine.top, total[row] = totals.all<Add>(), moment[row] = moments.all<Add>(), peak[row] = row_peak;
    if (nearest) nearest[row] = nearests.all<Min>();
}

// part (groups, ld) = sum_i weight_i e_ij over each GROUP rows. Grid: column tiles of 1024, groups.
extern "C" __global__ void __launch_bounds__(256)
columns(const float* dots, long long ld, long long rows, const float* bias, const float* squared, const float* factor,
        const float* square_of_row, const Settings* s, const float* top, const float* weight, float* part) {
    const int at = 4 * (blockIdx.x * 256 + threadIdx.x);
    const long long first = blockIdx.y * (long long)GROUP, last = first + GROUP < rows ? first + GROUP : rows;
    if (at >= ld) return;
    const Columns columns{bias, nullptr, squared};
    const float scale = float(s->scale);
    float4 sums = make_float4(0, 0, 0, 0);
    for (long long row = first; row < last; row++) {
        if (weight[row] == 0) continue;
        const float4 dot = *reinterpret_cast<const float4*>(dots + row * ld + at);
        const float4 value = values(dot, factor[row], square_of_row ? square_of_row[row] : 1.0f, columns, at);
        add_scaled(sums, weight[row], exponentials(biased(value, scale, bias, at), top[row]));
    }
    *reinterpret_cast<float4*>(part + blockIdx.y * ld + at) = sums;
}

// ---- rows

// A number in [0, 1) that depends on the row alone (the mixing of SplitMix64).
__device__ __forceinline__ double dice(long long row) {
    unsigned long long x = (unsigned long long)(row + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return double((x ^ x >> 31) >> 11) / 9007199254740992.0;  // 2^53
}

// From a row's statistics to all that it yields, in float64; one thread a row.
//
// f, hard, nearest (rows,) may be null. `keep` says which target each column is. mass (rows,) = n r_i / S_i. For the
// Gram, which may be null: surplus = n v_i (r_i - w_i) / S_i and gram_root = root sgn(w_i) sqrt(n v_i |w_i|) / S_i, where
// v_i is how many of its kind a row stands for, 0 if it is left out. sums (blocks, 3): phi_i, the hard bound's
// min(lo_i h_i, hi_i h_i + (hi_i - lo_i) price_i), and r_i H(p_i), each over ROW_BLOCK rows.
extern "C" __global__ void __launch_bounds__(ROW_BLOCK)
rows(long long rows, long long first_row, const float* square_of_row, const Settings* settings, const double* lo,
     const double* hi, const double* price, const float* top, const float* total, const float* moment, const float* peak,
     const int* column, const int* keep, float* f_out, float* hard_out, int* nearest_out, float* mass, float* surplus, float* gram_root,
     double* sums, long long* status) {
    const Settings& s = *settings;
    const long long row = blockIdx.x * (long long)ROW_BLOCK + threadIdx.x;
    double value = 0, hard_value = 0, entropy = 0;
    if (row < rows) {
        const double S = total[row], base = of_row(s, square_of_row, row);
        const double f = base - (top[row] + log2(S) + s.shift) / s.unit;
        const double h = base - (peak[row] + s.hard_shift) / s.unit;
        const Bounds bounds(s, lo, hi, price, row);
        const double room = bounds.hi - bounds.lo;
        const double x = (f + bounds.price) / s.eta, tail = exp(-fabs(x));  // the tail never overflows, whatever the size of f
        const double full = x > 0 ? tail : 1, empty = x > 0 ? 1 : tail, share = full / (1 + tail);
        const double r = bounds.lo + room * share;
        const double w = r - room * share * empty / (1 + tail) / s.eta * s.eps;
        value = bounds.lo * f - s.eta * room * (fmax(-x, 0.0) + log1p(tail));
        hard_value = fmin(bounds.lo * h, bounds.hi * h + room * bounds.price);
        entropy = r * (log2(S) - moment[row] / S) * 0.6931471805599453;
        if (f_out) f_out[row] = float(f);
        if (hard_out) hard_out[row] = float(h);
        if (nearest_out) nearest_out[row] = keep[column[row]];
        mass[row] = float(r * s.n / S);
        if (gram_root) {
            const double kept = fmin(s.n * r / s.least, 1.0);
            const double stands_for = dice(first_row + row) < kept ? 1 / kept : 0;
            surplus[row] = float(stands_for * (r - w) * s.n / S);
            gram_root[row] = float(copysign(s.root * sqrt(stands_for * fabs(w) * s.n) / S, w));
        }
        if (square_of_row && !(square_of_row[row] <= s.limit)) note_bad_row(status, first_row + row);
    }
    __shared__ double warps[ROW_BLOCK / 32][3];
    value = over_warp<Add>(value), hard_value = over_warp<Add>(hard_value), entropy = over_warp<Add>(entropy);
    if (threadIdx.x % 32 == 0) {
        double* mine = warps[threadIdx.x / 32];
        mine[0] = value, mine[1] = hard_value, mine[2] = entropy;
    }
    __syncthreads();
    if (threadIdx.x >= 3) return;
    double all = 0;
    for (int warp = 0; warp < ROW_BLOCK / 32; warp++) all += warps[warp][threadIdx.x];
    sums[blockIdx.x * 3LL + threadIdx.x] = all;
}

// q (ld,) += the column sums in part (groups, ld): SEGMENT groups at a time, then in the order of the rows.
// Blocks of 32 columns x 32 segments.
extern "C" __global__ void __launch_bounds__(1024)
accumulate(const float* part, long long groups, long long ld, double* q) {
    __shared__ double segments[32][33];
    const long long j = blockIdx.x * 32LL + threadIdx.x % 32;
    const int mine = threadIdx.x / 32;
    double running = mine == 0 && j < ld ? q[j] : 0;
    for (long long first = 0; first < groups; first += 32 * SEGMENT) {
        double sum = 0;
        if (j < ld)
            for (long long g = first + mine * SEGMENT; g < first + (mine + 1) * SEGMENT && g < groups; g++)
                sum += part[g * ld + j];
        segments[mine][threadIdx.x % 32] = sum;
        __syncthreads();
        if (mine == 0)
            for (int i = 0; i < 32 && first + i * SEGMENT < groups; i++) running += segments[i][threadIdx.x];
        __syncthreads();
    }
    if (mine == 0 && j < ld) q[j] = running;
}

// ---- the Gram matrix

// The rows whose weight (rows,) is not 0, in order, in `kept`, and how many in `count`. One block.
extern "C" __global__ void __launch_bounds__(1024)
compact(const float* weight, long long rows, int* kept, int* count) {
    __shared__ int before[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int found = 0;
    for (long long first = 0; first < rows; first += 1024) {
        const long long row = first + threadIdx.x;
        const bool stays = row < rows && weight[row] != 0;
        const unsigned votes = __ballot_sync(ALL, stays);
        if (lane == 0) before[warp] = __popc(votes);
        __syncthreads();
        int at = found, all = 0;
        for (int i = 0; i < 32; i++) {
            if (i < warp) at += before[i];
            all += before[i];
        }
        if (stays) kept[at + __popc(votes & ((1u << lane) - 1))] = int(row);
        found += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) *count = found;
}

// For each row of `kept` (count,) a row of two float16 matrices (count, ld): v = root p, and u = sgn(w) v, so that
// u' v = root^2 n sum_i v_i w_i p_i p_i'. One block a row.
extern "C" __global__ void __launch_bounds__(256)
plan(const float* dots, long long ld, const float* bias, const float* squared, const float* factor,
     const float* square_of_row, const Settings* s, const float* top, const float* gram_root, const int* kept, Half* u,
     Half* v) {
    const long long row = kept[blockIdx.x], slot = blockIdx.x;
    const Columns columns{bias, nullptr, squared};
    const float scale = float(s->scale), root = fabsf(gram_root[row]), square = square_of_row ? square_of_row[row] : 1.0f;
    const Half sign = gram_root[row] < 0 ? 0x8000 : 0;
    for (int at = 4 * threadIdx.x; at < ld; at += 4 * blockDim.x) {
        const float4 dot = *reinterpret_cast<const float4*>(dots + row * ld + at);
        const float4 value = values(dot, factor[row], square, columns, at);
        const float4 e = exponentials(biased(value, scale, bias, at), top[row]);
        const float part[4] = {root * e.x, root * e.y, root * e.z, root * e.w};
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const Half bits = to_half(part[c]);
            v[slot * ld + at + c] = bits;
            u[slot * ld + at + c] = bits ^ sign;
        }
    }
}

// total (size,) += part (size,)
extern "C" __global__ void __launch_bounds__(256) add(const float* part, double* total, long long size) {
    for (long long at = blockIdx.x * 256LL + threadIdx.x; at < size; at += gridDim.x * 256LL) total[at] += part[at];
}

// z (ld, ld) becomes scale (z + z'). Grid: tiles of 32 x 32, those on and above the diagonal do both halves.
extern "C" __global__ void __launch_bounds__(1024) mirror(double* z, long long ld, double scale) {
    __shared__ double upper[32][33], lower[32][33];
    if (blockIdx.x < blockIdx.y) return;
    const int c = threadIdx.x % 32, r = threadIdx.x / 32;
    const long long row = blockIdx.y * 32LL + r, column = blockIdx.x * 32LL + c;
    const long long row_below = blockIdx.x * 32LL + r, column_below = blockIdx.y * 32LL + c;
    if (row < ld && column < ld) upper[r][c] = z[row * ld + column];
    if (row_below < ld && column_below < ld) lower[r][c] = z[row_below * ld + column_below];
    __syncthreads();
    if (row < ld && column < ld) z[row * ld + column] = scale * (upper[r][c] + lower[c][r]);
    if (row_below < ld && column_below < ld) z[row_below * ld + column_below] = scale * (lower[r][c] + upper[c][r]);
}
