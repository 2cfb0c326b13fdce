// What all rows share at one g, and the row rule.

#ifndef GAPSEL_SETTINGS_CUH
#define GAPSEL_SETTINGS_CUH

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

#endif
