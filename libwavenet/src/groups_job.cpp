#include "groups_job.h"

namespace wavenet {

void GroupsJob::work() {
    for (std::size_t group; (group = next_.fetch_add(1)) < count_;) {
        advance_(group);
        const std::lock_guard lock(mutex_);
        if (++done_ == count_) all_done_.notify_all();
    }
}

void GroupsJob::wait() {
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [&] { return done_ == count_; });
}

}  // namespace wavenet
