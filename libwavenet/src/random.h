// NumPy's uniform random numbers, so that a seed gives the same audio from C and from Python.
#pragma once

#include <cstdint>

namespace wavenet {

// numpy.random.Generator(numpy.random.PCG64(seed)).random(), and with `spawn_key`
// numpy.random.PCG64(numpy.random.SeedSequence(seed, spawn_key=(spawn_key,))). O'Neill 2014, PCG XSL RR 128/64.
class Pcg64 {
public:
    explicit Pcg64(std::uint64_t seed);
    Pcg64(std::uint64_t seed, std::uint32_t spawn_key);

    double next();  // in [0, 1), with 53 bits

private:
    struct Wide {  // 128 bits
        std::uint64_t high, low;
    };
    static Wide multiply(Wide a, Wide b);
    static Wide add(Wide a, Wide b);
    void seed(const std::uint32_t* entropy, int words);
    void step();

    Wide state_{}, increment_{};
};

}  // namespace wavenet
