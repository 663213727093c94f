// How the library fails: with a message of one line. Not by `throw` itself, so that it can be compiled without exceptions.
#pragma once

#include <string>

namespace wavenet {

// Throws std::invalid_argument. Without exceptions (WebAssembly): keeps the message for `last_error`, and ends the program.
[[noreturn]] void fail(const std::string& message);

// The message of the last failure in this thread.
const char* last_error();
// Allocates nothing; a message is cut after 4,000 bytes.
void set_last_error(const char* message);

}  // namespace wavenet
