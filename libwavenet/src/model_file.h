// Model files: safetensors, with the configuration as JSON in the metadata.
//
//     8 bytes    length N of the header, little-endian
//     N bytes    JSON: the metadata, and dtype, shape and place of every tensor
//     the rest   the tensors' values, little-endian and row-major, one after the other without gaps
//
// Every file that is accepted here is accepted by wavenet.checkpoint.read_model, too. That also reads files which no
// program writes: with names that appear twice, or tensors with unknown fields.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "model_config.h"

namespace wavenet {

using TensorMap = std::map<std::string, std::vector<float>>;

struct ModelFile {
    ModelConfig config;
    TensorMap tensors;  // exactly those of config.shapes(), all finite
};

// Fails for anything but a complete generator. All sizes are checked before memory is allocated for the tensors.
ModelFile read_model(const void* bytes, std::size_t size);

// The same from a regular file, whose path errors begin with.
ModelFile read_model_file(const char* path);
// Whether a regular file can be opened; if not, `last_error` is the reason.
bool check_readable(const char* path);

}  // namespace wavenet
