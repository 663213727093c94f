// A network ready to run, and states that it advances. What Python sees.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config.h"
#include "sampling.h"
#include "told.h"

namespace wavenet {

// Where B streams stand.
class State {
public:
    virtual ~State() = default;
    virtual std::shared_ptr<State> copy() const = 0;
    virtual std::uint64_t position() const = 0;
    virtual void last_codes(std::int64_t* codes) const = 0;  // [B]
};

// What a call does for some of the n samples of B streams, every array [B][n]. Either codes are given and fed, or drawn
// by coins.
struct Request {
    std::size_t length = 0;                 // n
    std::size_t first = 0, samples = 0;     // those from `first` on, so many
    const Told* told = nullptr;             // to a conditioned network
    std::size_t offset = 0;                 // of the first of those samples in what is told
    const std::int64_t* given = nullptr;
    const double* coins = nullptr;
    Sampling sampling;
    std::int64_t* drawn = nullptr;
    float* logits = nullptr;                // [B][n][A], or nothing
    bool predict() const { return coins || logits; }
};

class Engine {
public:
    virtual ~Engine() = default;
    virtual std::shared_ptr<State> new_state(int streams) const = 0;
    // Throws std::invalid_argument for a state of another engine, or where others are told, std::runtime_error for a
    // state that another thread is advancing. `stop` is asked several times a second, and its true ends the call after
    // a whole sample.
    virtual void run(State& state, const Request& request, const std::function<bool()>& stop) = 0;
    // Multiply-adds per second of one thread in products whose weights stay in the nearest cache.
    virtual double peak() const = 0;
    virtual const char* kernels() const = 0;
    virtual const Config& config() const = 0;
};

// `tensor(name)`: see Weights. Throws std::invalid_argument for a precision or kernels that are not there.
std::unique_ptr<Engine> make_engine(const Config& config, const std::function<const float*(const std::string&)>& tensor,
                                    const std::string& precision, int threads);

}  // namespace wavenet
