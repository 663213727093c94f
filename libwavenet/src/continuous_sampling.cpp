#include "continuous_sampling.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

// as in wavenet/engine/sampling.py
constexpr double MIN_LOG_SCALE = -14, MAX_LOG_SCALE = 8;
constexpr double MIN_TAIL = 1.0 / 9007199254740992;  // 2^-53

// p[0] + p[1] x + ... + p[7] x^7
double polynomial(const double (&p)[8], double x) {
    double sum = p[7];
    for (int i = 6; i >= 0; --i) sum = sum * x + p[i];
    return sum;
}

}  // namespace

// Wichura 1988, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37 (3),
// PPND16: ratios of polynomials in the middle, near the tails and far out in the tails; 1 part in 10^16.
double normal_quantile(double probability) {
    constexpr double MIDDLE = 0.425, NEAR = 5;
    // clang-format off
    static constexpr double a[] = {3.3871328727963666080e0, 1.3314166789178437745e+2, 1.9715909503065514427e+3,
                                   1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                   3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static constexpr double b[] = {1.0, 4.2313330701600911252e+1, 6.8718700749205790830e+2, 5.3941960214247511077e+3,
                                   2.1213794301586595867e+4, 3.9307895800092710610e+4, 2.8729085735721942674e+4,
                                   5.2264952788528545610e+3};
    static constexpr double c[] = {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
                                   3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
                                   2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static constexpr double d[] = {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
                                   1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
                                   1.05075007164441684324e-9};
    static constexpr double e[] = {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
                                   2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                   2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static constexpr double f[] = {1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
                                   7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
                                   2.04426310338993978564e-15};
    // clang-format on
    const double q = probability - 0.5;
    if (std::abs(q) <= MIDDLE) {
        const double r = MIDDLE * MIDDLE - q * q;
        return q * polynomial(a, r) / polynomial(b, r);
    }
    const double r = std::sqrt(-std::log(q < 0 ? probability : 1 - probability));
    const double x =
        r <= NEAR ? polynomial(c, r - 1.6) / polynomial(d, r - 1.6) : polynomial(e, r - NEAR) / polynomial(f, r - NEAR);
    return q < 0 ? -x : x;
}

std::int64_t ContinuousSampler::draw(const float* parameters, double uniform, const Sampling& sampling) {
    const double steps = std::nearbyint(quantile(parameters, uniform, sampling) * FULL_SCALE);  // half to even
    return std::int64_t(std::min(std::max(-FULL_SCALE, steps), FULL_SCALE - 1));  // in this order NaN gives a code, too
}

// The sample, relative to full scale.
double ContinuousSampler::quantile(const float* parameters, double uniform, const Sampling& sampling) {
    const int components = int(cumulative_.size());
    int component = 0;
    if (output_ == Output::LOGISTIC) {
        component = pick_component(parameters, uniform, sampling);
        parameters += components;  // skip the logits
    }
    const double mean = parameters[component], log_scale = parameters[components + component];
    if (sampling.greedy()) return mean;
    if (sampling.top_p < 1) uniform = 0.5 + (uniform - 0.5) * sampling.top_p;
    uniform = std::clamp(uniform, MIN_TAIL, 1 - MIN_TAIL);
    const double standard = output_ == Output::GAUSSIAN ? normal_quantile(uniform) : std::log(uniform / (1 - uniform));
    return mean + sampling.temperature * std::exp(std::clamp(log_scale, MIN_LOG_SCALE, MAX_LOG_SCALE)) * standard;
}

// The mixture component that a uniform random number selects. The number becomes its position within that component's
// probability, from 0 to 1, which is uniform again.
int ContinuousSampler::pick_component(const float* logits, double& uniform, const Sampling& sampling) {
    const float* const end = logits + cumulative_.size();
    const float* const best = std::max_element(logits, end);
    if (sampling.greedy()) return int(best - logits);
    double total = 0;
    for (std::size_t i = 0; i < cumulative_.size(); ++i)
        cumulative_[i] = total += std::exp((double(logits[i]) - *best) / sampling.temperature);
    const double wanted = uniform * total;  // below the total, since uniform < 1
    const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, wanted);
    const double before = found == cumulative_.begin() ? 0 : found[-1];
    uniform = (wanted - before) / (*found - before);
    return int(found - cumulative_.begin());
}

}  // namespace wavenet
