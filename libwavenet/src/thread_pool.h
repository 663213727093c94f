// A pool of helper threads, which sleep between calls.
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

// Work that helper threads may join. Every thread that works on it owns a reference, so that a thread that the system has
// suspended does not use freed memory when it continues.
class Job {
public:
    virtual ~Job() = default;
    virtual void run(int helper) = 0;
};

// A fixed number of helper threads, started with the first job. They serve one call at a time.
class ThreadPool {
public:
    explicit ThreadPool(int helpers) : helpers_(helpers) {}
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int helpers() const { return helpers_; }
    // Reserves the pool for a call. False if another call has it, or if there are no helpers.
    bool acquire() { return helpers_ > 0 && !acquired_.exchange(true); }
    void release() { acquired_ = false; }
    void post(std::shared_ptr<Job> job);  // wakes all helpers; an earlier job that none has begun is dropped

private:
    // The job that the threads wait for. A forked process has none of its parent's threads, and cannot destroy these
    // objects: there, calls run without helpers and this is leaked.
    struct Shared {
        std::mutex mutex;
        std::condition_variable posted;
        std::shared_ptr<Job> job;
        std::atomic<std::uint64_t> jobs{0};
        bool ended = false;
        std::vector<std::thread> threads;
    };
    static void work(Shared& shared, int helper);

    const int helpers_;
    std::atomic<bool> acquired_{false};
    std::unique_ptr<Shared> shared_;
    int process_ = 0;  // the process that started the threads
};

constexpr auto IDLE = std::chrono::microseconds(200);  // how long a helper spins without work before it sleeps

// The processor on which this thread runs, or -1 if that is unknown.
int current_processor();
// Excludes the processor on which the caller spins from those of another thread. Otherwise the system may wake the thread
// there, where it waits for milliseconds while other processors are idle.
void keep_off(std::thread::native_handle_type thread, int processor);
// The same for the calling thread, if it runs there.
void move_off(int processor);

}  // namespace wavenet
