// What a model is read from: bytes in memory, or a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "model_file.h"

namespace wavenet {

class ModelSource {
public:
    ModelSource(std::string name, std::uint64_t size) : name(std::move(name)), size(size) {}
    virtual ~ModelSource() = default;
    // Copies `count` bytes from `offset` on, which are within the size; fails if the file has become shorter.
    virtual void read(std::uint64_t offset, void* bytes, std::size_t count) = 0;

    const std::string name;  // which errors begin with
    const std::uint64_t size;
};

ModelFile read_model(ModelSource& source);

}  // namespace wavenet
