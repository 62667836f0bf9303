/* SPDX-License-Identifier: Apache-2.0 */
/* What libeep calls of the system, linked with --wrap: inside a fiber it is simulated. */
#include "tests/sim/parts/sim_lines.h"
#include "transport/holder/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 1000000, MAX_FDS = 1 << 16, PREEMPT_OF = 64 };

/* ------------------------------------------------------------------ memory */

/* What a killed process held is freed when its world ends. */
typedef struct block {
    struct block *next, *before;
    void *memory; /* as malloc gave it */
    size_t size;
} block;

static block *blocks;

void *__real_malloc(size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

static void *take(size_t alignment, size_t size)
{
    size_t all = size + sizeof(block) + alignment;
    uint8_t *memory = __real_malloc(all);
    uint8_t *at;
    block *b;

    if (!memory) {
        return NULL;
    }
    at = (uint8_t *)(((uintptr_t)memory + sizeof(block) + alignment - 1) &
                     ~(uintptr_t)(alignment - 1));
    b = (block *)at - 1;
    *b = (block){blocks, NULL, memory, size};
    if (blocks) {
        blocks->before = b;
    }
    blocks = b;
    return at;
}

void *__wrap_malloc(size_t size)
{
    return take(16, size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    size_t all = count * size + sizeof(block) + 16;
    uint8_t *memory = __real_calloc(1, all);
    block *b = (block *)memory;

    if (!memory) {
        return NULL;
    }
    *b = (block){blocks, NULL, memory, count * size};
    if (blocks) {
        blocks->before = b;
    }
    blocks = b;
    return b + 1;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return take(alignment, size);
}

void __wrap_free(void *memory)
{
    block *b;

    if (!memory) {
        return;
    }
    b = (block *)memory - 1;
    if (b->next) {
        b->next->before = b->before;
    }
    if (b->before) {
        b->before->next = b->next;
    } else {
        blocks = b->next;
    }
    __real_free(b->memory);
}

char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
    char *copy = __wrap_malloc(strlen(text) + 1);

    return copy ? strcpy(copy, text) : NULL;
}

void *__wrap_realloc(void *memory, size_t size)
{
    void *grown = __wrap_malloc(size);

    if (grown && memory) {
        size_t kept = ((block *)memory - 1)->size;
        memcpy(grown, memory, kept < size ? kept : size);
        __wrap_free(memory);
    }
    return grown;
}

void sim_memory_reset(void)
{
    while (blocks) {
        block *next = blocks->next;
        __real_free(blocks->memory);
        blocks = next;
    }
}

/* ------------------------------------------------------------------ time */

uint64_t sim_local_us(const sim_process *p)
{
    int64_t skew = (int64_t)sim->now_us * p->drift_ppm / 1000000;

    return sim->now_us + p->offset_us + (uint64_t)skew;
}

uint64_t sim_global_us(const sim_process *p, uint64_t local_us)
{
    uint64_t now = sim_local_us(p), left;

    if (local_us <= now) {
        return sim->now_us;
    }
    left = local_us - now;
    if (left > 86400000000u) {
        return SIM_NEVER;
    }
    return sim->now_us + left * 1000000u / (uint64_t)(1000000 + p->drift_ppm) + 1;
}

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    sim_process *p = sim ? sim_self() : NULL;
    uint64_t us;

    if (!p) {
        return __real_clock_gettime(clock, now);
    }
    us = sim_local_us(p);
    *now = (struct timespec){(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};
    return 0;
}

int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
    return 0; /* who needs it sleeps on a condition next */
}

int __wrap_nanosleep(const struct timespec *nap, struct timespec *left);
int __wrap_nanosleep(const struct timespec *nap, struct timespec *left)
{
    (void)left;
    sim_sleep((uint64_t)nap->tv_sec * 1000000u + (uint64_t)nap->tv_nsec / 1000u);
    return 0;
}

pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void)
{
    return sim_self() ? sim_self()->pid : 1;
}

/* Fibers share what is one thread's: the mark of one that runs a kernel would be everybody's. */
void __wrap_eepi_kernel_begin(void);
void __wrap_eepi_kernel_begin(void)
{
}

void __wrap_eepi_kernel_end(void);
void __wrap_eepi_kernel_end(void)
{
}

/* ------------------------------------------------------------------ locks and conditions */

typedef struct lock_word {
    uint32_t locked;
} lock_word;

static int preemption_off;

void sim_no_preemption(int off)
{
    preemption_off = off;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    (void)attributes;
    memset(mutex, 0, sizeof *mutex);
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

/* Other threads of the process may come in between before a lock is taken. */
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    lock_word *word = (lock_word *)mutex;

    if (!sim_self()) {
        return 0;
    }
    if (!preemption_off && sim_random(PREEMPT_OF) == 0) {
        sim_sleep(sim_delay(1, 400));
    }
    while (word->locked) {
        (void)sim_wait(word, SIM_NEVER);
    }
    word->locked = 1;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    ((lock_word *)mutex)->locked = 0;
    if (sim_self()) {
        sim_wake(mutex, 1);
        sim_network_point();
    }
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes);
int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes)
{
    (void)attributes;
    memset(cond, 0, sizeof *cond);
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *cond);
int __wrap_pthread_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    sim_wake(cond, 1);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
    sim_wake(cond, 1000);
    return 0;
}

static int wait_on(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_us)
{
    int late;

    __wrap_pthread_mutex_unlock(mutex);
    late = sim_wait(cond, until_us);
    while (((lock_word *)mutex)->locked) {
        (void)sim_wait(mutex, SIM_NEVER);
    }
    ((lock_word *)mutex)->locked = 1;
    return late ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    return wait_on(cond, mutex, SIM_NEVER);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    uint64_t local_us = (uint64_t)until->tv_sec * 1000000u + (uint64_t)until->tv_nsec / 1000u;

    return wait_on(cond, mutex, sim_global_us(sim_self(), local_us));
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *),
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *),
                          void *argument)
{
    sim_fiber *fiber = sim_spawn(sim_self(), fn, argument, 640 * 1024);

    (void)attributes;
    if (sim_self()->starts_kernels) {
        sim_fiber_runs_kernels(fiber);
    }
    memcpy(thread, &fiber, sizeof *thread < sizeof fiber ? sizeof *thread : sizeof fiber);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result)
{
    sim_fiber *fiber;

    (void)result;
    memcpy(&fiber, &thread, sizeof fiber);
    while (!sim_fiber_is_over(fiber)) {
        (void)sim_wait(fiber, SIM_NEVER);
    }
    return 0;
}

/* Futexes: eep_step_wait naps on its window's doorbell. And no slices: a fiber has none. */
long __wrap_syscall(long number, uint32_t *word, int operation, uint32_t value,
                    const struct timespec *nap, void *unused, uint32_t unused3);
long __wrap_syscall(long number, uint32_t *word, int operation, uint32_t value,
                    const struct timespec *nap, void *unused, uint32_t unused3)
{
    (void)unused;
    (void)unused3;
    if (number == SYS_sched_getattr) {
        return -1;
    }
    if (number == SYS_pidfd_open) { /* of the process itself */
        return sim_fd_new(SIM_FD_PROCESS, sim_self());
    }
    if (number != SYS_futex) {
        abort();
    }
    if (operation == FUTEX_WAKE) {
        sim_wake(word, (int)value);
    } else if (*word == value) {
        uint64_t us = (uint64_t)nap->tv_sec * 1000000u + (uint64_t)nap->tv_nsec / 1000u;
        (void)sim_wait(word, sim_global_us(sim_self(), sim_local_us(sim_self()) + us));
    }
    return 0;
}

/* ------------------------------------------------------------------ descriptors */

static struct {
    sim_fd_kind kind;
    void *what;
    uint64_t count;
} fds[MAX_FDS];
static int num_fds;

int sim_fd_new(sim_fd_kind kind, void *what)
{
    if (num_fds == MAX_FDS) {
        abort();
    }
    fds[num_fds].kind = kind;
    fds[num_fds].what = what;
    fds[num_fds].count = 0;
    return FIRST_FD + num_fds++;
}

void *sim_fd_what(int fd)
{
    return fd >= FIRST_FD ? fds[fd - FIRST_FD].what : NULL;
}

sim_fd_kind sim_fd_kind_of(int fd)
{
    return fd >= FIRST_FD ? fds[fd - FIRST_FD].kind : SIM_FD_NONE;
}

int sim_fd_copy(int fd)
{
    return sim_fd_new(fds[fd - FIRST_FD].kind, fds[fd - FIRST_FD].what);
}

void sim_fd_become(int fd, int other)
{
    fds[fd - FIRST_FD] = fds[other - FIRST_FD];
}

/* count: the descriptor in it, and 1 */
void sim_fd_put_into_set(int set, int fd)
{
    fds[set - FIRST_FD].count = (uint64_t)(fd + 1);
}

/* Real descriptors, of checkpoint files in memory: a process that crashes closes nothing, so they
 * go at the end of the history. */
enum { MAX_FILES = 512 };
static int files[MAX_FILES], num_files;

int __real_close(int fd);
void sim_file_keep(int fd)
{
    if (num_files == MAX_FILES) {
        abort();
    }
    files[num_files++] = fd;
}

void sim_fds_reset(void)
{
    num_fds = 0;
    while (num_files > 0) {
        __real_close(files[--num_files]);
    }
}

/* What the product asks of simulated descriptors is that they do not block, and they do not. */
int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (fd >= FIRST_FD) {
        return command == F_GET_SEALS ? EEPI_HOLDER_SEALS : 0;
    }
    return __real_fcntl64(fd, command, argument);
}

int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
    (void)count;
    (void)flags;
    return sim_fd_new(SIM_FD_EVENT, sim_self());
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (sim_fd_kind_of(fd) == SIM_FD_LINE) {
        sim_line_close(fd);
    } else if (sim_fd_kind_of(fd) == SIM_FD_LISTENER) {
        sim_line_unlisten(fd);
    }
    if (fd >= FIRST_FD) {
        fds[fd - FIRST_FD].kind = SIM_FD_NONE;
    }
    return 0;
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    (void)bytes;
    fds[fd - FIRST_FD].count++;
    sim_wake(&((sim_process *)fds[fd - FIRST_FD].what)->poll_key, SIM_POLLERS);
    return (ssize_t)size;
}

ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size)
{
    (void)bytes;
    fds[fd - FIRST_FD].count = 0;
    return (ssize_t)size;
}

static int is_ready(int fd)
{
    int at = fd - FIRST_FD;

    if (fd < FIRST_FD) {
        return 0;
    }
    switch (fds[at].kind) {
    case SIM_FD_EVENT:
        return fds[at].count > 0;
    case SIM_FD_PROCESS:
        return !((sim_process *)fds[at].what)->alive &&
               sim->now_us >= ((sim_process *)fds[at].what)->gone_us;
    case SIM_FD_STORE:
        return sim_store_is_readable(fds[at].what);
    case SIM_FD_BULK:
        return sim_bulk_is_readable(fds[at].what);
    case SIM_FD_LINE:
        return sim_line_is_readable(fds[at].what);
    case SIM_FD_LISTENER:
        return sim_listener_is_readable(fds[at].what);
    case SIM_FD_SET:
        return fds[at].count > 0 && is_ready((int)fds[at].count - 1);
    default:
        return 0;
    }
}

int __wrap_poll(struct pollfd *set, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *set, nfds_t n, int timeout_ms)
{
    sim_process *p = sim_self();
    uint64_t until = sim_global_us(p, sim_local_us(p) + (uint64_t)timeout_ms * 1000u);
    int ready, late = timeout_ms == 0;

    for (;;) {
        ready = 0;
        for (nfds_t i = 0; i < n; i++) {
            set[i].revents = is_ready(set[i].fd) ? POLLIN : 0;
            ready += set[i].revents != 0;
        }
        if (ready || late) {
            return ready;
        }
        late = sim_wait(&p->poll_key, until);
    }
}
