#include "quantizer.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

constexpr int MU = 255;

}  // namespace

Quantizer::Quantizer(Output output) {
    if (output != Output::MU_LAW) return;
    for (int code = 0; code <= MU; ++code) {
        const double companded = double(code) / MU * 2 - 1;
        const double magnitude = std::expm1(std::abs(companded) * std::log1p(double(MU))) / MU;
        decoded_.push_back(float(std::copysign(magnitude, companded)));
    }
}

std::int64_t Quantizer::encode(float sample) const {
    const float clipped = std::isnan(sample) ? 0.0f : std::clamp(sample, -1.0f, 1.0f);
    if (decoded_.empty())
        return std::int64_t(std::clamp(std::nearbyint(double(clipped) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1));
    const float companded = std::copysign(std::log1p(MU * std::abs(clipped)), clipped) / std::log1p(float(MU));
    return std::int64_t(std::floor((companded + 1) / 2 * MU + 0.5f));
}

}  // namespace wavenet
