#include "threads.h"

#include <functional>
#include <system_error>

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

void keep_off(std::thread::native_handle_type helper, int processor) {
    cpu_set_t allowed;  // to the process
    if (processor < 0 || sched_getaffinity(getpid(), sizeof allowed, &allowed)) return;
    CPU_CLR(processor, &allowed);
    if (CPU_COUNT(&allowed)) pthread_setaffinity_np(helper, sizeof allowed, &allowed);
}

void make_way(int processor) {
    if (processor >= 0 && sched_getcpu() == processor) keep_off(pthread_self(), processor);
}
#else
int current_processor() { return -1; }
void keep_off(std::thread::native_handle_type, int) {}
void make_way(int) {}
#endif

Crew::~Crew() {
    if (!board_) return;
    if (process_ != getpid()) {
        board_.release();
        return;
    }
    {
        const std::lock_guard lock(board_->mutex);
        board_->ended = true;
        board_->called.notify_all();
    }
    for (std::thread& thread : board_->threads) thread.join();
}

void Crew::post(std::shared_ptr<Job> job) {
    if (!board_) {
        process_ = getpid();
        board_ = std::make_unique<Board>();
        try {
            for (int helper = 0; helper < helpers_; ++helper)
                board_->threads.emplace_back(help, std::ref(*board_), helper);
        } catch (const std::system_error&) {  // no more threads to be had: those that there are, or none, must do
        }
    }
    if (process_ != getpid()) return;
    const std::lock_guard lock(board_->mutex);
    for (std::thread& thread : board_->threads) keep_off(thread.native_handle(), current_processor());
    board_->job = std::move(job);
    ++board_->calls;
    board_->called.notify_all();
}

void Crew::help(Board& board, int helper) {
    std::uint64_t heard = 0;
    for (;;) {
        std::shared_ptr<Job> job;
        for (Spin spin; board.calls == heard && spin.again(LINGER);) {  // the next call may come at once
        }
        {
            std::unique_lock lock(board.mutex);
            board.called.wait(lock, [&] { return board.ended || board.calls != heard; });
            if (board.ended) return;
            heard = board.calls;
            job = board.job;
        }
        job->run(helper);
    }
}

}  // namespace wavenet
