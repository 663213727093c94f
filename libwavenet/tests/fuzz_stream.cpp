// A libFuzzer target: streams driven by arbitrary sequences of calls of the C interface.
//
// The first byte chooses a model of tests/corpus/model, the second its precision; each call then takes a byte that
// chooses the function, and its arguments. Calls must succeed or be refused, and samples must be in [-1, 1].
#include <wavenet.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

namespace {

constexpr std::size_t MAX_BLOCK = 300, MOST_SAMPLES = 4000;

// Models of tests/corpus/model, of every kind.
const char* const MODELS[] = {"adaptive", "former_names", "logistic", "mulaw", "parallel", "speakers", "two_tiers"};

// The bytes that are left; beyond their end they are zero.
class Bytes {
public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
    bool any() const { return size_ > 0; }
    template <class T>
    T next() {
        T value{};
        const std::size_t count = std::min(sizeof value, size_);
        std::memcpy(&value, data_, count);
        data_ += count;
        size_ -= count;
        return value;
    }

private:
    const std::uint8_t* data_;
    std::size_t size_;
};

void check(bool correct) {
    if (!correct) std::abort();
}

// Numbers as they are given, and often ones that mean something.
double number(Bytes& bytes) {
    switch (bytes.next<std::uint8_t>() % 4) {
    case 0:
        return bytes.next<double>();
    case 1:
        return NAN;
    case 2:
        return double(bytes.next<std::uint8_t>()) / 64;
    default:
        return double(bytes.next<std::uint16_t>());
    }
}

void call(wavenet_stream*& stream, const wavenet_model* model, Bytes& bytes, std::size_t& generated) {
    std::vector<float> values(MAX_BLOCK + 8);
    switch (bytes.next<std::uint8_t>() % 18) {
    case 0:
    case 1:
    case 2: {
        const std::size_t n = bytes.next<std::uint16_t>() % (MAX_BLOCK + 8);
        const wavenet_status status = wavenet_stream_process(stream, values.data(), n);
        check(status == WAVENET_OK || status == WAVENET_STARVED || (status == WAVENET_INVALID && n > MAX_BLOCK));
        for (std::size_t i = 0; i < n; ++i) check(std::abs(values[i]) <= 1);
        generated += n + 1;
        break;
    }
    case 3:
    case 4: {
        const std::size_t bands = std::size_t(wavenet_model_bands(model)), n = bytes.next<std::uint8_t>() % 40;
        std::vector<float> frames(n * std::max<std::size_t>(bands, 1));
        const float base = bytes.next<std::uint8_t>() == 0 ? bytes.next<float>() : -5.0f;
        for (float& value : frames) value = base + float(bytes.next<std::uint8_t>()) / 64;
        std::size_t taken = 0;
        wavenet_stream_push(stream, frames.data(), n, &taken);
        check(taken <= n);
        break;
    }
    case 5:
        wavenet_stream_end(stream);
        break;
    case 6:
        wavenet_stream_set_temperature(stream, number(bytes));
        break;
    case 7:
        wavenet_stream_set_voiced_temperature(stream, number(bytes));
        break;
    case 8:
        wavenet_stream_set_top_k(stream, bytes.next<std::int16_t>());
        break;
    case 9:
        wavenet_stream_set_top_p(stream, number(bytes));
        break;
    case 10: {
        const int n = bytes.next<std::uint8_t>() % 4;
        for (int i = 0; i < n; ++i) values[i] = float(number(bytes));
        wavenet_stream_set_speakers(stream, values.data(), n);
        break;
    }
    case 11: {
        std::vector<int> layers(bytes.next<std::uint8_t>() % 4);
        for (int& layer : layers) layer = bytes.next<std::int8_t>();
        wavenet_stream_set_mute(stream, layers.data(), int(layers.size()));
        break;
    }
    case 12:
        wavenet_stream_set_pitch(stream, number(bytes));
        wavenet_stream_set_loudness(stream, number(bytes));
        break;
    case 13: {
        const std::size_t n = bytes.next<std::uint8_t>();
        for (std::size_t i = 0; i < n; ++i) values[i] = float(bytes.next<std::int8_t>()) / 100;
        wavenet_stream_prime(stream, values.data(), n);
        generated += n;
        break;
    }
    case 14:
        if (bytes.next<std::uint8_t>() % 2) wavenet_stream_reset(stream, bytes.next<std::uint64_t>());
        else wavenet_stream_refine(stream, bytes.next<std::uint8_t>() % 20);
        break;
    case 15:
        wavenet_stream_seed(stream, bytes.next<std::uint64_t>());
        wavenet_stream_watch(stream, bytes.next<std::int8_t>());
        break;
    case 16: {
        const std::size_t channels = std::size_t(wavenet_model_gate_channels(model));
        std::vector<float> z(channels * std::size_t(wavenet_model_layers(model))), ab(2 * channels);
        check(wavenet_stream_gates(stream, z.data()) == WAVENET_OK);
        check(wavenet_stream_watched(stream, ab.data()) == WAVENET_OK);
        for (float value : z) check(std::abs(value) <= 1);
        for (float value : ab) check(!std::isnan(value));
        break;
    }
    default: {
        wavenet_stream* copy = wavenet_stream_copy(stream);
        check(copy);
        if (bytes.next<std::uint8_t>() % 2) std::swap(stream, copy);
        wavenet_stream_free(copy);
    }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    const std::string path =
        std::string(WAVENET_CORPUS "/model/") + MODELS[bytes.next<std::uint8_t>() % std::size(MODELS)];
    wavenet_model* model = nullptr;
    check(wavenet_model_open(path.c_str(), bytes.next<std::uint8_t>() % 2 ? "int8" : "f32", &model) == WAVENET_OK);
    wavenet_stream* stream = wavenet_stream_new(model, bytes.next<std::uint64_t>(), MAX_BLOCK);
    check(stream);
    std::size_t generated = 0;
    while (bytes.any() && generated < MOST_SAMPLES) call(stream, model, bytes, generated);
    wavenet_stream_free(stream);
    wavenet_model_close(model);
    return 0;
}
