// The runtime: a block's threads as fibers, their meetings, and what ends a launch.
//
// A fiber runs until it waits. When no fiber can run and not all have returned, the block has diverged: some threads
// wait where others will never come, which on a device hangs or worse. Threads run in the order of a permutation, so
// that a result which depends on the order, for want of a barrier, changes with it.
//
// Switching is the compiler's own setjmp and longjmp, which keep a stack and a place and nothing else; makecontext only
// lays out the stacks.

#include "runtime.h"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace cuda_emulator {
namespace {

constexpr size_t STACK = 128 << 10, PAGE = 4096;

enum class State { ready, at_barrier, with_warp, returned };

using Place = void* [5];  // as the compiler's setjmp has it

struct Fiber {
    Place at;
    ucontext_t first;
    bool started = false;
    State state = State::ready;
    uint3 index;
    unsigned thread = 0;  // its number in the block
    Site site{};
    unsigned mask = 0, argument = 0;
    uint64_t word = 0, answer = 0;
    Combine combine = nullptr;
};

struct Launch {
    const EmulatedKernel* kernel;
    void** arguments;
    dim3 grid, block;
    unsigned threads;
    uint3 here;  // the block that runs
};

std::vector<Fiber> fibers;  // the first launch.threads of them are the block's
bool whole = true;          // no launch has failed since they were made
Fiber* me = nullptr;
Launch launch;
Place scheduler;
unsigned waiting[32];  // for each warp, the lanes that wait with it
sigjmp_buf bail;
std::string message;
unsigned arrived;
uint64_t barrier_sum;

// A function may not jump to a place of its own.
[[noreturn, gnu::noinline]] void jump(Place& to) { __builtin_longjmp(to, 1); }

[[gnu::noinline]] void back_to_scheduler() {
    if (__builtin_setjmp(me->at) == 0) jump(scheduler);
}

void live() {
    for (;;) {
        launch.kernel->run(launch.arguments);
        me->state = State::returned;
        back_to_scheduler();
    }
}

[[noreturn, gnu::noinline]] void enter(Fiber& fiber) {
    me = &fiber;
    now.thread = fiber.thread;
    if (fiber.started) jump(fiber.at);
    fiber.started = true;
    setcontext(&fiber.first);
    __builtin_unreachable();
}

[[gnu::noinline]] void run(Fiber& fiber) {
    if (__builtin_setjmp(scheduler) == 0) enter(fiber);
}

// Stacks lie one after another, each with a page below it that must not be touched.
void make_stacks(size_t count) {
    if (now.stacks) munmap(now.stacks, static_cast<size_t>(now.end_of_stacks - now.stacks));
    now.stacks = static_cast<char*>(
        mmap(nullptr, count * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    now.end_of_stacks = now.stacks + count * STACK;
    for (size_t i = 0; i < count; i++) mprotect(now.stacks + i * STACK, PAGE, PROT_NONE);
}

// Fibers that ran to their end wait for the next launch; those of a launch that failed are somewhere within a kernel.
void make_fibers(unsigned count) {
    if (fibers.size() < count || !whole) {
        make_stacks(count);
        fibers = std::vector<Fiber>(count);
        for (unsigned i = 0; i < count; i++) {
            ucontext_t& first = fibers[i].first;
            getcontext(&first);
            first.uc_stack.ss_sp = now.stacks + i * STACK;
            first.uc_stack.ss_size = STACK;
            first.uc_link = nullptr;
            makecontext(&first, live, 0);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        const dim3& size = launch.block;
        fibers[i].thread = i;
        fibers[i].index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    }
}

bool same(const char* a, const char* b) { return a == b || strcmp(a, b) == 0; }

bool same(const Site& a, const Site& b) { return a.line == b.line && same(a.name, b.name) && same(a.file, b.file); }

std::string describe(const Fiber& fiber) {
    if (fiber.state == State::returned) return "have returned";
    std::string text = std::string("wait at ") + fiber.site.name;
    if (fiber.state == State::with_warp) {
        char mask[32];
        snprintf(mask, sizeof mask, " with mask %08x", fiber.mask);
        text += mask;
    }
    return text + " (" + fiber.site.file + ":" + std::to_string(fiber.site.line) + ")";
}

[[noreturn]] void fail_diverged() {
    std::string text;
    for (unsigned first = 0, last; first < launch.threads; first = last) {
        const std::string what = describe(fibers[first]);
        for (last = first + 1; last < launch.threads && describe(fibers[last]) == what;) last++;
        text += "; threads " + std::to_string(first) + "-" + std::to_string(last - 1) + " " + what;
    }
    fail("the block has diverged%s", text.c_str());
}

// A permutation of 0 .. count-1: as it is, backwards, or shuffled from a seed.
std::vector<unsigned> permutation(unsigned count, int order) {
    std::vector<unsigned> out(count);
    for (unsigned i = 0; i < count; i++) out[i] = order < 0 ? count - 1 - i : i;
    uint64_t state = 0x9E3779B97F4A7C15ull * static_cast<uint64_t>(order);
    for (unsigned i = count; order > 0 && i > 1; i--) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        std::swap(out[i - 1], out[(state >> 33) % i]);
    }
    return out;
}

bool all_are_here(const Fiber* warp, const Fiber& last) {
    if (last.mask & ~waiting[last.thread / 32]) return false;
    for (unsigned left = last.mask; left; left &= left - 1) {
        const Fiber& fiber = warp[__builtin_ctz(left)];
        if (fiber.mask != last.mask || !same(fiber.site, last.site)) return false;
    }
    return true;
}

void answer_all(Fiber* warp, unsigned mask) {
    uint64_t words[32];
    for (unsigned i = 0; i < 32; i++) words[i] = mask >> i & 1 ? warp[i].word : 0;
    for (unsigned left = mask; left; left &= left - 1) {
        const auto i = static_cast<unsigned>(__builtin_ctz(left));
        warp[i].answer = warp[i].combine(words, mask, i, warp[i].argument);
        warp[i].state = State::ready;
    }
    waiting[warp->thread / 32] &= ~mask;
}

void run_block(const std::vector<unsigned>& order) {
    arrived = 0;
    barrier_sum = 0;
    memset(waiting, 0, sizeof waiting);
    memory_starts_block();
    for (unsigned i = 0; i < launch.threads; i++) fibers[i].state = State::ready;
    for (unsigned left = launch.threads; left > 0;) {
        bool moved = false;
        for (const unsigned i : order) {
            if (fibers[i].state != State::ready) continue;
            moved = true;
            run(fibers[i]);
            left -= fibers[i].state == State::returned;
        }
        if (!moved) fail_diverged();
    }
    me = nullptr;
}

void check(unsigned shared) {
    const EmulatedKernel& kernel = *launch.kernel;
    const unsigned threads = launch.threads, most = kernel.most_threads ? unsigned(kernel.most_threads) : 1024;
    if (threads == 0 || launch.grid.x == 0 || launch.grid.y == 0 || launch.grid.z == 0)
        fail("%s is launched on an empty grid or block", kernel.name);
    if (threads > most)
        fail("%s is launched on %u threads a block; at most %u are allowed", kernel.name, threads, most);
    if (launch.grid.y > 65535 || launch.grid.z > 65535 || launch.grid.x > 0x7fffffffu)
        fail("%s is launched on a grid of %u x %u x %u; y and z end at 65535", kernel.name, launch.grid.x,
             launch.grid.y, launch.grid.z);
    if (shared > 227u << 10)
        fail("%s is launched with %u bytes of shared memory; at most 232448 are to be had", kernel.name, shared);
}

void on_signal(int number, siginfo_t* info, void*) {
    if (number == SIGFPE) fail("an integer is divided by zero");
    fail("an access to %p, which is nobody's memory%s", info->si_addr,
         info->si_addr >= now.stacks && info->si_addr < now.end_of_stacks ? ": a thread's stack is full" : "");
}

// Faults of the kernel end the launch and not the process.
class Signals {
  public:
    Signals() {
        stack_t mine{};
        mine.ss_sp = place;
        mine.ss_size = sizeof place;
        sigaltstack(&mine, &stack_before);
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for (int i = 0; i < 3; i++) sigaction(numbers[i], &action, &before[i]);
    }
    ~Signals() {
        for (int i = 0; i < 3; i++) sigaction(numbers[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }

  private:
    static constexpr int numbers[3] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction before[3];
    stack_t stack_before;
    char place[64 << 10];
};

void run_grid(int order) {
    const dim3& grid = launch.grid;
    const std::vector<unsigned> threads = permutation(launch.threads, order);
    for (const unsigned block : permutation(grid.x * grid.y * grid.z, order)) {
        launch.here = {block % grid.x, block / grid.x % grid.y, block / (grid.x * grid.y)};
        now.block = block;
        run_block(threads);
    }
}

}  // namespace

Now now{};

uint3 thread_index() { return me->index; }
uint3 block_index() { return launch.here; }
dim3 block_size() { return launch.block; }
dim3 grid_size() { return launch.grid; }
unsigned lane() { return me->thread % 32; }
void fail(const char* format, ...) {
    char text[4096];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    message = text;
    if (me) {
        const uint3 &b = launch.here, &t = me->index;
        snprintf(text, sizeof text, "%s, block (%u, %u, %u), thread (%u, %u, %u): ", launch.kernel->name, b.x, b.y, b.z,
                 t.x, t.y, t.z);
        message = text + message;
    }
    siglongjmp(bail, 1);
}

uint64_t meet_block(Site site, uint64_t word) {
    me->site = site;
    me->state = State::at_barrier;
    barrier_sum += word;
    if (++arrived == launch.threads) {
        for (unsigned i = 0; i < launch.threads; i++)
            if (!same(fibers[i].site, site)) fail_diverged();
        for (unsigned i = 0; i < launch.threads; i++) {
            fibers[i].state = State::ready;
            fibers[i].answer = barrier_sum;
        }
        arrived = 0;
        barrier_sum = 0;
        memory_orders_block();
    }
    back_to_scheduler();
    return me->answer;
}

uint64_t meet_warp(Site site, unsigned mask, uint64_t word, unsigned argument, Combine combine, bool ordered) {
    Fiber* const warp = &fibers[me->thread / 32 * 32];
    const unsigned size = launch.threads - me->thread / 32 * 32;
    const char* wrong = !(mask >> lane() & 1)     ? "does not name the lane itself"
                        : size < 32 && mask >> size ? "names lanes that the block lacks"
                                                    : nullptr;
    if (wrong) fail("%s (%s:%d): mask %08x %s", site.name, site.file, site.line, mask, wrong);
    me->site = site;
    me->mask = mask;
    me->word = word;
    me->argument = argument;
    me->combine = combine;
    me->state = State::with_warp;
    waiting[me->thread / 32] |= 1u << lane();
    if (all_are_here(warp, *me)) {
        answer_all(warp, mask);
        if (ordered) memory_orders_warp(me->thread / 32);
    }
    back_to_scheduler();
    return me->answer;
}

}  // namespace cuda_emulator

using namespace cuda_emulator;

// Run a kernel; returns null, or what went wrong. `order` is 0 for threads and blocks in their order, -1 for backwards,
// else the seed of a shuffle.
extern "C" const char* emulator_launch(const EmulatedKernel* kernel, void** arguments, const unsigned* grid,
                                       const unsigned* block, unsigned shared, int order, const Region* regions,
                                       int region_count) {
    Signals signals;
    message.clear();
    if (sigsetjmp(bail, 1) == 0) {
        launch = {kernel, arguments, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]},
                  block[0] * block[1] * block[2], {0, 0, 0}};
        check(shared);
        make_fibers(launch.threads);
        memory_starts(regions, region_count, shared, grid[0] * grid[1] * grid[2]);
        run_grid(order);
    }
    me = nullptr;
    whole = message.empty();
    memory_ends();
    return message.empty() ? nullptr : message.c_str();
}
