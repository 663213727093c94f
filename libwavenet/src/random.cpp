#include "random.h"

#include <algorithm>

namespace wavenet {
namespace {

// numpy.random.SeedSequence: mixes entropy into a pool of four words, and words for a generator out of it.
class SeedSequence {
public:
    SeedSequence(const std::uint32_t* entropy, int words) {
        std::uint32_t factor = 0x43b0d7e5;
        const auto hashed = [&factor](std::uint32_t value) {
            value ^= factor;
            factor *= 0x931e8875;
            value *= factor;
            return value ^ (value >> 16);
        };
        const auto mixed = [](std::uint32_t x, std::uint32_t y) {
            const std::uint32_t value = 0xca01f9dd * x - 0x4973f715 * y;
            return value ^ (value >> 16);
        };
        for (int i = 0; i < WORDS; ++i) pool_[i] = hashed(i < words ? entropy[i] : 0);
        for (int from = 0; from < WORDS; ++from)
            for (int to = 0; to < WORDS; ++to)
                if (from != to) pool_[to] = mixed(pool_[to], hashed(pool_[from]));
        for (int from = WORDS; from < words; ++from)
            for (int to = 0; to < WORDS; ++to) pool_[to] = mixed(pool_[to], hashed(entropy[from]));
    }

    std::uint64_t next() {  // two words, the lower one first
        const std::uint64_t low = word();
        return low | std::uint64_t(word()) << 32;
    }

private:
    static constexpr int WORDS = 4;

    std::uint32_t word() {
        std::uint32_t value = pool_[next_++ % WORDS] ^ factor_;
        factor_ *= 0x58f38ded;
        value *= factor_;
        return value ^ (value >> 16);
    }

    std::uint32_t pool_[WORDS];
    std::uint32_t factor_ = 0x8b51f9dd;
    int next_ = 0;
};

}  // namespace

Pcg64::Pcg64(std::uint64_t seed) {
    const std::uint32_t entropy[] = {std::uint32_t(seed), std::uint32_t(seed >> 32)};
    this->seed(entropy, seed >> 32 ? 2 : 1);
}

Pcg64::Pcg64(std::uint64_t seed, std::uint32_t spawn_key) {
    // before a spawn key, NumPy extends the entropy with zeros to the size of the pool
    const std::uint32_t entropy[] = {std::uint32_t(seed), std::uint32_t(seed >> 32), 0, 0, spawn_key};
    this->seed(entropy, 5);
}

void Pcg64::seed(const std::uint32_t* entropy, int words) {
    SeedSequence sequence(entropy, words);
    std::uint64_t drawn[4];
    std::generate(drawn, drawn + 4, [&] { return sequence.next(); });
    increment_ = {drawn[2] << 1 | drawn[3] >> 63, drawn[3] << 1 | 1};
    step();
    state_ = add(state_, {drawn[0], drawn[1]});
    step();
}

Pcg64::Wide Pcg64::add(Wide a, Wide b) {
    const std::uint64_t low = a.low + b.low;
    return {a.high + b.high + (low < a.low), low};
}

Pcg64::Wide Pcg64::multiply(Wide a, Wide b) {
    const std::uint64_t a0 = a.low & 0xffffffff, a1 = a.low >> 32, b0 = b.low & 0xffffffff, b1 = b.low >> 32;
    const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffff);
    const std::uint64_t high = a1 * b1 + (middle >> 32) + (other >> 32);
    return {high + a.high * b.low + a.low * b.high, a.low * b.low};
}

void Pcg64::step() {
    constexpr Wide MULTIPLIER = {2549297995355413924u, 4865540595714422341u};
    state_ = add(multiply(state_, MULTIPLIER), increment_);
}

double Pcg64::next() {
    step();
    const std::uint64_t folded = state_.high ^ state_.low;
    const int rotation = int(state_.high >> 58);
    const std::uint64_t word = folded >> rotation | folded << (-rotation & 63);
    return double(word >> 11) / 9007199254740992.0;  // 2^53
}

}  // namespace wavenet
