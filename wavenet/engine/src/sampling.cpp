#include "sampling.h"

#include <algorithm>

namespace wavenet {
namespace {

constexpr int BLOCK = 16;               // codes
constexpr double MASS_ROUNDING = 1e-9;  // as in wavenet/sampling.py

// In the order in which `inverse` walks through a block, so that both come to the same number.
double sum_of_block(const float* w) {
    double sum = 0;
    for (int i = 0; i < BLOCK; ++i) sum += w[i];
    return sum;
}

}  // namespace

Sampler::Sampler(int outputs)
    : outputs_(outputs), weights_((outputs + BLOCK - 1) / BLOCK * BLOCK, 0.0f), ranked_(outputs) {}

int Sampler::draw(const Kernels& kernels, const float* logits, double coin, const Sampling& sampling) {
    if (sampling.greedy) return int(std::max_element(logits, logits + outputs_) - logits);
    kernels.exponentials(logits, outputs_, float(1 / sampling.temperature), weights_.data());
    if (sampling.top_k || sampling.top_p < 1) truncate(logits, sampling);
    return inverse(coin);
}

// Sets the weights of the codes that top-k and top-p exclude to zero. Ranks by logits: where the temperature is very
// high or low, weights that differ are rounded to the same number.
void Sampler::truncate(const float* logits, const Sampling& sampling) {
    const auto more_probable = [](const Ranked& a, const Ranked& b) {
        return a.logit > b.logit || (a.logit == b.logit && a.code < b.code);
    };
    double mass = total();
    // All codes below `least` together are less than what top-p leaves out: they need not be ranked.
    const double least = sampling.top_k ? 0 : mass * (1 - sampling.top_p) / outputs_;
    int count = 0;
    for (int code = 0; code < outputs_; ++code) {
        ranked_[count] = {logits[code], weights_[code], code};
        count += weights_[code] >= least;
    }
    const auto first = ranked_.begin();
    if (sampling.top_k && sampling.top_k < count) {
        count = sampling.top_k;
        std::nth_element(first, first + count - 1, ranked_.end(), more_probable);
        mass = 0;
        for (int i = 0; i < count; ++i) mass += ranked_[i].weight;
    }
    std::fill(weights_.begin(), weights_.end(), 0.0f);
    if (sampling.top_p == 1) {
        for (int i = 0; i < count; ++i) weights_[ranked_[i].code] = ranked_[i].weight;
        return;
    }
    // The most probable first, until those before are enough; a heap, since that is mostly soon.
    const auto last_first = [&](const Ranked& a, const Ranked& b) { return more_probable(b, a); };
    std::make_heap(first, first + count, last_first);
    const double wanted = mass * (sampling.top_p * (1 - MASS_ROUNDING));
    double reached = 0;
    for (int left = count; left > 0 && reached < wanted; --left) {
        std::pop_heap(first, first + left, last_first);
        weights_[ranked_[left - 1].code] = ranked_[left - 1].weight;
        reached += ranked_[left - 1].weight;
    }
}

double Sampler::total() const {
    double total = 0;
    for (std::size_t i = 0; i < weights_.size(); i += BLOCK) total += sum_of_block(&weights_[i]);
    return total;
}

// The first code whose cumulative weight lies above coin times the total. There always is one: coin < 1 makes coin times
// total less than the total in floating point too, and the sums here are those that make the total.
int Sampler::inverse(double coin) const {
    const int size = int(weights_.size());
    const double wanted = coin * total();
    double before = 0;  // weight of the blocks before this one
    int first = 0;
    for (; first + BLOCK < size; first += BLOCK) {
        const double next = before + sum_of_block(&weights_[first]);
        if (next > wanted) break;
        before = next;
    }
    double reached = 0;  // in the block
    for (int code = first; code < first + BLOCK; ++code) {
        reached += weights_[code];
        if (before + reached > wanted) return code;
    }
    return outputs_ - 1;  // never: see above
}

}  // namespace wavenet
