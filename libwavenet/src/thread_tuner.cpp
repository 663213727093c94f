#include "thread_tuner.h"

#include <algorithm>

namespace wavenet {
namespace {

constexpr double MEASURED_SECONDS = 0.002;  // per measurement: helpers need a while to wake up
constexpr double OFTEN = 12, SELDOM = 400;  // measurements between trials of another number
constexpr double WEIGHT = 0.3;              // of a new measurement in the running average

}  // namespace

int ThreadTuner::helpers() {
    const std::lock_guard lock(mutex_);
    return chosen_;
}

double ThreadTuner::seconds_alone() {
    const std::lock_guard lock(mutex_);
    return seconds_[0];
}

void ThreadTuner::record(int helpers, std::size_t samples, double seconds) {
    const std::lock_guard lock(mutex_);
    if (helpers != chosen_) return;  // another call has changed it in the meantime
    samples_ += samples;
    spent_ += seconds;
    if (spent_ < MEASURED_SECONDS) return;
    double& average = seconds_[helpers];
    const double each = spent_ / double(samples_);
    // interruptions by the system are outliers: a measurement counts as at most twice the average
    average = average == 0 ? each : average + WEIGHT * (std::min(each, 2 * average) - average);
    samples_ = 0;
    spent_ = 0;
    chosen_ = next();
}

// The fastest number, or another one whose trial is due: the slower it is, the less often it is tried.
int ThreadTuner::next() {
    for (std::size_t helpers = 0; helpers < seconds_.size(); ++helpers)
        if (seconds_[helpers] == 0) return int(helpers);
    const std::size_t best = std::min_element(seconds_.begin(), seconds_.end()) - seconds_.begin();
    if (seconds_.size() == 1) return 0;
    if (other_ == best) other_ = (other_ + 1) % seconds_.size();
    const double slower = seconds_[other_] / seconds_[best];
    if (++since_other_ < std::min(OFTEN * slower * slower * slower, SELDOM)) return int(best);
    since_other_ = 0;
    const std::size_t other = other_;
    other_ = (other_ + 1) % seconds_.size();
    return int(other);
}

}  // namespace wavenet
