// Model files by their path: the only file of the reader that needs an operating system.
#include <sys/stat.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "failure.h"
#include "json.h"
#include "model_file.h"
#include "model_source.h"

namespace wavenet {
namespace {

#ifdef _WIN32
using FileStatus = struct _stat64;
int status_of(const char* path, FileStatus& status) { return _stat64(path, &status); }
int seek(std::FILE* file, std::uint64_t offset) { return _fseeki64(file, std::int64_t(offset), SEEK_SET); }
#else
using FileStatus = struct stat;
int status_of(const char* path, FileStatus& status) { return stat(path, &status); }
int seek(std::FILE* file, std::uint64_t offset) { return fseeko(file, off_t(offset), SEEK_SET); }
#endif

bool refused(const char* path, const std::string& reason) {
    set_last_error((printable(path) + ": " + reason).c_str());
    return false;
}

// The size of a regular file; a pipe would wait for a writer.
bool size_of(const char* path, std::uint64_t& size) {
    FileStatus status;
    if (status_of(path, status) != 0) {
        if (errno == ENOENT) return refused(path, "no such file");
        return refused(path, std::string("cannot be read (") + std::strerror(errno) + ")");
    }
    if ((status.st_mode & S_IFMT) == S_IFDIR) return refused(path, "a folder; name the .safetensors file in it");
    if ((status.st_mode & S_IFMT) != S_IFREG) return refused(path, "cannot be read (not a regular file)");
    size = std::uint64_t(status.st_size);
    return true;
}

class FileSource : public ModelSource {
public:
    FileSource(const char* path, std::FILE* file, std::uint64_t size)
        : ModelSource(printable(path), size), file_(file) {}
    ~FileSource() override { std::fclose(file_); }
    FileSource(const FileSource&) = delete;
    FileSource& operator=(const FileSource&) = delete;

    void read(std::uint64_t offset, void* bytes, std::size_t count) override {
        if (seek(file_, offset) != 0 || std::fread(bytes, 1, count, file_) != count)
            fail(name + ": cannot be read, or has been cut short since it was opened");
    }

private:
    std::FILE* const file_;
};

std::FILE* open(const char* path, std::uint64_t& size) {
    if (!size_of(path, size)) return nullptr;
    std::FILE* const file = std::fopen(path, "rb");
    if (!file) refused(path, std::string("cannot be read (") + std::strerror(errno) + ")");
    return file;
}

}  // namespace

bool check_readable(const char* path) {
    std::uint64_t size;
    std::FILE* const file = open(path, size);
    if (file) std::fclose(file);
    return file != nullptr;
}

ModelFile read_model_file(const char* path) {
    std::uint64_t size = 0;
    std::FILE* const file = open(path, size);
    if (!file) fail(last_error());
    FileSource source(path, file, size);
    return read_model(source);
}

}  // namespace wavenet
