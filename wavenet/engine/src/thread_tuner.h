// Chooses how many helper threads a single stream gets.
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
    // Seconds that a sample takes without helpers; 0 until that is known.
    double seconds_alone();
    // `samples` samples took `seconds` with this number of helpers.
    void record(int helpers, std::size_t samples, double seconds);

private:
    int next();

    std::mutex mutex_;
    std::vector<double> seconds_;  // per sample, by number of helpers; 0: not measured yet
    int chosen_ = 0;
    std::size_t samples_ = 0;  // of the measurement under way
    double spent_ = 0;
    std::size_t other_ = 0;  // the number to be tried next
    int since_other_ = 0;    // measurements since the last trial
};

}  // namespace wavenet
