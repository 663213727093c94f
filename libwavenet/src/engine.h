// The engine's interface: a network with fixed weights, and the states that it advances.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "config.h"
#include "request.h"
#include "weights.h"

namespace wavenet {

// The running state of B streams. It owns a reference to the weights, not to the engine or the state it was copied from.
// Every call throws std::runtime_error while another thread is advancing the state.
class State {
public:
    virtual ~State() = default;
    virtual std::shared_ptr<State> copy() const = 0;
    virtual std::uint64_t position() const = 0;              // samples generated or fed
    virtual void last_codes(std::int64_t* codes) const = 0;  // [B]
    // Continues as a copy of `other`, without allocation. Throws std::invalid_argument unless that is a state of as many
    // streams of the same engine.
    virtual void assign(const State& other) = 0;
};

class Engine {
public:
    virtual ~Engine() = default;
    virtual std::shared_ptr<State> new_state(int streams) const = 0;
    // Computes a request. `stop` is called several times a second; if it returns true, the call ends after a whole
    // sample. Throws std::invalid_argument for a state of another engine or conditioning frames that do not fit,
    // std::runtime_error for a state that another thread is advancing.
    virtual void run(State& state, const Request& request, const std::function<bool()>& stop) = 0;
    // Peak multiply-adds per second of one core with these kernels, measured on registers.
    virtual double peak() const = 0;
    virtual const char* kernels() const = 0;
    virtual const Config& config() const = 0;
};

// precision: "f32" or "int8"; threads: the largest number, the caller's included. Throws std::invalid_argument for an unknown
// precision, for kernels that this machine does not have, and as Weights does.
std::unique_ptr<Engine> make_engine(const Config& config, const Tensors& tensors, const std::string& precision,
                                    int threads);

}  // namespace wavenet
