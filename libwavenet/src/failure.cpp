#include "failure.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace wavenet {
namespace {

#ifndef __wasm__
thread_local
#endif
    char message_of_this_thread[4001];

}  // namespace

void fail(const std::string& message) {
#if defined(__cpp_exceptions)
    throw std::invalid_argument(message);
#else
    set_last_error(message.c_str());
    __builtin_trap();
#endif
}

const char* last_error() { return message_of_this_thread; }

void set_last_error(const char* message) {
    constexpr std::size_t MOST = sizeof message_of_this_thread - 1;
    std::size_t size = std::strlen(message);
    if (size > MOST)  // not inside a character
        for (size = MOST; size && (message[size] & 0xc0) == 0x80;) --size;
    std::memmove(message_of_this_thread, message, size);
    message_of_this_thread[size] = 0;
}

}  // namespace wavenet
