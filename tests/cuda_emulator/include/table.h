// The table of a source file's kernels, each with a caller that takes its arguments by address.

#pragma once

#include <utility>

namespace cuda_emulator {

template <auto kernel>
struct Entry;

template <typename... Arguments, void (*kernel)(Arguments...)>
struct Entry<kernel> {
    static constexpr int count = sizeof...(Arguments);
    static constexpr int sizes[count + 1] = {int(sizeof(Arguments))..., 0};
    static constexpr bool constant[count + 1] = {std::is_const_v<std::remove_pointer_t<Arguments>>..., false};

    static void run(void** arguments) { call(arguments, std::index_sequence_for<Arguments...>()); }

  private:
    template <size_t... index>
    __attribute__((no_sanitize("thread", "undefined"))) static void
    call(void** arguments, std::index_sequence<index...>) {
        kernel(*static_cast<std::remove_const_t<Arguments>*>(arguments[index])...);
    }
};

}  // namespace cuda_emulator

extern "C" {
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
}

// Where the compiled file lies: its start, its static variables, its end.
extern "C" __attribute__((visibility("default"))) char* const emulated_image[] = {__ehdr_start, __bss_start, _end};

#define EMULATED_TABLE extern "C" __attribute__((visibility("default"))) const EmulatedKernel emulated_kernels[]
#define EMULATED_KERNEL(name, most_threads, ...)                                                                       \
    {name, cuda_emulator::Entry<__VA_ARGS__>::run, cuda_emulator::Entry<__VA_ARGS__>::count,                           \
     cuda_emulator::Entry<__VA_ARGS__>::sizes, cuda_emulator::Entry<__VA_ARGS__>::constant, most_threads}
