// Counts what a thread must not do in real time. Linux with glibc only: the program that links this replaces malloc and
// its relatives, and the functions of POSIX threads that take locks.
#pragma once

namespace wavenet {

// Of the calling thread, since `forbid`.
struct Violations {
    long allocations = 0;   // malloc, calloc, realloc, aligned_alloc, posix_memalign, free
    long locks = 0;         // of mutexes and read-write locks, and calls of condition variables
    long system_calls = 0;  // of any kind
    int system_call = -1;   // the number of the last one
};

// Counts from now on, for ever: system calls of this thread do nothing but count, except those that end the process or
// write to standard error. False: the system does not allow this, and they are not counted.
bool forbid();
Violations violations();

}  // namespace wavenet
