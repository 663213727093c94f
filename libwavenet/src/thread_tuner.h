// Chooses the number of helper threads for a single stream.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace wavenet {

// Finds the fastest number of helpers by measuring: each number is tried, and tried again from time to time, since the
// load of the machine changes. The audio is the same for any number.
class ThreadTuner {
public:
    explicit ThreadTuner(int helpers) : seconds_(helpers + 1, 0.0) {}

    int helpers();
    // Seconds per sample without helpers; 0 until they are measured.
    double seconds_alone();
    // Records that `samples` samples took `seconds` with this number of helpers.
    void record(int helpers, std::size_t samples, double seconds);

private:
    int next();

    std::mutex mutex_;
    std::vector<double> seconds_;  // per sample, by number of helpers; 0: not measured yet
    int chosen_ = 0;
    std::size_t samples_ = 0;  // of the current measurement
    double spent_ = 0;
    std::size_t other_ = 0;  // the number to be tried next
    int since_other_ = 0;    // measurements since the last trial
};

}  // namespace wavenet
