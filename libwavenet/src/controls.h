// The options of a stream that may be set from any thread while another one plays.
#pragma once

#include <array>
#include <atomic>
#include <limits>
#include <valarray>
#include <vector>

namespace wavenet {

constexpr double UNSET = std::numeric_limits<double>::quiet_NaN();

struct Controls {
    double temperature = 1;
    double voiced_temperature = UNSET;  // NaN: as `temperature`
    int top_k = 0;                      // 0: all codes
    double top_p = 1;
    double frame_temperature = 1;  // of a model of two tiers
    double pitch = UNSET;          // Hz; NaN: free
    double loudness = UNSET;       // dB; NaN: free
    std::vector<float> speakers;   // shares, which sum to 1; none for a model without speakers
    std::valarray<bool> muted;     // of each layer: whether it is muted
};

// The latest controls, for one reader that must never wait: a triple buffer. Of three copies the writers own one, the
// reader owns one, and the third is exchanged: by writers for theirs when it is complete, by the reader for its own when
// it is newer.
class ControlExchange {
public:
    explicit ControlExchange(const Controls& controls) : latest_(controls), slots_{controls, controls, controls} {}

    // Changes the controls by `change(controls)`. For any thread; the vectors must keep their sizes.
    template <class Change>
    void write(Change change) {
        while (writing_.test_and_set(std::memory_order_acquire)) {  // another writer, for less than a microsecond
        }
        change(latest_);
        slots_[written_] = latest_;
        written_ = exchanged_.exchange(written_ | FRESH, std::memory_order_acq_rel) & ~FRESH;
        writing_.clear(std::memory_order_release);
    }
    // The latest controls, until the next call. For the reader.
    const Controls& read() {
        if (exchanged_.load(std::memory_order_relaxed) & FRESH)
            read_ = exchanged_.exchange(read_, std::memory_order_acq_rel) & ~FRESH;
        return slots_[read_];
    }
    // A copy of what was written last. For any thread.
    Controls written() const {
        while (writing_.test_and_set(std::memory_order_acquire)) {}
        Controls copy = latest_;
        writing_.clear(std::memory_order_release);
        return copy;
    }

private:
    static constexpr unsigned FRESH = 4;  // set if the exchanged copy is newer than the reader's

    mutable std::atomic_flag writing_ = ATOMIC_FLAG_INIT;
    Controls latest_;  // of the writers
    std::array<Controls, 3> slots_;
    unsigned written_ = 0, read_ = 1;
    std::atomic<unsigned> exchanged_{2};
};

}  // namespace wavenet
