#include "realtime_counters.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

thread_local bool counting = false;
thread_local wavenet::Violations found;

void allocates() {
    if (counting) ++found.allocations;
}

void locks() {
    if (counting) ++found.locks;
}

template <class Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

void on_system_call(int, siginfo_t* info, void*) {
    ++found.system_calls;
    found.system_call = info->si_syscall;
}

}  // namespace

extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

void* malloc(size_t size) {
    allocates();
    return __libc_malloc(size);
}
void* calloc(size_t n, size_t size) {
    allocates();
    return __libc_calloc(n, size);
}
void* realloc(void* old, size_t size) {
    allocates();
    return __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
    allocates();
    return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, size_t alignment, size_t size) {
    allocates();
    return (*result = __libc_memalign(alignment, size)) ? 0 : ENOMEM;
}
void free(void* memory) {
    if (memory) allocates();
    __libc_free(memory);
}

#define COUNTED(name, parameters, ...)                             \
    int name parameters {                                          \
        static auto* const original = next<int parameters>(#name); \
        locks();                                                   \
        return original(__VA_ARGS__);                              \
    }
COUNTED(pthread_mutex_lock, (pthread_mutex_t * lock), lock)
COUNTED(pthread_mutex_trylock, (pthread_mutex_t * lock), lock)
COUNTED(pthread_rwlock_rdlock, (pthread_rwlock_t * lock), lock)
COUNTED(pthread_rwlock_wrlock, (pthread_rwlock_t * lock), lock)
COUNTED(pthread_cond_wait, (pthread_cond_t * condition, pthread_mutex_t* lock), condition, lock)
COUNTED(pthread_cond_signal, (pthread_cond_t * condition), condition)
COUNTED(pthread_cond_broadcast, (pthread_cond_t * condition), condition)

}  // extern "C"

namespace wavenet {

bool forbid() {
    struct sigaction action = {};
    action.sa_sigaction = on_system_call;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, nullptr);
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STDERR_FILENO, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    const sock_fprog program = {sizeof filter / sizeof *filter, filter};
    counting = true;
    found = {};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

Violations violations() {
    counting = false;
    return found;
}

}  // namespace wavenet
