// From a row's statistics to all that it yields; and the column sums of strips to q.

#ifndef GAPSEL_ROWS_CUH
#define GAPSEL_ROWS_CUH

#include "numbers.cuh"
#include "settings.cuh"

constexpr int GROUP = 32;     // rows of a float32 column sum; 64 would halve the partial sums' traffic, 6 % of the strip's
constexpr int SEGMENT = 16;   // groups of a float64 partial sum
constexpr int ROW_BLOCK = 256;

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

#endif
