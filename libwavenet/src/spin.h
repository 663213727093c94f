// Waiting for another thread without a system call, and counters to wait for.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace wavenet {

void pause();  // the processor's instruction for spin loops

// Waits for a moment by spinning, and measures how long it has waited.
class Spin {
public:
    using Clock = std::chrono::steady_clock;

    // Waits briefly. Returns false once the total wait is longer than `limit`.
    bool again(Clock::duration limit) {
        for (int i = 0; i < 16; ++i) pause();
        if (++turns_ == 1) since_ = Clock::now();
        return turns_ % 4 || Clock::now() - since_ < limit;
    }
    // Waits briefly; after 50 us yields the processor to other threads, after 2 ms sleeps, at first for 0.1 ms each.
    void patiently() {
        if (again(std::chrono::microseconds(50))) return;
        const auto waited = Clock::now() - since_;
        if (waited < std::chrono::milliseconds(2)) std::this_thread::yield();
        else
            std::this_thread::sleep_for(
                std::chrono::microseconds(waited < std::chrono::milliseconds(200) ? 100 : 2000));
    }

private:
    unsigned turns_ = 0;
    Clock::time_point since_;
};

// A number that one thread writes and others read, on a cache line of its own. A thread that reads a value also sees all
// writes that were made before it (release and acquire).
struct alignas(64) Counter {
    std::atomic<std::uint64_t> value{0};
    std::uint64_t get() const { return value.load(std::memory_order_acquire); }
    void set(std::uint64_t to) { value.store(to, std::memory_order_release); }
};

}  // namespace wavenet
