#include "threads.h"

#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
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

Crew::~Crew() {
    const bool here = process_ == getpid();
    if (here) {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        called_.notify_all();
    }
    for (std::thread& thread : threads_) {
        if (here) thread.join();
        else thread.detach();
    }
}

void Crew::post(std::shared_ptr<Job> job) {
    const std::lock_guard lock(mutex_);
    if (process_ == 0) {
        process_ = getpid();
        for (int helper = 0; helper < helpers_; ++helper) threads_.emplace_back([this, helper] { help(helper); });
    }
    job_ = std::move(job);
    ++calls_;
    called_.notify_all();
}

void Crew::help(int helper) {
    std::uint64_t heard = 0;
    for (;;) {
        std::shared_ptr<Job> job;
        {
            std::unique_lock lock(mutex_);
            called_.wait(lock, [&] { return ended_ || calls_ != heard; });
            if (ended_) return;
            heard = calls_;
            job = job_;
        }
        job->run(helper);
    }
}

}  // namespace wavenet
