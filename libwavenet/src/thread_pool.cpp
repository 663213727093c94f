#include "thread_pool.h"

#include <functional>
#include <system_error>

#include "spin.h"

#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace wavenet {

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");  // waits about as long as x86's pause; "yield" does not wait at all
#endif
}

#ifdef __linux__
int current_processor() { return sched_getcpu(); }

void keep_off(std::thread::native_handle_type thread, int processor) {
    cpu_set_t allowed;  // to the process
    if (processor < 0 || sched_getaffinity(getpid(), sizeof allowed, &allowed)) return;
    CPU_CLR(processor, &allowed);
    if (CPU_COUNT(&allowed)) pthread_setaffinity_np(thread, sizeof allowed, &allowed);
}

void move_off(int processor) {
    if (processor >= 0 && sched_getcpu() == processor) keep_off(pthread_self(), processor);
}
#else
int current_processor() { return -1; }
void keep_off(std::thread::native_handle_type, int) {}
void move_off(int) {}
#endif

ThreadPool::~ThreadPool() {
    if (!shared_) return;
    if (process_ != getpid()) {
        (void)shared_.release();
        return;
    }
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->ended = true;
        shared_->posted.notify_all();
    }
    for (std::thread& thread : shared_->threads) thread.join();
}

void ThreadPool::post(std::shared_ptr<Job> job) {
    if (!shared_) {
        process_ = getpid();
        shared_ = std::make_unique<Shared>();
        try {
            for (int helper = 0; helper < helpers_; ++helper)
                shared_->threads.emplace_back(work, std::ref(*shared_), helper);
        } catch (const std::system_error&) {  // no more threads available: continue with those that started, or none
        }
    }
    if (process_ != getpid()) return;
    const std::lock_guard lock(shared_->mutex);
    for (std::thread& thread : shared_->threads) keep_off(thread.native_handle(), current_processor());
    shared_->job = std::move(job);
    ++shared_->jobs;
    shared_->posted.notify_all();
}

void ThreadPool::work(Shared& shared, int helper) {
    std::uint64_t taken = 0;
    for (;;) {
        std::shared_ptr<Job> job;
        for (Spin spin; shared.jobs == taken && spin.again(IDLE);) {  // the next job may follow immediately
        }
        {
            std::unique_lock lock(shared.mutex);
            shared.posted.wait(lock, [&] { return shared.ended || shared.jobs != taken; });
            if (shared.ended) return;
            taken = shared.jobs;
            job = shared.job;
        }
        job->run(helper);
    }
}

}  // namespace wavenet
