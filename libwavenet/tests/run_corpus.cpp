// Runs a fuzzing target on the files that are given, without libFuzzer: fuzz_model tests/corpus/model/*
#include <cstdint>
#include <cstdio>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** paths) {
    for (int i = 1; i < count; ++i) {
        std::FILE* const file = std::fopen(paths[i], "rb");
        if (!file) {
            std::perror(paths[i]);
            return 1;
        }
        std::vector<std::uint8_t> bytes;
        for (int byte; (byte = std::fgetc(file)) != EOF;) bytes.push_back(std::uint8_t(byte));
        std::fclose(file);
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%d files\n", count - 1);
    return 0;
}
