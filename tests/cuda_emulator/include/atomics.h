// Atomics: fibers change only where they wait, so a plain read and write is one step.

#pragma once

namespace cuda_emulator {

template <typename T>
struct Same {
    using type = T;
};

// Not instrumented: touch_atomically says what it does.
template <typename T, typename Op>
__attribute__((no_sanitize("thread", "undefined"))) T exchange(T* at, Op op) {
    touch_atomically(at, sizeof(T));
    const T before = *at;
    *at = op(before);
    return before;
}

}  // namespace cuda_emulator

#define EMULATED_ATOMIC(name, expression)                                                                              \
    template <typename T>                                                                                              \
    T name(T* at, typename cuda_emulator::Same<T>::type value) {                                                       \
        return cuda_emulator::exchange(at, [=](T before) { return T(expression); });                                   \
    }                                                                                                                  \
    template <typename T>                                                                                              \
    T name##_block(T* at, typename cuda_emulator::Same<T>::type value) {                                               \
        return name(at, value);                                                                                        \
    }

EMULATED_ATOMIC(atomicAdd, before + value)
EMULATED_ATOMIC(atomicSub, before - value)
EMULATED_ATOMIC(atomicExch, value)
EMULATED_ATOMIC(atomicMin, value < before ? value : before)
EMULATED_ATOMIC(atomicMax, before < value ? value : before)
EMULATED_ATOMIC(atomicAnd, before& value)
EMULATED_ATOMIC(atomicOr, before | value)
EMULATED_ATOMIC(atomicXor, before ^ value)
EMULATED_ATOMIC(atomicInc, before >= value ? 0 : before + 1)
EMULATED_ATOMIC(atomicDec, before == 0 || before > value ? value : before - 1)
#undef EMULATED_ATOMIC

template <typename T>
T atomicCAS(T* at, typename cuda_emulator::Same<T>::type expected, typename cuda_emulator::Same<T>::type value) {
    return cuda_emulator::exchange(at, [=](T before) { return before == expected ? value : before; });
}

inline void __threadfence() { cuda_emulator::fence(); }
inline void __threadfence_block() {}
inline void __threadfence_system() { cuda_emulator::fence(); }
