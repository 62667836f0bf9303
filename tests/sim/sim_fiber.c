/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers, virtual time and the order of events. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__) || !defined(__x86_64__)
#define SIM_UCONTEXT 1
#include <ucontext.h>
#else
#define SIM_UCONTEXT 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_BYTES = 64 * 1024,
    BIG_STACK_BYTES = 640 * 1024, /* the planner takes 0.3 MB */
    WAIT_BUCKETS = 1024,
    MAX_FIBERS = 1 << 14,
};

struct sim_fiber {
    sim_process *process;
    void *(*fn)(void *);
    void *argument;
    void *stack;
    size_t stack_bytes;
#if SIM_UCONTEXT
    ucontext_t context;
#else
    void *sp;
#endif
    uint64_t wait; /* number of its present wait: events of earlier ones are void */
    const void *key;
    int timed_out, over, scheduled, runs_kernels;
    sim_fiber *next_waiting, *before_waiting;
};

typedef struct event {
    uint64_t at_us, sequence;
    sim_fiber *fiber; /* NULL: a call */
    uint64_t number;
    int timeout;
    void (*fn)(void *user, uint64_t number);
    void *user;
} event;

sim_world *sim;

static sim_fiber *fibers[MAX_FIBERS];
static int num_fibers;
static sim_fiber *current;
static event *heap;
static int num_events, max_events;
static uint64_t sequence;
static struct {
    sim_fiber *first, *last;
} waiting[WAIT_BUCKETS];
/* stacks are kept from seed to seed */
static void *stacks[2][MAX_FIBERS];
static int num_stacks[2];
#if SIM_UCONTEXT
static ucontext_t scheduler;
#else
static void *scheduler_sp;
#endif
#if defined(__SANITIZE_ADDRESS__)
static const void *scheduler_stack;
static size_t scheduler_bytes;
#endif

/* ------------------------------------------------------------------ events */

static int is_before(const event *a, const event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void push(event e)
{
    int at = num_events++;

    if (num_events > max_events) {
        max_events = max_events ? 2 * max_events : 4096;
        heap = realloc(heap, (size_t)max_events * sizeof *heap);
        if (!heap) {
            abort();
        }
    }
    e.sequence = ++sequence;
    for (; at > 0 && is_before(&e, &heap[(at - 1) / 2]); at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = e;
}

static event pop(void)
{
    event first = heap[0], last = heap[--num_events];
    int at = 0;

    for (;;) {
        int child = 2 * at + 1;
        if (child + 1 < num_events && is_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (child >= num_events || !is_before(&heap[child], &last)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

void sim_after(uint64_t delay_us, void (*fn)(void *user, uint64_t number), void *user,
               uint64_t number)
{
    push((event){.at_us = sim->now_us + delay_us, .fn = fn, .user = user, .number = number});
}

/* ------------------------------------------------------------------ switching */

static void fiber_main(void)
{
    sim_fiber *f = current;

#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_bytes);
#endif
    (void)f->fn(f->argument);
    f->over = 1;
    sim_wake(f, 1000);
    (void)sim_wait(NULL, SIM_NEVER); /* never comes back */
    abort();
}

#if !SIM_UCONTEXT
/* Save the callee's registers and stack pointer in *save, go on at `load`. */
void sim_switch(void **save, void *load);
__asm__(".text\n.globl sim_switch\n.type sim_switch,@function\nsim_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size sim_switch,.-sim_switch\n");
#endif

static void to_scheduler(void)
{
    sim_fiber *f = current;

#if SIM_UCONTEXT
#if defined(__SANITIZE_ADDRESS__)
    void *fake;
    __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_bytes);
#endif
    swapcontext(&f->context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_bytes);
#endif
#else
    sim_switch(&f->sp, scheduler_sp);
#endif
}

static void to_fiber(sim_fiber *f)
{
    current = f;
#if SIM_UCONTEXT
#if defined(__SANITIZE_ADDRESS__)
    void *fake;
    __sanitizer_start_switch_fiber(&fake, f->stack, f->stack_bytes);
#endif
    swapcontext(&scheduler, &f->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
#else
    sim_switch(&scheduler_sp, f->sp);
#endif
    current = NULL;
}

static void *stack_new(int big)
{
    size_t bytes = big ? BIG_STACK_BYTES : STACK_BYTES;
    void *stack;

    if (num_stacks[big] > 0) {
        return stacks[big][--num_stacks[big]];
    }
    stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        abort();
    }
    return stack;
}

static void fiber_prepare(sim_fiber *f)
{
#if SIM_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->stack_bytes;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
#else
    uint64_t *top = (uint64_t *)((uint8_t *)f->stack + f->stack_bytes) - 2;
    void (*entry)(void) = fiber_main;

    *--top = 0; /* a return address for fiber_main, which keeps the stack aligned */
    memcpy(--top, &entry, sizeof(entry));
    for (int i = 0; i < 6; i++) {
        *--top = 0;
    }
    f->sp = top;
#endif
}

/* ------------------------------------------------------------------ sleeping and waking */

static size_t bucket_of(const void *key)
{
    return (size_t)((uintptr_t)key * 0x9e3779b97f4a7c15u >> 50) % WAIT_BUCKETS;
}

static void leave_bucket(sim_fiber *f)
{
    size_t at = bucket_of(f->key);

    if (f->before_waiting) {
        f->before_waiting->next_waiting = f->next_waiting;
    } else {
        waiting[at].first = f->next_waiting;
    }
    if (f->next_waiting) {
        f->next_waiting->before_waiting = f->before_waiting;
    } else {
        waiting[at].last = f->before_waiting;
    }
    f->key = f->next_waiting = f->before_waiting = NULL;
}

static void schedule(sim_fiber *f, uint64_t at_us, int timeout)
{
    push((event){.at_us = at_us, .fiber = f, .number = f->wait, .timeout = timeout});
}

int sim_wait(const void *key, uint64_t until_us)
{
    sim_fiber *f = current;

    f->wait++;
    f->timed_out = 0;
    f->key = key;
    if (key) {
        size_t at = bucket_of(key);
        f->next_waiting = NULL;
        f->before_waiting = waiting[at].last;
        if (waiting[at].last) {
            waiting[at].last->next_waiting = f;
        } else {
            waiting[at].first = f;
        }
        waiting[at].last = f;
    }
    if (until_us != SIM_NEVER) {
        schedule(f, until_us > sim->now_us ? until_us : sim->now_us, 1);
    }
    to_scheduler();
    return f->timed_out;
}

void sim_wake(const void *key, int most)
{
    sim_fiber *f = waiting[bucket_of(key)].first, *next;

    for (; f && most > 0; f = next) {
        next = f->next_waiting;
        if (f->key != key) {
            continue;
        }
        leave_bucket(f);
        f->wait++; /* its timeout is void */
        schedule(f, sim->now_us + sim_delay(1, 200) + sim_random(f->process->slow_us + 1), 0);
        most--;
    }
}

void sim_sleep(uint64_t us)
{
    (void)sim_wait(NULL, sim->now_us + us + sim_random(current->process->slow_us + 1));
}

void sim_point(void)
{
    sim_process *p = sim_self();

    if (!p) {
        return;
    }
    if (p->freeze_in > 0 && --p->freeze_in == 0) {
        sim_trace("%d.%u freezes for %llu us", p->seat, p->generation,
                  (unsigned long long)p->freeze_us);
        sim_process_stop(p, p->freeze_us);
        sim_sleep(0);
    } else if (sim_random(1000) < (uint64_t)sim->point_of_1000) {
        sim_sleep(sim_delay(10, 3000));
    }
}

sim_process *sim_self(void)
{
    return current ? current->process : NULL;
}

sim_fiber *sim_fiber_self(void)
{
    return current;
}

int sim_fiber_is_over(const sim_fiber *f)
{
    return f->over;
}

void sim_fiber_runs_kernels(sim_fiber *f)
{
    f->runs_kernels = 1;
}

sim_fiber *sim_spawn(sim_process *p, void *(*fn)(void *), void *argument, size_t stack_bytes)
{
    sim_fiber *f = calloc(1, sizeof *f);
    int big = stack_bytes > STACK_BYTES;

    if (!f || num_fibers == MAX_FIBERS) {
        abort();
    }
    f->process = p;
    f->fn = fn;
    f->argument = argument;
    f->stack = stack_new(big);
    f->stack_bytes = big ? BIG_STACK_BYTES : STACK_BYTES;
    fiber_prepare(f);
    fibers[num_fibers++] = f;
    schedule(f, sim->now_us + sim_delay(1, 300), 0);
    return f;
}

static void run_fiber(const event *e)
{
    sim_fiber *f = e->fiber;
    sim_process *p = f->process;

    if (f->over || e->number != f->wait) {
        return;
    }
    if (!p->alive && !(f->runs_kernels && sim_process_may_store(p))) {
        return;
    }
    if (sim->now_us < p->stopped_until_us) {
        event later = *e;
        later.at_us = p->stopped_until_us;
        push(later);
        return;
    }
    if (f->key) {
        leave_bucket(f);
    }
    f->timed_out = e->timeout;
    to_fiber(f);
}

int sim_run(uint64_t until_us, int (*done)(void))
{
    while (num_events > 0 && heap[0].at_us <= until_us && !sim->failed) {
        event e = pop();
        sim->now_us = e.at_us;
        if (e.fiber) {
            run_fiber(&e);
        } else {
            e.fn(e.user, e.number);
        }
        if (done && done()) {
            return 1;
        }
    }
    if (!sim->failed) {
        sim->now_us = until_us;
    }
    return 0;
}

/* ------------------------------------------------------------------ worlds */

void sim_world_open(const sim_options *options)
{
    sim = calloc(1, sizeof *sim);
    if (!sim) {
        abort();
    }
    sim->options = *options;
    sim->random = options->seed * 0x9e3779b97f4a7c15u + 1;
    sim->now_us = 1000000;
    num_events = num_fibers = 0;
    heap = NULL;
    max_events = 0;
    sequence = 0;
    memset(waiting, 0, sizeof waiting);
}

void sim_world_close(void)
{
    for (int i = 0; i < num_fibers; i++) {
        int big = fibers[i]->stack_bytes > STACK_BYTES;
        stacks[big][num_stacks[big]++] = fibers[i]->stack;
    }
    sim_fds_reset();
    sim_process_forget();
    sim_memory_reset();
    sim = NULL;
}
