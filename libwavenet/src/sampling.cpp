#include "sampling.h"

#include <algorithm>

namespace wavenet {
namespace {

constexpr int BLOCK = 16;               // codes
constexpr double MASS_ROUNDING = 1e-9;  // as in wavenet/engine/sampling.py

// In the order in which `inverse` adds a block, so that both sums are the same.
double sum_of_block(const float* w) {
    double sum = 0;
    for (int i = 0; i < BLOCK; ++i) sum += w[i];
    return sum;
}

}  // namespace

CategoricalSampler::CategoricalSampler(int outputs)
    : outputs_(outputs), weights_((outputs + BLOCK - 1) / BLOCK * BLOCK, 0.0f), ranked_(outputs) {}

int CategoricalSampler::draw(const Kernels& kernels, const float* logits, double uniform, const Sampling& sampling) {
    if (sampling.greedy()) return int(std::max_element(logits, logits + outputs_) - logits);
    kernels.exponentials(logits, outputs_, float(1 / sampling.temperature), weights_.data());
    if (sampling.top_k || sampling.top_p < 1) truncate(logits, sampling);
    return inverse(uniform);
}

// Sets the weights of the codes that top-k and top-p exclude to zero. Codes are ranked by logits: at very high or low
// temperatures different weights are rounded to the same value.
void CategoricalSampler::truncate(const float* logits, const Sampling& sampling) {
    const auto more_probable = [](const Ranked& a, const Ranked& b) {
        return a.logit > b.logit || (a.logit == b.logit && a.code < b.code);
    };
    double mass = total();
    // All codes below `least` together weigh less than what top-p excludes: they need not be ranked.
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
    // The most probable codes first, until their weight suffices; a heap, since that is usually after a few codes.
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

double CategoricalSampler::total() const {
    double total = 0;
    for (std::size_t i = 0; i < weights_.size(); i += BLOCK) total += sum_of_block(&weights_[i]);
    return total;
}

// The first code whose cumulative weight exceeds uniform * total. There always is one: uniform < 1 implies that the product
// is less than the total, in floating point, too, and the sums here are those of which the total consists.
int CategoricalSampler::inverse(double uniform) const {
    const int size = int(weights_.size());
    const double wanted = uniform * total();
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
