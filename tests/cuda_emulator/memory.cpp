// Every load and store of a kernel, as g++ -fsanitize=thread and -fsanitize=undefined report them: is it inside an
// array that was passed, and is it a race?
//
// For each element of an array, or two bytes of shared memory, the last write and the last reads are kept. Two accesses
// of one block are in order if a __syncthreads lies between them, or, in one warp, a __syncwarp; accesses of different
// blocks are in order if the first block has passed a __threadfence since. If they are not, and one of them writes, and
// not both are atomic, then it is a race. (A __threadfence alone orders nothing on a device: that an atomic follows it
// is taken on trust.)

#include "runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace cuda_emulator {
namespace {

// As Python says them. What a kernel's own arguments call const cannot be written, so nobody races for it.
enum Kind { WRITABLE, CONSTANT, IMAGE, SHARED };
enum class Access { read, write, atomic };

constexpr size_t MOST_SHARED = 227 << 10;
constexpr int POISON = 0xff;  // a NaN, or -1

// Who touched a word last: one thread, several of a warp, or several of a block.
struct Touch {
    unsigned block = 0, epoch = 0, warp_epoch = 0;
    unsigned short thread = 0;
    unsigned char several : 7, atomic : 1, bytes = 0;  // bytes: a bit for each
};

struct Cell {
    Touch write, read;
};

struct Place {
    Region region;
    int argument;
    Cell* cells = nullptr;
};

alignas(1024) char dynamic[MOST_SHARED];
std::vector<Place> places;
Place* last_place = nullptr;
bool overlapping = false;  // the same memory is in two places: the first counts
unsigned epoch = 0, first_epoch = 0;  // never set back: what was touched before first_epoch is of another launch
unsigned warp_epochs[32];
std::vector<unsigned> fenced;  // for each block, the epoch after its last __threadfence
const char* caller = nullptr;

[[noreturn]] void fail_outside(const char* at, size_t size, Access access) {
    const char* nearest = "";
    long distance = -1;
    int argument = -1;
    for (const Place& place : places) {
        if (place.region.kind == IMAGE) continue;
        const char *start = place.region.start, *end = start + place.region.size;
        const long off = at >= end ? at - end : at + size > end && at >= start ? 0 : start - at;
        if (off < 0 || (distance >= 0 && off >= distance)) continue;
        distance = off;
        argument = place.argument;
        nearest = at >= start ? "past the end of" : "before the start of";
    }
    const char* verb = access == Access::read ? "reads" : "writes";
    if (distance < 0) fail("%s %zu bytes at %p, outside every array [pc %p]", verb, size, at, caller);
    char whose[32] = "shared memory";
    if (argument >= 0) snprintf(whose, sizeof whose, "argument %d", argument);
    fail("%s %zu bytes outside every array, %ld %s %s [pc %p]", verb, size, distance, nearest, whose, caller);
}

Place& place_of(const char* at, size_t size, Access access) {
    const auto holds = [=](const Place& place) {
        return at >= place.region.start && at + size <= place.region.start + place.region.size;
    };
    if (last_place && !overlapping && holds(*last_place)) return *last_place;
    for (Place& place : places)
        if (holds(place)) return *(last_place = &place);
    fail_outside(at, size, access);
}

// Which bytes of [word_at, word_at + word) lie in [first, end), a bit for each.
unsigned char bytes_of(size_t first, size_t end, size_t word_at, size_t word) {
    const size_t from = first > word_at ? first - word_at : 0, to = end < word_at + word ? end - word_at : word;
    return static_cast<unsigned char>((1u << to) - (1u << from));
}

bool in_order(const Touch& before, bool shared) {
    if (before.bytes == 0 || before.epoch < first_epoch) return true;
    if (before.block != now.block) return shared || fenced[before.block] > before.epoch;
    if (before.epoch < epoch) return true;
    if (before.several == 2) return false;
    if (before.several == 0 && before.thread == now.thread) return true;
    const unsigned warp = now.thread / 32;
    return before.thread / 32u == warp && before.warp_epoch < warp_epochs[warp];
}

[[noreturn]] void fail_race(const Place& place, const char* at, const Touch& before, const char* was, Access access) {
    char name[64];
    if (place.region.kind == SHARED) snprintf(name, sizeof name, "shared memory");
    else snprintf(name, sizeof name, "argument %d", place.argument);
    const char* verb = access == Access::read ? "reads" : access == Access::write ? "writes" : "atomically changes";
    fail("a race: %s byte %ld of %s, which thread %u of block %u %s, with nothing to order the two [pc %p]", verb,
         long(at - place.region.start), name, before.thread, before.block, was, caller);
}

void remember(Touch& touch, unsigned char bytes, bool atomic) {
    const unsigned thread = now.thread, warp = thread / 32;
    // Of parts of an element side by side the later is remembered: a race may be missed so, none is made up.
    const bool again = touch.bytes & bytes && touch.block == now.block && touch.epoch == epoch;
    unsigned char several = 0;
    if (again && touch.thread / 32u != warp) several = 2;
    else if (again && (touch.thread != thread || touch.several)) several = touch.several > 1 ? touch.several : 1;
    touch.atomic = atomic && (!again || touch.atomic);
    touch.bytes = static_cast<unsigned char>(again ? touch.bytes & bytes : bytes);
    touch.several = several & 3;
    touch.thread = static_cast<unsigned short>(thread);
    touch.block = now.block, touch.epoch = epoch, touch.warp_epoch = warp_epochs[warp];
}

void check_race(Place& place, const char* at, size_t size, Access access) {
    const bool shared = place.region.kind == SHARED;
    const auto first = reinterpret_cast<size_t>(at), end = first + size;
    const auto size_of_word = static_cast<size_t>(place.region.word);
    const auto base = reinterpret_cast<size_t>(place.region.start) / size_of_word;
    for (size_t word = first / size_of_word; word * size_of_word < end; word++) {
        Cell& cell = place.cells[word - base];
        const unsigned char bytes = bytes_of(first, end, word * size_of_word, size_of_word);
        const bool both_atomic = access == Access::atomic && cell.write.atomic;
        if (cell.write.bytes & bytes && !both_atomic && !in_order(cell.write, shared))
            fail_race(place, at, cell.write, cell.write.atomic ? "atomically changed" : "wrote", access);
        if (access != Access::read && cell.read.bytes & bytes && !in_order(cell.read, shared))
            fail_race(place, at, cell.read, "read", access);
        remember(access == Access::read ? cell.read : cell.write, bytes, access == Access::atomic);
    }
}

void touch(const void* address, size_t size, Access access) {
    const char* at = static_cast<const char*>(address);
    if (at >= now.stacks && at < now.end_of_stacks) return;
    Place& place = place_of(at, size, access);
    if (place.region.kind == IMAGE) return;
    if (place.region.kind == CONSTANT && access != Access::read)
        fail("writes byte %ld of argument %d, which is read-only [pc %p]", long(at - place.region.start),
             place.argument, caller);
    if (place.region.kind != CONSTANT) check_race(place, at, size, access);
}

size_t cells_of(const Region& region) {
    return region.kind == WRITABLE || region.kind == SHARED ? region.size / static_cast<size_t>(region.word) + 2 : 0;
}

// Cells are taken from memory that is kept, and need not be zeroed again; memory for many is not kept.
Cell* kept_cells = nullptr;
size_t kept_count = 0;
constexpr size_t MOST_KEPT = (512 << 20) / sizeof(Cell);

void give_cells() {
    size_t count = 0;
    for (const Place& place : places) count += cells_of(place.region);
    if (count > kept_count) {
        free(kept_cells);
        kept_cells = static_cast<Cell*>(calloc(kept_count = count, sizeof(Cell)));
    }
    Cell* next = kept_cells;
    for (Place& place : places) {
        place.cells = next;
        next += cells_of(place.region);
    }
}

}  // namespace

void* dynamic_shared() { return dynamic; }

void touch_atomically(const void* at, size_t size) {
    caller = static_cast<const char*>(__builtin_return_address(0));
    touch(at, size, Access::atomic);
}

void fence() { fenced[now.block] = epoch + 1; }

void memory_starts(const Region* regions, int count, unsigned shared, unsigned blocks) {
    for (int i = 0; i < count; i++) places.push_back({regions[i], regions[i].kind == SHARED ? -1 : i});
    places.push_back({{dynamic, shared, SHARED, 2}, -1});
    give_cells();
    // An array that is passed twice, once to be written, is what the other says.
    std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
        return (a.region.kind == WRITABLE) > (b.region.kind == WRITABLE);
    });
    overlapping = false;
    for (const Place& a : places)
        for (const Place& b : places)
            overlapping |= &a != &b && a.region.start < b.region.start + b.region.size &&
                           b.region.start < a.region.start + a.region.size;
    fenced.assign(blocks, 0);
    first_epoch = ++epoch;
}

void memory_starts_block() {
    ++epoch;
    memset(warp_epochs, 0, sizeof warp_epochs);
    for (const Place& place : places)
        if (place.region.kind == SHARED) memset(place.region.start, POISON, place.region.size);
}

void memory_orders_block() { ++epoch; }
void memory_orders_warp(unsigned warp) { ++warp_epochs[warp]; }

void memory_ends() {
    places.clear();
    last_place = nullptr;
    if (kept_count > MOST_KEPT) {
        free(kept_cells);
        kept_cells = nullptr;
        kept_count = 0;
    }
}

}  // namespace cuda_emulator

// What g++ calls.

using namespace cuda_emulator;

#define HOOK(name, bytes, access)                                                                                      \
    extern "C" void name(void* at) {                                                                                   \
        caller = static_cast<const char*>(__builtin_return_address(0));                                                \
        touch(at, bytes, Access::access);                                                                              \
    }
#define HOOKS(bytes)                                                                                                   \
    HOOK(__tsan_read##bytes, bytes, read)                                                                              \
    HOOK(__tsan_write##bytes, bytes, write)                                                                            \
    HOOK(__tsan_unaligned_read##bytes, bytes, read)                                                                    \
    HOOK(__tsan_unaligned_write##bytes, bytes, write)                                                                  \
    HOOK(__tsan_volatile_read##bytes, bytes, read)                                                                     \
    HOOK(__tsan_volatile_write##bytes, bytes, write)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

extern "C" void __tsan_read_range(void* at, size_t size) {
    caller = static_cast<const char*>(__builtin_return_address(0));
    touch(at, size, Access::read);
}
extern "C" void __tsan_write_range(void* at, size_t size) {
    caller = static_cast<const char*>(__builtin_return_address(0));
    touch(at, size, Access::write);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

struct UndefinedSite {
    const char* file;
    unsigned line, column;
};

#define UNDEFINED(name, what)                                                                                          \
    extern "C" void __ubsan_handle_##name(const UndefinedSite* site, ...) {                                            \
        fail("%s at %s:%u", what, site->file, site->line);                                                             \
    }
UNDEFINED(out_of_bounds, "an index outside its array")
UNDEFINED(shift_out_of_bounds, "a shift by more than the width, or of a negative number")
UNDEFINED(divrem_overflow, "an integer is divided by zero, or its quotient overflows")
UNDEFINED(add_overflow, "a signed sum overflows")
UNDEFINED(sub_overflow, "a signed difference overflows")
UNDEFINED(mul_overflow, "a signed product overflows")
UNDEFINED(negate_overflow, "a negation overflows")
UNDEFINED(type_mismatch_v1, "an access through a pointer that is null or not aligned for its type")
