#include "model_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "failure.h"
#include "json.h"
#include "model_source.h"

namespace wavenet {
namespace {

constexpr std::uint64_t LENGTH_SIZE = 8;
constexpr std::uint64_t MAX_HEADER = 100'000'000;  // bytes, as in the safetensors package
constexpr std::size_t MAX_DIMENSIONS = 4;          // of a tensor; those of models have three

// A tensor as the header describes it.
struct Entry {
    std::string dtype;
    std::vector<double> shape;  // as it is written: integers
    double begin = 0, end = 0;  // bytes after the header
};

struct Header {
    std::map<std::string, Entry> tensors;
    std::map<std::string, std::string> metadata;  // of this toolkit
    std::uint64_t size = 0;                       // bytes from the file's start to the first tensor's values
};

class MemorySource : public ModelSource {
public:
    MemorySource(const void* bytes, std::size_t size)
        : ModelSource("model file", size), bytes_(static_cast<const unsigned char*>(bytes)) {}
    void read(std::uint64_t offset, void* bytes, std::size_t count) override {
        if (count) std::memcpy(bytes, bytes_ + offset, count);
    }

private:
    const unsigned char* const bytes_;
};

[[noreturn]] void refuse(const ModelSource& source, const std::string& reason) { fail(source.name + ": " + reason); }

[[noreturn]] void refuse_incomplete(const ModelSource& source, const std::string& reason) {
    refuse(source, "not a complete .safetensors file, perhaps truncated (" + reason + ")");
}

double read_size(JsonReader& json) {
    if (json.kind() != JsonReader::Kind::NUMBER) json.refuse("no number");
    const JsonNumber number = json.number();
    if (!number.integer || std::signbit(number.value)) json.refuse("a number that is not a size");
    return number.value;
}

std::string read_text(JsonReader& json) {
    if (json.kind() != JsonReader::Kind::TEXT) json.refuse("no text");
    return json.text();
}

std::vector<double> read_sizes(JsonReader& json, std::size_t most) {
    std::vector<double> sizes;
    json.array([&] {
        if (sizes.size() == most) json.refuse("too many numbers");
        sizes.push_back(read_size(json));
    });
    return sizes;
}

Entry read_entry(JsonReader& json) {
    Entry entry;
    int fields = 0;
    json.object([&](const std::string& field) {
        ++fields;
        if (field == "dtype") {
            entry.dtype = read_text(json);
        } else if (field == "shape") {
            entry.shape = read_sizes(json, MAX_DIMENSIONS);
        } else if (field == "data_offsets") {
            const std::vector<double> offsets = read_sizes(json, 2);
            if (offsets.size() != 2) json.refuse("not two offsets");
            entry.begin = offsets[0];
            entry.end = offsets[1];
        } else {
            json.refuse("an unknown field of a tensor");
        }
    });
    if (fields != 3) json.refuse("a tensor without dtype, shape or data_offsets");
    return entry;
}

// Refuses a file whose length is not that of a header: a pickle, which a header's length could begin like, or part of one.
[[noreturn]] void refuse_start(ModelSource& source, const std::string& reason) {
    unsigned char start[4] = {};
    source.read(0, start, std::min<std::uint64_t>(source.size, sizeof start));
    if (std::memcmp(start, "PK\3\4", 4) == 0 || (start[0] == 0x80 && start[1] >= 2 && start[1] <= 5))
        refuse(source, "a PyTorch pickle, which can run code when read; only .safetensors model files are read");
    refuse_incomplete(source, reason);
}

Header read_header(ModelSource& source) {
    static constexpr char KEPT[] = "wavenet.";
    unsigned char length[LENGTH_SIZE];
    if (source.size < LENGTH_SIZE) refuse_start(source, "its header is cut short");
    source.read(0, length, LENGTH_SIZE);
    std::uint64_t size = 0;
    for (int i = LENGTH_SIZE; i-- > 0;) size = size << 8 | length[i];
    if (size > MAX_HEADER) refuse_start(source, "its header is too long");
    if (size > source.size - LENGTH_SIZE) refuse_start(source, "its header is cut short");

    std::string text(std::size_t(size), '\0');
    source.read(LENGTH_SIZE, text.data(), text.size());
    Header header;
    header.size = LENGTH_SIZE + size;
    JsonReader json(text, source.name + ": not a complete .safetensors file: its header");
    json.object([&](const std::string& name) {
        if (name != "__metadata__") {
            header.tensors.emplace(name, read_entry(json));
        } else if (json.kind() == JsonReader::Kind::NOTHING) {
            json.nothing();
        } else {
            json.object([&](const std::string& key) {
                std::string value = read_text(json);
                if (key.compare(0, sizeof KEPT - 1, KEPT) == 0) header.metadata.emplace(key, std::move(value));
            });
        }
    });
    json.end();
    return header;
}

ModelConfig read_metadata(const Header& header, const ModelSource& source) {
    const auto value = [&](const char* name) -> std::optional<std::string> {
        const auto found = header.metadata.find(name);
        if (found == header.metadata.end()) return std::nullopt;
        return found->second;
    };
    if (value("wavenet.network") == "labeller")
        refuse(source, "a labeller, which generates no audio: use it with wavenet label");
    const auto config = value("wavenet.config");
    if (!config) refuse(source, "not a model of this toolkit (its metadata has no wavenet.config)");
    const auto format = value("wavenet.format");
    if (format != "1")
        refuse(source,
               "file format " + shown(format.value_or("none")) + "; this version reads '1': a newer one may read it");
    return read_config(*config, source.name + ": its configuration");
}

std::uint64_t values_of(const std::vector<std::size_t>& shape) {
    std::uint64_t product = 1;
    for (std::size_t size : shape) product *= size;  // at most 2^48: see the ranges of a configuration
    return product;
}

std::size_t value_size(const Entry& entry) { return entry.dtype == "F16" ? 2 : 4; }

// Refuses tensors that are missing, extra, misshapen, or not placed one after the other up to the end of the file.
void check_tensors(const Header& header, const Shapes& shapes, const ModelSource& source) {
    for (const auto& [name, shape] : shapes)
        if (!header.tensors.count(name)) refuse(source, "the tensor " + shown(name) + " is missing");
    struct Place {
        double begin, end;
        const std::string* name;
    };
    std::vector<Place> places;
    for (const auto& [name, entry] : header.tensors) {
        const auto expected = shapes.find(name);
        if (expected == shapes.end()) refuse(source, "the tensor " + shown(name) + " does not belong to this network");
        const auto same = [](double found, std::size_t size) { return found == double(size); };
        if ((entry.dtype != "F32" && entry.dtype != "F16") ||
            !std::equal(entry.shape.begin(), entry.shape.end(), expected->second.begin(), expected->second.end(),
                        same)) {
            std::string sizes;
            for (std::size_t size : expected->second) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
            refuse(source, "the tensor " + shown(name) +
                               " has another type or shape than its configuration requires, F32 or F16 [" + sizes +
                               "]");
        }
        if (entry.end - entry.begin != double(values_of(expected->second) * value_size(entry)))
            refuse_incomplete(source, "the offsets of the tensor " + shown(name) + " do not fit its shape");
        places.push_back({entry.begin, entry.end, &name});
    }
    std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.begin < b.begin; });
    double end = 0;
    for (const Place& place : places) {
        if (place.begin != end) refuse_incomplete(source, "the tensor " + shown(*place.name) + " is not at its place");
        end = place.end;
    }
    if (end != double(source.size - header.size)) refuse_incomplete(source, "the tensors do not fill it");
}

float from_half(unsigned bits) {  // IEEE 754, 16 bits
    const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3FF;
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * float(fraction) * 0x1p-24f;
    const unsigned single = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
    float value;
    std::memcpy(&value, &single, sizeof value);
    return value;
}

float from_single(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

std::vector<float> read_values(ModelSource& source, std::uint64_t offset, std::size_t count, bool half) {
    std::vector<unsigned char> bytes(count * (half ? 2 : 4));
    source.read(offset, bytes.data(), bytes.size());
    std::vector<float> values(count);
    const unsigned char* b = bytes.data();
    for (float& value : values) {
        if (half) {
            value = from_half(b[0] | unsigned(b[1]) << 8);
            b += 2;
        } else {
            value =
                from_single(b[0] | std::uint32_t(b[1]) << 8 | std::uint32_t(b[2]) << 16 | std::uint32_t(b[3]) << 24);
            b += 4;
        }
    }
    return values;
}

}  // namespace

ModelFile read_model(ModelSource& source) {
    if (!source.size) refuse(source, "the file is empty");
    const Header header = read_header(source);
    ModelFile model;
    model.config = read_metadata(header, source);
    const Shapes shapes = model.config.shapes();
    check_tensors(header, shapes, source);
    for (const auto& [name, entry] : header.tensors) {
        const auto offset = header.size + std::uint64_t(entry.begin);
        const auto count = std::size_t(values_of(shapes.at(name)));  // it fits: the file is that large
        std::vector<float> values = read_values(source, offset, count, entry.dtype == "F16");
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
            refuse(source, "the tensor " + shown(name) + " contains NaN or infinity: its training diverged");
        model.tensors.emplace(name, std::move(values));
    }
    return model;
}

ModelFile read_model(const void* bytes, std::size_t size) {
    MemorySource source(bytes, size);
    return read_model(source);
}

}  // namespace wavenet
