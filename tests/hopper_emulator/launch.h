// After the kernel's source: the launch, and the few functions of libcuda that the package calls, which run it here.
//
// They hold the package to what the driver's manual asks of tensor maps and launches.

#pragma once

namespace emulated {

inline const Sweep* argument;
inline unsigned seed;

inline bool all_done() {
    for (const Fiber& fiber : fibers)
        if (!fiber.done) return false;
    return true;
}

inline void start_cluster() {
    make_fibers();
    barriers.clear();
    copies.clear();
    named.clear();
    memset(shared_memory, 0xff, sizeof shared_memory);
    memset(registers_of_block, 0, sizeof registers_of_block);
    memset(opened, 0, sizeof opened);
    unfenced = false;
    for (auto& groups : unfinished) groups.clear();
}

inline void run_cluster() {
    start_cluster();
    while (!all_done()) {
        const uint64_t before = moves;
        run_copies(false);
        run_round(false);
        if (moves != before) continue;
        run_copies(true);
        run_round(true);
        if (moves == before) fail_stuck();
    }
    if (!copies.empty()) fail("the cluster ends before its copies have landed");
}

// Cluster by cluster, with the turns and delays of the seed.
inline bool run_grid(const Sweep* sweep, unsigned blocks) {
    argument = sweep;
    entry = [] { sweep_sm90(*argument); };
    message.clear();
    dice.state = seed;
    all_clusters = blocks / blocks_of_cluster;
    if (_setjmp(end_of_launch) == 0)
        for (this_cluster = 0; this_cluster < all_clusters; this_cluster++) run_cluster();
    me = nullptr;
    return message.empty();
}

inline int refuse(const char* why) {
    message = why;
    return 1;
}

}  // namespace emulated

extern "C" {

void emulator_seed(unsigned seed) { emulated::seed = seed; }
const char* emulator_message() { return emulated::message.c_str(); }

#define FIELD(name) offsetof(Sweep, name)
extern const size_t emulator_layout[] = {
    FIELD(x), FIELD(y), FIELD(factor), FIELD(square_of_row), FIELD(bias), FIELD(hard), FIELD(lo), FIELD(hi), FIELD(price),
    FIELD(top), FIELD(total), FIELD(moment), FIELD(peak), FIELD(nearest), FIELD(q), FIELD(strips), FIELD(scale), FIELD(constant),
    FIELD(of_square), FIELD(shift), FIELD(unit), FIELD(lo_of_all), FIELD(hi_of_all), FIELD(price_of_all), FIELD(eta),
    FIELD(mass_unit), FIELD(q_unit), FIELD(n), FIELD(m), FIELD(steps), FIELD(products), FIELD(plane_of_x), FIELD(plane_of_y), sizeof(Sweep)};
#undef FIELD

// libcuda

int cuInit(unsigned) { return 0; }

int cuGetErrorString(int, const char** text) {
    *text = emulated::message.c_str();
    return 0;
}

int cuModuleLoadData(void** module, const void* image) {
    *module = const_cast<void*>(image);
    return memcmp(image, "\177ELF", 4) ? emulated::refuse("this is no cubin") : 0;
}

int cuModuleGetFunction(void** function, void*, const char* name) {
    *function = reinterpret_cast<void*>(&sweep_sm90);
    return strcmp(name, "sweep_sm90") ? emulated::refuse("there is no such kernel") : 0;
}

int cuFuncGetAttribute(int* value, int attribute, void*) {
    constexpr int registers = 4;
    *value = registers_of_thread;
    return attribute == registers ? 0 : emulated::refuse("this attribute is not the number of registers");
}

int cuFuncSetAttribute(void*, int attribute, int value) {
    constexpr int most_dynamic_shared = 8;
    return attribute == most_dynamic_shared && value <= 232448 ? 0 : emulated::refuse("shared memory cannot be set so");
}

int cuTensorMapEncodeTiled(
    TensorMap* map, int type, unsigned rank, void* start, const u64* size, const u64* stride, const unsigned* box,
    const unsigned* step, int interleave, int swizzle, int promotion, int fill) {
    constexpr int float16 = 6, swizzle_128 = 3;
    if (reinterpret_cast<u64>(map) % 64 || reinterpret_cast<u64>(start) % 16) return emulated::refuse("an address is not aligned");
    if (type != float16 || rank != 3 || interleave || swizzle != swizzle_128 || promotion < 0 || promotion > 3 || fill)
        return emulated::refuse("the kernel needs another map");
    if (stride[0] % 16 || stride[1] % 16 || stride[0] >> 40 || stride[1] >> 40) return emulated::refuse("a stride does not fit");
    if (stride[0] < 2 * size[0] || stride[1] % stride[0]) return emulated::refuse("a stride is no multiple of the one before");
    for (unsigned i = 0; i < 3; i++)
        if (size[i] == 0 || size[i] > 1ull << 32 || box[i] == 0 || box[i] > 256 || step[i] != 1)
            return emulated::refuse("a size does not fit");
    if (box[0] * 2 != 128 || box[1] != 1) return emulated::refuse("a box's row is not 128 bytes");
    const emulated::Map ours{static_cast<const u16*>(start), size[0], size[1], size[2], stride[0], stride[1], box[0], box[2]};
    memcpy(map, &ours, sizeof ours);
    return 0;
}

int cuLaunchKernel(
    void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y, unsigned threads_z,
    unsigned shared, void*, void** arguments, void** extra) {
    if (function != reinterpret_cast<void*>(&sweep_sm90) || extra) return emulated::refuse("another kernel is launched");
    if (y != 1 || z != 1 || threads_y != 1 || threads_z != 1 || threads != emulated::threads_of_block || x % 2)
        return emulated::refuse("the grid or the block has another size");
    if (shared < sizeof(Shared) + 1024) return emulated::refuse("there is too little shared memory");
    alignas(64) Sweep sweep;
    memcpy(&sweep, arguments[0], sizeof sweep);
    return emulated::run_grid(&sweep, x) ? 0 : 1;
}

}  // extern "C"
