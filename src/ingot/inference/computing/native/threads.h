// Threads that compute one pass together, and wait for one another often and shortly.

#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ingot {

constexpr long SPINS = 20000;  // about half a millisecond: who gives a core away waits longer for it

class Barrier {
public:
    explicit Barrier(long threads) : threads(threads) {}

    // `soon` and so many bytes behind it are asked for from memory meanwhile.
    void wait(const char* soon = nullptr, long bytes = 0) {
        if (threads == 1) return;
        const long turn = turns.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived.store(0, std::memory_order_relaxed);
            turns.store(turn + 1, std::memory_order_release);
            return;
        }
        const char* const end = soon + bytes;
        for (long spins = 0; turns.load(std::memory_order_acquire) == turn; ++spins)
            if (soon < end) __builtin_prefetch(soon), soon += 64;
            else if (spins < SPINS) pause();
            else std::this_thread::yield();  // somebody else needs the cores too
    }

private:
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    const long threads;
    alignas(64) std::atomic<long> arrived{0};
    alignas(64) std::atomic<long> turns{0};
};

struct Thread {
    long number, count;
    Barrier& barrier;

    // This thread's part of so many pieces of work, in steps of `unit`.
    std::pair<long, long> share(long pieces, long unit = 1) const {
        const long units = (pieces + unit - 1) / unit;
        const long first = units * number / count * unit, last = units * (number + 1) / count * unit;
        return {std::min(first, pieces), std::min(last, pieces)};
    }
};

// Work that every thread has a share of, and helps the others with when its own is done: a thread whose core
// somebody else uses for a while would keep all waiting.
class Shared {
public:
    // Args: how often `each` is called by every thread, and how many threads there are at most.
    Shared(long times, long threads) : times(times), reached(new std::atomic<long>[times * threads]) {
        std::fill_n(reached.get(), times * threads, 0);
    }

    // Calls some(first, last) so that every piece is met once by one thread, `step` of them at a time.
    // `time` counts the calls; shares begin at multiples of `unit`, which divides `step`.
    template <class Some>
    void each(const Thread& thread, long time, long pieces, long unit, long step, Some some) {
        for (long i = 0; i < thread.count; ++i) {
            const long whose = (thread.number + i) % thread.count;
            const auto [first, last] = Thread{whose, thread.count, thread.barrier}.share(pieces, unit);
            std::atomic<long>& next = reached[whose * times + time];
            for (long at; (at = first + step * next.fetch_add(1, std::memory_order_relaxed)) < last;)
                some(at, std::min(at + step, last));
        }
    }

private:
    const long times;
    std::unique_ptr<std::atomic<long>[]> reached;
};

// Calls work(Thread) on so many threads: those of OpenMP, which the rest of the process computes on too.
template <class Work>
inline void together(int threads, Work work) {
#if defined(_OPENMP)
    Barrier* barrier = nullptr;
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
        barrier = new Barrier(omp_get_num_threads());
        work(Thread{omp_get_thread_num(), omp_get_num_threads(), *barrier});
    }
    delete barrier;
#else
    (void)threads;
    Barrier barrier{1};
    work(Thread{0, 1, barrier});
#endif
}

}  // namespace ingot
