// The threads of one cluster as fibers that take turns, and their meetings.
//
// A fiber runs until it has to wait; then others get their turn, in an order drawn anew each round, and now and then a
// warp falls asleep for many rounds, so that anything may be early or late. When a whole round moves nothing, every
// thread waits for what will never come: the launch ends with a message that says who waits where.

#pragma once

#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace emulated {

constexpr unsigned threads_of_block = 384, blocks_of_cluster = 2, threads_of_cluster = 768, warp_size = 32, warps = 24;
constexpr size_t stack_size = 64 << 10, shared_size = 227 << 10;

[[noreturn]] inline void fail(const char* format, ...);

struct Random {
    uint64_t state = 0;
    uint32_t below(uint32_t count) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<uint32_t>(state >> 33) % count;
    }
};

// 32 lanes that have to come to the same place before any goes on.
struct Meeting {
    unsigned arrived = 0, count = 0;
    int line = 0;
    uint64_t brought[warp_size], taken[warp_size];
};

struct Fiber {
    jmp_buf at;
    ucontext_t first;
    bool started = false, done = false;
    unsigned number = 0;                // in the cluster
    bool (*ready)(void*) = nullptr;     // whether what it waits for has come
    void* of_ready = nullptr;
    const char* where = "has not begun";
    unsigned rank() const { return number / threads_of_block; }
    unsigned thread() const { return number % threads_of_block; }
    unsigned lane() const { return number % warp_size; }
};

inline Fiber fibers[threads_of_cluster];
inline Meeting meetings[warps];
inline unsigned asleep[warps];
inline char* stacks = nullptr;
inline Fiber* me = nullptr;
inline jmp_buf scheduler, end_of_launch;
inline Random dice;
inline uint64_t moves;  // whatever brings the launch nearer to its end counts
inline unsigned this_cluster, all_clusters;
inline std::string message;
inline void (*entry)();
// Shared memory is deliberately not at a multiple of 1024.
alignas(1024) inline char shared_memory[blocks_of_cluster][shared_size + 2048];
inline char* window(unsigned rank) { return shared_memory[rank] + 16; }

inline void fail(const char* format, ...) {
    char text[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    message = text;
    if (me) message = "block " + std::to_string(me->rank()) + ", thread " + std::to_string(me->thread()) + ": " + message;
    _longjmp(end_of_launch, 1);
}

inline void yield(const char* where) {
    me->where = where;
    if (_setjmp(me->at) == 0) _longjmp(scheduler, 1);
}

template <typename Ready>
void wait_until(const char* where, Ready ready) {
    if (ready()) return;
    me->ready = [](void* ready) { return (*static_cast<Ready*>(ready))(); };
    me->of_ready = &ready;
    yield(where);
    me->ready = nullptr;
}

inline void live() {
    entry();
    me->done = true;
    moves++;
    yield("has returned");
}

inline void make_fibers() {
    if (!stacks)
        stacks = static_cast<char*>(mmap(
            nullptr, threads_of_cluster * stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (unsigned i = 0; i < threads_of_cluster; i++) {
        fibers[i] = Fiber();
        fibers[i].number = i;
        getcontext(&fibers[i].first);
        fibers[i].first.uc_stack.ss_sp = stacks + i * stack_size;
        fibers[i].first.uc_stack.ss_size = stack_size;
        makecontext(&fibers[i].first, live, 0);
    }
    for (Meeting& meeting : meetings) meeting = Meeting();
    memset(asleep, 0, sizeof asleep);
}

inline void run(Fiber& fiber) {
    if (_setjmp(scheduler) != 0) return;
    me = &fiber;
    if (fiber.started) _longjmp(fiber.at, 1);
    fiber.started = true;
    setcontext(&fiber.first);
}

[[noreturn]] inline void fail_stuck() {
    me = nullptr;
    std::map<std::string, unsigned> where;
    for (const Fiber& fiber : fibers)
        where["block " + std::to_string(fiber.rank()) + " warp " + std::to_string(fiber.thread() / warp_size) + " " + fiber.where]++;
    std::string text;
    for (const auto& [place, count] : where) text += "; " + place + " (" + std::to_string(count) + ")";
    fail("nothing moves any more%s", text.c_str());
}

// One turn for each warp, or for each that is awake.
inline void run_round(bool everyone) {
    const unsigned first = dice.below(warps), stride = 5 + 2 * dice.below(2);  // neither has a factor in common with 24
    for (unsigned i = 0; i < warps; i++) {
        const unsigned warp = (first + i * stride) % warps;
        if (dice.below(100) == 0) asleep[warp] = dice.below(200);
        if (asleep[warp] > 0) asleep[warp]--;
        if (asleep[warp] > 0 && !everyone) continue;
        for (unsigned lane = 0; lane < warp_size; lane++) {
            me = &fibers[warp * warp_size + lane];
            if (!me->done && (!me->ready || me->ready(me->of_ready))) run(*me);
        }
    }
    me = nullptr;
}

// What a lane brings; what all lanes have brought comes back when the last is here.
inline const uint64_t* meet(uint64_t word, int line) {
    Meeting& meeting = meetings[me->number / warp_size];
    if (meeting.arrived > 0 && meeting.line != line)
        fail("a warp meets in lines %d and %d", meeting.line, line);
    meeting.line = line;
    meeting.brought[me->lane()] = word;
    const unsigned count = meeting.count;
    if (++meeting.arrived == warp_size) {
        memcpy(meeting.taken, meeting.brought, sizeof meeting.taken);
        meeting.arrived = 0;
        meeting.count++;
        moves++;
    }
    wait_until("meets its warp", [&] { return meeting.count != count; });
    return meeting.taken;
}

}  // namespace emulated
