// Several stream groups on several threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "thread_pool.h"

namespace wavenet {

// Several groups, each advanced by whichever thread is free.
class GroupsJob : public Job {
public:
    using Advance = std::function<void(std::size_t group)>;
    GroupsJob(std::size_t count, Advance advance) : count_(count), advance_(std::move(advance)) {}
    void run(int) override { work(); }
    void work();
    void wait();  // returns when all groups are done

private:
    const std::size_t count_;
    const Advance advance_;
    std::atomic<std::size_t> next_{0};
    std::mutex mutex_;
    std::condition_variable all_done_;
    std::size_t done_ = 0;
};

}  // namespace wavenet
