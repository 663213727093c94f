// Threads that help a call, and sleep between calls.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace wavenet {

// Work that helpers may join. It is held by whoever works on it, so a helper that the system has put aside for a while
// never wakes up among freed memory.
class Job {
public:
    virtual ~Job() = default;
    virtual void run(int helper) = 0;
};

// A fixed number of helper threads, started with the first job. They serve one call at a time.
class Crew {
public:
    explicit Crew(int helpers) : helpers_(helpers) {}
    ~Crew();
    Crew(const Crew&) = delete;

    int helpers() const { return helpers_; }
    bool take() { return helpers_ > 0 && !taken_.exchange(true); }  // false: another call has it, or nobody is there
    void give() { taken_ = false; }
    void post(std::shared_ptr<Job> job);  // wakes all helpers; a job posted before and not begun is forgotten

private:
    // What the threads wait on. A forked process has none of its parent's threads and cannot take such things apart:
    // there, calls go on without help, and this is left alone.
    struct Board {
        std::mutex mutex;
        std::condition_variable called;
        std::shared_ptr<Job> job;
        std::atomic<std::uint64_t> calls{0};
        bool ended = false;
        std::vector<std::thread> threads;
    };
    static void help(Board& board, int helper);

    const int helpers_;
    std::atomic<bool> taken_{false};
    std::unique_ptr<Board> board_;
    int process_ = 0;  // that the threads live in
};

constexpr auto LINGER = std::chrono::microseconds(200);  // that a helper stays awake with nothing to do

void pause();  // a hint to the processor that this thread spins

// The processor that this thread runs on, or -1 where that cannot be known.
int current_processor();
// Keeps a helper off the processor that its caller spins on. Left to itself, a system may wake it there, where it then
// waits for milliseconds while other processors have nothing to do.
void keep_off(std::thread::native_handle_type helper, int processor);
// The same for this thread, if it is there.
void make_way(int processor);

// Waits for a moment by spinning, and knows how long it has waited.
class Spin {
public:
    using Clock = std::chrono::steady_clock;

    // Waits a little. False once this has gone on for longer than `most`.
    bool again(Clock::duration most) {
        for (int i = 0; i < 16; ++i) pause();
        if (++turns_ == 1) since_ = Clock::now();
        return turns_ % 4 || Clock::now() - since_ < most;
    }
    // Waits a little; after 50 us lets other threads have the processor, after 2 ms sleeps.
    void patiently() {
        if (again(std::chrono::microseconds(50))) return;
        if (Clock::now() - since_ < std::chrono::milliseconds(2)) std::this_thread::yield();
        else std::this_thread::sleep_for(std::chrono::microseconds(100));
    }

private:
    unsigned turns_ = 0;
    Clock::time_point since_;
};

// A number that one thread writes and others read, alone on its cache line.
struct alignas(64) Counter {
    std::atomic<std::uint64_t> value{0};
    std::uint64_t get() const { return value.load(std::memory_order_acquire); }
    void set(std::uint64_t to) { value.store(to, std::memory_order_release); }
};

}  // namespace wavenet
