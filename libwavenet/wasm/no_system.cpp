// What the library and the C++ library need of an operating system, where there is none: WebAssembly with memory as its
// only import. The functions of WASI are defined here instead of imported; nothing calls them but the way to a trap.
#include <cstdint>

#include "../src/failure.h"
#include "../src/model_file.h"
#include "../src/parallel_step.h"

namespace wavenet {

bool check_readable(const char*) {
    set_last_error("there are no files here: open the bytes of the model instead");
    return false;
}
ModelFile read_model_file(const char*) { fail("there are no files here: open the bytes of the model instead"); }

// Always one thread.
template <class P>
std::unique_ptr<ParallelStep> make_parallel_step(const Network<P>&, Memory<P>&, int) {
    return nullptr;
}
template std::unique_ptr<ParallelStep> make_parallel_step(const Network<Float32>&, Memory<Float32>&, int);
template std::unique_ptr<ParallelStep> make_parallel_step(const Network<Int8>&, Memory<Int8>&, int);

}  // namespace wavenet

// The names under which wasi-libc would import the functions of WASI.
#define WASI(name) __imported_wasi_snapshot_preview1_##name

extern "C" {

constexpr std::int32_t SUCCESS = 0, NOT_SUPPORTED = 58;

// An environment without variables.
std::int32_t WASI(environ_sizes_get)(std::int32_t* count, std::int32_t* size) {
    *count = *size = 0;
    return SUCCESS;
}
std::int32_t WASI(environ_get)(std::int32_t, std::int32_t) { return SUCCESS; }

std::int32_t WASI(fd_close)(std::int32_t) { return NOT_SUPPORTED; }
std::int32_t WASI(fd_seek)(std::int32_t, std::int64_t, std::int32_t, std::int32_t) { return NOT_SUPPORTED; }
std::int32_t WASI(fd_write)(std::int32_t, std::int32_t, std::int32_t, std::int32_t) { return NOT_SUPPORTED; }
int close(int) { return -1; }  // Zig's own calls WASI under another name
[[noreturn]] void WASI(proc_exit)(std::int32_t) { __builtin_trap(); }

}  // extern "C"
