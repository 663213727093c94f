// Between audio and the integer codes that a network predicts: 8-bit mu-law (ITU-T G.711) or 16-bit linear. The same as
// wavenet/mulaw.py and wavenet/data/pcm.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config.h"

namespace wavenet {

class Quantizer {
public:
    explicit Quantizer(Output output);

    float decode(std::int64_t code) const {
        return decoded_.empty() ? float(code) / float(FULL_SCALE) : decoded_[code];
    }
    // samples beyond [-1, 1] are clipped; NaN counts as silence
    std::int64_t encode(float sample) const;

private:
    std::vector<float> decoded_;  // of each mu-law code; none for 16-bit codes
};

}  // namespace wavenet
