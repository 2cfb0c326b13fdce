// The k best of a stream on a GPU: lowest value first, ties to the lower row, as rust/topk.rs.
//
// A value becomes a key: an unsigned integer of the same order, with one key for both zeros. Rows come in ascending
// order and what is kept of them stays in it, so ties need no comparison of rows: the first ones win.
//
//     push      of a piece of the stream, append what is below the bar                      count, scan, scatter
//     shrink    find the k-th lowest key digit by digit, then keep what is below it and as   histogram, choose (3 x);
//               many of its equals, the first ones, as make up k; the key is the new bar     count, scan, scatter
//     sorted    sort keys that carry their place in the low half, then fetch                 keys, fetch
//
// A tile is what one block reads; its warps read 32 values at a time, in the order of the stream, and votes say where
// each entry goes. Counts are integers: no order of threads changes a result.
//
// `state` is long long[5]: [0] the bar's key, [1] how many of its equals pass, [2] entries kept, [3] where to append,
// [4] the first row that is NaN. All integers are long long, so that a launcher needs no types.

constexpr int THREADS = 256, WARPS = THREADS / 32, ROUNDS = 16, TILE = THREADS * ROUNDS;
constexpr int DIGITS = 2048;
constexpr unsigned ALL = 0xffffffffu;

enum State { BAR, TIES, KEPT, START, BAD };

__device__ __forceinline__ unsigned key_of(float value) {
    const unsigned bits = __float_as_uint(value);
    if (bits == 0x80000000u) return 0x80000000u;  // -0 is 0
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ unsigned lanes_before() { return (1u << threadIdx.x % 32) - 1; }

// ---- which entries pass: below the bar, or among the first of its equals

// How many entries are below the bar and how many equal it: the upper and the lower half of one word.
typedef unsigned long long Counts;

__device__ __forceinline__ Counts counts_of(unsigned below, unsigned equal) { return (Counts)below << 32 | equal; }

__device__ __forceinline__ long long passing(Counts counts, long long ties) {
    const long long equal = (long long)(counts & 0xffffffffu);
    return (long long)(counts >> 32) + (equal < ties ? equal : ties);
}

// Where a warp's part of a tile begins.
__device__ __forceinline__ long long first_of_warp() {
    return blockIdx.x * (long long)TILE + threadIdx.x / 32 * (32LL * ROUNDS);
}

// tiles (blocks,): the counts of each tile of values (n,). first_row < 0: they have been looked at for NaNs.
extern "C" __global__ void __launch_bounds__(THREADS)
count(const float* __restrict__ values, long long n, long long first_row, long long* state, Counts* tiles) {
    __shared__ Counts warps[WARPS];
    const unsigned bar = (unsigned)state[BAR];
    const long long first = first_of_warp() + threadIdx.x % 32;
    float value[ROUNDS];
#pragma unroll
    for (int round = 0; round < ROUNDS; round++)
        value[round] = first + 32 * round < n ? values[first + 32 * round] : 0.0f;
    unsigned both = 0, bad = 0;  // of a warp, each count is at most 32 ROUNDS: 16 bits hold it
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        const unsigned key = key_of(value[round]);
        if (first + 32 * round < n) both += key < bar ? 1u << 16 : key == bar;
        bad |= (unsigned)(value[round] != value[round]) << round;
    }
    if (bad && first_row >= 0) atomicMin(state + BAD, first_row + first + 32 * (__ffs((int)bad) - 1));
    for (int bit = 16; bit; bit /= 2) both += __shfl_xor_sync(ALL, both, bit);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = counts_of(both >> 16, both & 0xffffu);
    __syncthreads();
    if (threadIdx.x) return;
    Counts sum = 0;
    for (int warp = 0; warp < WARPS; warp++) sum += warps[warp];
    tiles[blockIdx.x] = sum;
}

// The sum of the threads before this one, and of all; 1024 threads.
__device__ __forceinline__ Counts sum_before(Counts mine, Counts& all) {
    __shared__ Counts warps[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Counts running = mine;
    for (int by = 1; by < 32; by *= 2) {
        const Counts other = __shfl_up_sync(ALL, running, by);
        if (lane >= by) running += other;
    }
    if (lane == 31) warps[warp] = running;
    __syncthreads();
    Counts before = 0;
    all = 0;
    for (int i = 0; i < 32; i++) {
        if (i == warp) before = all;
        all += warps[i];
    }
    __syncthreads();
    return before + running - mine;
}

// tiles (many,) becomes the counts before each tile and, at the end, of all; entries go behind those kept, or to the
// start. One block.
extern "C" __global__ void __launch_bounds__(1024)
scan(Counts* tiles, long long many, long long append, long long* state) {
    Counts before = 0, all;
    for (long long first = 0; first < many; first += 1024) {
        const long long at = first + threadIdx.x;
        const Counts sum = before + sum_before(at < many ? tiles[at] : 0, all);
        if (at < many) tiles[at] = sum;
        before += all;
    }
    if (threadIdx.x) return;
    tiles[many] = before;
    state[START] = append ? state[KEPT] : 0;
    state[KEPT] = state[START] + passing(before, state[TIES]);
}

// Put the values (n,) that pass, and their rows, where they belong. rows (n,) may be null: they count from first_row.
extern "C" __global__ void __launch_bounds__(THREADS)
scatter(const float* __restrict__ values, const long long* __restrict__ rows, long long n, long long first_row,
        const long long* state, const Counts* tiles, float* out_values, long long* out_rows) {
    __shared__ Counts warps[WARPS];
    const long long ties = state[TIES];
    Counts before = tiles[blockIdx.x];
    if (passing(tiles[blockIdx.x + 1], ties) == passing(before, ties)) return;  // nothing of this tile
    const unsigned bar = (unsigned)state[BAR];
    const long long first = first_of_warp() + threadIdx.x % 32;
    float value[ROUNDS];
    unsigned below[ROUNDS], equal[ROUNDS], all_below = 0, all_equal = 0;
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        const long long i = first + 32 * round;
        value[round] = i < n ? values[i] : 0.0f;
        const unsigned key = key_of(value[round]);
        below[round] = __ballot_sync(ALL, i < n && key < bar);
        equal[round] = __ballot_sync(ALL, i < n && key == bar);
        all_below += __popc(below[round]), all_equal += __popc(equal[round]);
    }
    const int warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) warps[warp] = counts_of(all_below, all_equal);
    __syncthreads();
    for (int i = 0; i < warp; i++) before += warps[i];
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        const long long i = first + 32 * round;
        const unsigned lower = lanes_before();
        const Counts here = before + counts_of(__popc(below[round] & lower), __popc(equal[round] & lower));
        const bool is_below = below[round] >> threadIdx.x % 32 & 1, is_equal = equal[round] >> threadIdx.x % 32 & 1;
        if (is_below || (is_equal && (long long)(here & 0xffffffffu) < ties)) {
            const long long to = state[START] + passing(here, ties);
            out_values[to] = value[round];
            out_rows[to] = rows ? rows[i] : first_row + i;
        }
        before += counts_of(__popc(below[round]), __popc(equal[round]));
    }
}

// ---- the k-th lowest key

// digits (DIGITS,) += how often each digit occurs, of the keys that begin with the bar's digits so far.
//
// Neighbours often share a digit (the leading one is little but the exponent), so a thread adds runs, not entries.
extern "C" __global__ void __launch_bounds__(THREADS)
histogram(const float* __restrict__ values, long long n, long long shift, long long bits, const long long* state,
          unsigned* digits) {
    __shared__ unsigned found[DIGITS];
    for (int i = threadIdx.x; i < DIGITS; i += THREADS) found[i] = 0;
    __syncthreads();
    const unsigned begins = (unsigned)state[BAR], mask = (1u << bits) - 1;
    unsigned last = 0, run = 0;
    for (long long i = blockIdx.x * (long long)THREADS + threadIdx.x; i < n; i += gridDim.x * (long long)THREADS) {
        const unsigned key = key_of(values[i]), digit = key >> shift & mask;
        if ((unsigned long long)key >> (shift + bits) != begins) continue;
        if (digit != last && run) atomicAdd(found + last, run), run = 0;
        last = digit, run++;
    }
    if (run) atomicAdd(found + last, run);
    __syncthreads();
    for (int i = threadIdx.x; i < DIGITS; i += THREADS)
        if (found[i]) atomicAdd(digits + i, found[i]);
}

// Append to the bar the digit in which the TIES-th lowest key lies, and leave its rank among its equals in TIES;
// digits (DIGITS,) are zeroed. One block.
extern "C" __global__ void __launch_bounds__(1024) choose(unsigned* digits, long long bits, long long* state) {
    const int at = 2 * threadIdx.x;
    const unsigned low = digits[at], high = digits[at + 1];
    const long long begins = state[BAR], wanted = state[TIES];
    Counts all;
    const long long before = (long long)sum_before((Counts)low + high, all);
    digits[at] = digits[at + 1] = 0;
    const long long rank = wanted - before;
    if (rank < 1 || rank > (long long)low + high) return;
    state[BAR] = begins << bits | (rank <= low ? at : at + 1);
    state[TIES] = rank <= low ? rank : rank - low;
}

// ---- the order of the result

// out (n,): the keys of values (n,), above the place of each.
extern "C" __global__ void __launch_bounds__(THREADS) keys(const float* values, long long n, unsigned long long* out) {
    const long long i = blockIdx.x * (long long)THREADS + threadIdx.x;
    if (i < n) out[i] = (unsigned long long)key_of(values[i]) << 32 | (unsigned long long)i;
}

// out_values, out_rows (n,): values and rows in the order of sorted (n,), which are keys.
extern "C" __global__ void __launch_bounds__(THREADS)
fetch(const unsigned long long* sorted, const float* values, const long long* rows, long long n, float* out_values,
      long long* out_rows) {
    const long long i = blockIdx.x * (long long)THREADS + threadIdx.x;
    if (i >= n) return;
    const unsigned from = (unsigned)sorted[i];
    out_values[i] = values[from], out_rows[i] = rows[from];
}
