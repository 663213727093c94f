#include "failure.h"

#include <stdexcept>

namespace wavenet {
namespace {

std::string& message_of_this_thread() {
#ifdef __wasm__
    static std::string message;
#else
    static thread_local std::string message;
#endif
    return message;
}

}  // namespace

void fail(const std::string& message) {
#if defined(__cpp_exceptions)
    throw std::invalid_argument(message);
#else
    set_last_error(message);
    __builtin_trap();
#endif
}

const std::string& last_error() { return message_of_this_thread(); }
void set_last_error(const std::string& message) { message_of_this_thread() = message; }

}  // namespace wavenet
