// Feeds arbitrary bytes to the reader of model files. With libFuzzer (-DWAVENET_FUZZ=ON, Clang), or on given files with
// run_corpus.cpp. Whatever the bytes are, the reader must return a model that agrees with itself, or one line.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>

#include "json.h"
#include "model_file.h"

using namespace wavenet;

namespace {

void require(bool right, const char* what) {
    if (right) return;
    std::fprintf(stderr, "wrong: %s\n", what);
    std::abort();
}

void check(const ModelFile& model) {
    const Shapes shapes = model.config.shapes();
    require(shapes.size() == model.tensors.size(), "the number of tensors");
    for (const auto& [name, shape] : shapes) {
        std::size_t count = 1;
        for (std::size_t size : shape) count *= size;
        const auto& values = model.tensors.at(name);
        require(values.size() == count, "the size of a tensor");
        for (float value : values) require(std::isfinite(value), "a value of a tensor");
    }
    const Config config = model.config.engine_config();
    require(config.layers() == model.config.layers() && config.output_channels >= 2, "the engine's configuration");
    require(model.config.receptive_field() >= 2, "the receptive field");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        check(read_model(data, size));
    } catch (const std::invalid_argument& error) {
        for (const char* c = error.what(); *c; ++c) require(std::uint8_t(*c) >= 0x20, "a message of several lines");
        require(std::strlen(error.what()) < 1'000, "the length of a message");
    }
    return 0;
}

#ifdef WAVENET_FUZZ
// Mutations that keep what is around them right: of the header, with its length; of the configuration, inside its
// JSON text; or of the configuration, with exactly the tensors that it requires.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

constexpr std::size_t ROOM = 4'096;         // bytes that a mutation may add
constexpr std::size_t MAX_VALUES = 16'384;  // of the tensors of a generated model

std::string mutated(std::string text) {
    const std::size_t size = text.size();
    text.resize(size + ROOM);
    text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, text.size()));
    return text;
}

std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (char c : text) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", std::uint8_t(c));
        if (c == '"' || c == '\\') result += '\\';
        result += std::uint8_t(c) < 0x20 ? std::string(escaped) : std::string(1, c);
    }
    return result + '"';
}

std::string file_of(const std::string& header, const std::string& values) {
    std::string file;
    for (int i = 0; i < 8; ++i) file += char(header.size() >> 8 * i);
    return file + header + values;
}

// Replaces a number of the configuration by another.
std::string with_other_number(std::string config, std::minstd_rand& random) {
    static const char* const NUMBERS[] = {
        "0",   "1",   "2",  "3",     "4",   "7",          "9",  "16",   "24", "64", "255",  "1024", "8000",  "1e-5",
        "0.5", "1.0", "-1", "1e400", "256", "2147483648", "-0", "null", "[]", "{}", "\"\"", "true", "65536", "384000"};
    const std::size_t start = config.find_first_of("0123456789", config.empty() ? 0 : random() % config.size());
    if (start == std::string::npos) return config;
    const std::size_t end = config.find_first_not_of("0123456789.eE+-", start);
    return config.replace(start, (end == std::string::npos ? config.size() : end) - start,
                          NUMBERS[random() % (sizeof NUMBERS / sizeof *NUMBERS)]);
}

// A header around a configuration. With tensors: those that it requires, if it is one and they are few.
std::string with_config(const std::string& config, bool tensors, std::minstd_rand& random) {
    std::string header = "{\"__metadata__\":{\"wavenet.format\":\"1\",\"wavenet.config\":" + quoted(config) + "}";
    std::string values;
    try {
        const Shapes shapes = tensors ? read_config(config, "").shapes() : Shapes();
        for (const auto& [name, shape] : shapes) {
            std::string sizes;
            std::size_t count = 1;
            for (std::size_t size : shape) {
                if ((count *= size) > MAX_VALUES) return file_of(header + "}", "");
                sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
            }
            const bool half = random() % 2;
            const std::size_t begin = values.size();
            values.append(count * (half ? 2 : 4), char(random() % 64));
            if (values.size() > 4 * MAX_VALUES) return file_of(header + "}", "");
            header += "," + quoted(name) + ":{\"dtype\":\"" + (half ? "F16" : "F32") + "\",\"shape\":[" + sizes +
                      "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(values.size()) + "]}";
        }
    } catch (const std::invalid_argument&) {}
    return file_of(header + "}", values);
}

// The configuration in a header; empty if there is none.
std::string config_of(const std::string& header) {
    std::string config;
    try {
        JsonReader json(header, "");
        json.object([&](const std::string& name) {
            if (name != "__metadata__") return void(json.raw());
            json.object([&](const std::string& key) {
                const std::string value = json.text();
                if (key == "wavenet.config") config = value;
            });
        });
    } catch (const std::invalid_argument&) {}
    return config;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    std::minstd_rand random(seed);
    std::uint64_t length = 0;
    if (size >= 8)
        for (int i = 8; i-- > 0;) length = length << 8 | data[i];
    if (random() % 8 == 0 || size < 8 || length > size - 8) return LLVMFuzzerMutate(data, size, max_size);
    const std::string header(reinterpret_cast<char*>(data) + 8, std::size_t(length));
    std::string file;
    if (random() % 3 == 0) {
        const std::string values(reinterpret_cast<char*>(data) + 8 + length, size - 8 - std::size_t(length));
        file = file_of(mutated(header), values);
    } else {
        const std::string config = config_of(header);
        const std::string changed = random() % 2 ? with_other_number(config, random) : mutated(config);
        file = with_config(changed, random() % 4 != 0, random);
    }
    if (file.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
    std::memcpy(data, file.data(), file.size());
    return file.size();
}
#endif
