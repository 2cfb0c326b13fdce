// The runtime: a block's threads as fibers, their meetings, and what ends a launch.
//
// A fiber runs until it waits. When no fiber can run and not all have returned, the block has diverged: some threads
// wait where others will never come, which on a device hangs or worse. Threads run in the order of a permutation, so
// that a result which depends on the order, for want of a barrier, changes with it.
//
// Switching is setjmp and longjmp, without a system call; makecontext only lays out the stacks.

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

struct Fiber {
    jmp_buf at;
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

std::vector<Fiber> fibers;
char* stacks = nullptr;
size_t stack_count = 0;
Fiber* me = nullptr;
Launch launch;
jmp_buf scheduler;
sigjmp_buf bail;
std::string message;
unsigned arrived;
uint64_t barrier_sum;

void back_to_scheduler() {
    if (_setjmp(me->at) == 0) _longjmp(scheduler, 1);
}

void live() {
    for (;;) {
        launch.kernel->run(launch.arguments);
        me->state = State::returned;
        back_to_scheduler();
    }
}

void run(Fiber& fiber) {
    if (_setjmp(scheduler) != 0) return;
    me = &fiber;
    if (fiber.started) _longjmp(fiber.at, 1);
    fiber.started = true;
    setcontext(&fiber.first);
}

// Stacks lie one after another, each with a page below it that must not be touched.
void make_fibers(unsigned count) {
    if (stack_count < count) {
        if (stacks) munmap(stacks, stack_count * STACK);
        stacks = static_cast<char*>(
            mmap(nullptr, count * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        stack_count = count;
        for (unsigned i = 0; i < count; i++) mprotect(stacks + i * STACK, PAGE, PROT_NONE);
    }
    fibers = std::vector<Fiber>(count);
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        getcontext(&fiber.first);
        fiber.first.uc_stack.ss_sp = stacks + i * STACK;
        fiber.first.uc_stack.ss_size = STACK;
        fiber.first.uc_link = nullptr;
        makecontext(&fiber.first, live, 0);
        const dim3& size = launch.block;
        fiber.thread = i;
        fiber.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    }
}

bool same(const Site& a, const Site& b) {
    return a.line == b.line && strcmp(a.name, b.name) == 0 && strcmp(a.file, b.file) == 0;
}

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
    for (unsigned first = 0, last; first < fibers.size(); first = last) {
        const std::string what = describe(fibers[first]);
        for (last = first + 1; last < fibers.size() && describe(fibers[last]) == what;) last++;
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

void run_block(const std::vector<unsigned>& order) {
    arrived = 0;
    barrier_sum = 0;
    memory_starts_block();
    for (Fiber& fiber : fibers) fiber.state = State::ready;
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
    if (threads > most) fail("%s is launched on %u threads a block; at most %u are allowed", kernel.name, threads, most);
    if (launch.grid.y > 65535 || launch.grid.z > 65535 || launch.grid.x > 0x7fffffffu)
        fail("%s is launched on a grid of %u x %u x %u; y and z end at 65535", kernel.name, launch.grid.x,
             launch.grid.y, launch.grid.z);
    if (shared > 227u << 10) fail("%s is launched with %u bytes of shared memory; at most 232448 are to be had", kernel.name, shared);
}

void on_signal(int number, siginfo_t* info, void*) {
    if (number == SIGFPE) fail("an integer is divided by zero");
    fail("an access to %p, which is nobody's memory%s", info->si_addr,
         me && info->si_addr >= stacks && info->si_addr < stacks + stack_count * STACK ? ": a thread's stack is full" : "");
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
        run_block(threads);
    }
}

}  // namespace

uint3 thread_index() { return me->index; }
uint3 block_index() { return launch.here; }
dim3 block_size() { return launch.block; }
dim3 grid_size() { return launch.grid; }
unsigned lane() { return me->thread % 32; }
unsigned thread_number() { return me->thread; }
bool on_a_stack(const void* at) { return at >= stacks && at < stacks + stack_count * STACK; }

unsigned block_number() {
    const uint3& at = launch.here;
    return at.x + launch.grid.x * (at.y + launch.grid.y * at.z);
}

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
        for (const Fiber& fiber : fibers)
            if (!same(fiber.site, site)) fail_diverged();
        for (Fiber& fiber : fibers) {
            fiber.state = State::ready;
            fiber.answer = barrier_sum;
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
    if (!(mask >> lane() & 1)) fail("%s (%s:%d): lane %u is not in its own mask %08x", site.name, site.file, site.line, lane(), mask);
    const unsigned size = launch.threads - me->thread / 32 * 32;
    if (size < 32 && mask >> size) fail("%s (%s:%d): mask %08x names lanes that the block of %u threads lacks", site.name, site.file, site.line, mask, launch.threads);
    me->site = site;
    me->mask = mask;
    me->word = word;
    me->argument = argument;
    me->combine = combine;
    me->state = State::with_warp;
    uint64_t words[32] = {};
    bool complete = true;
    for (unsigned i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        complete = complete && warp[i].state == State::with_warp && warp[i].mask == mask && same(warp[i].site, site);
        words[i] = warp[i].word;
    }
    for (unsigned i = 0; complete && i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        warp[i].answer = warp[i].combine(words, mask, i, warp[i].argument);
        warp[i].state = State::ready;
    }
    if (complete && ordered) memory_orders_warp(me->thread / 32);
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
    memory_ends();
    return message.empty() ? nullptr : message.c_str();
}
