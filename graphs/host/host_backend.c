/* The host backend. A stream is a ring of entries and one worker thread that runs them in order; a
 * graph is an array of nodes with their argument bytes, run as one entry.
 *
 *     callers --put--> ring[put % RING_ENTRIES] ... ring[done % RING_ENTRIES] --run--> worker
 *
 * An event is a place in a stream: it happens when `done` of the stream it was recorded in reaches
 * what `put` was then. So recording costs no entry, and an event that is recorded again, perhaps in
 * another stream, never releases a waiter of its earlier record too soon. A wait always refers to
 * entries put before it; hence waits of streams for one another form no cycle.
 *
 * The device's own state is its guard: none on "host"; on "guarded" it keeps device memory and
 * shares from all but what streams run. */
#include "graphs/device/device_share.h"
#include "graphs/host/host_guard.h"
#include "graphs/kernels/kernels.h"
#include "graphs/base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RING_ENTRIES = 1024, ALIGNMENT_BYTES = 128, SPIN_YIELDS = 8 };
static const uint64_t default_limit_us = 60000000;

/* How far a stream is. Outlives the stream while events refer to it. */
typedef struct host_line {
    pthread_mutex_t lock;
    pthread_cond_t advanced;
    uint64_t put, done; /* entries so far; written under the lock, done by the worker only */
    uint64_t wake_at;   /* the lowest `done` that somebody sleeps for; UINT64_MAX: nobody does */
    int failed;         /* gave up waiting for an event; runs nothing more */
    uint32_t refs;
} host_line;

typedef struct host_event {
    pthread_mutex_t lock;
    host_line *line; /* of the stream it was last recorded in; NULL: never recorded */
    uint64_t target; /* it happens when line->done reaches this */
} host_event;

typedef struct host_graph host_graph;

typedef enum entry_kind {
    ENTRY_LAUNCH,
    ENTRY_COPY,
    ENTRY_CALL,
    ENTRY_WAIT,
    ENTRY_GRAPH
} entry_kind;

typedef struct entry_head {
    entry_kind kind;
    uint32_t num_blocks;
    union {
        void (*run)(const void *args, eep_grid grid); /* LAUNCH */
        void (*call)(void *user);                     /* CALL */
        host_line *line;                              /* WAIT: a reference */
        host_graph *graph;                            /* GRAPH */
        const void *from;                             /* COPY */
    };
    void *to_or_user; /* COPY, CALL */
    uint64_t size;    /* COPY: bytes; WAIT: the target */
} entry_head;

typedef struct entry {
    entry_head head;
    _Alignas(16) uint8_t args[EEP_KERNEL_ARGS_MAX_BYTES]; /* LAUNCH */
} entry;

struct host_graph {
    entry *nodes;
    uint32_t num_nodes, capacity;
    eep_status status; /* the first node that could not be recorded */
    uint32_t refs;     /* the handle, and replays that are under way; atomic */
};

typedef struct host_stream {
    pthread_t worker;
    host_line *line;
    pthread_cond_t filled; /* with line->lock; only the worker sleeps on it */
    int stop;
    uint64_t limit_us;
    eepi_host_guard *guard; /* of the device; NULL: none */
    host_graph *capture;    /* NULL: not capturing */
    entry ring[RING_ENTRIES];
} host_stream;

static struct timespec deadline_after(uint64_t timeout_us)
{
    struct timespec until;
    uint64_t us;

    clock_gettime(CLOCK_MONOTONIC, &until);
    us = (uint64_t)until.tv_nsec / 1000u + timeout_us % 1000000u;
    until.tv_sec += (time_t)(timeout_us / 1000000u + us / 1000000u);
    until.tv_nsec = (long)(us % 1000000u) * 1000;
    return until;
}

static eep_status cond_open(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    int failed;

    if (pthread_condattr_init(&attributes) != 0) {
        return EEP_ERR_SYSTEM;
    }
    failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) ||
             pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed ? EEP_ERR_SYSTEM : EEP_OK;
}

/* ------------------------------------------------------------------ device and memory */

static eep_status host_open(int ordinal, void **device_out, char *why_out, size_t why_bytes)
{
    if (ordinal != 0) {
        snprintf(why_out, why_bytes, "the host backend has one device, number 0, not %d", ordinal);
        return EEP_ERR_UNSUPPORTED;
    }
    *device_out = NULL; /* no guard */
    return EEP_OK;
}

static eep_status guarded_open(int ordinal, void **device_out, char *why_out, size_t why_bytes)
{
    eepi_host_guard *guard;
    eep_status status = host_open(ordinal, device_out, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_host_guard_open(&guard);
    if (status == EEP_OK) {
        *device_out = guard;
    } else {
        snprintf(why_out, why_bytes, "no addresses for guarded memory");
    }
    return status;
}

static void host_close(void *device)
{
    eepi_host_guard_close(device);
}

static eep_status watch_share(eepi_host_guard *guard, eepi_share *share, char *why_out,
                              size_t why_bytes)
{
    if (eepi_host_guard_watch(guard, share->address, share->mapped_bytes) == EEP_OK) {
        return EEP_OK;
    }
    eepi_host_share_close(NULL, share);
    snprintf(why_out, why_bytes, "out of memory");
    return EEP_ERR_NO_MEMORY;
}

/* What of a share is reached at the device's side is for its kernels. */
static eep_status guarded_share_make(void *device, size_t bytes, eepi_share *share_out,
                                     char *why_out, size_t why_bytes)
{
    eep_status status = eepi_host_share_make(NULL, bytes, share_out, why_out, why_bytes);

    return status == EEP_OK ? watch_share(device, share_out, why_out, why_bytes) : status;
}

static eep_status guarded_share_map(void *device, int fd, size_t mapped_bytes,
                                    eepi_share *share_out, char *why_out, size_t why_bytes)
{
    eep_status status = eepi_host_share_map(NULL, fd, mapped_bytes, share_out, why_out, why_bytes);

    return status == EEP_OK ? watch_share(device, share_out, why_out, why_bytes) : status;
}

static void guarded_share_close(void *device, eepi_share *share)
{
    eepi_host_guard_unwatch(device, share->address);
    eepi_host_share_close(NULL, share);
}

static eep_status host_alloc(void *device, eep_memory kind, size_t bytes, void **memory_out)
{
    size_t rounded = (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    void *memory;

    if (rounded < bytes) {
        return EEP_ERR_NO_MEMORY;
    }
    if (device && kind == EEP_MEMORY_DEVICE) {
        return eepi_host_guard_alloc(device, rounded, memory_out);
    }
    memory = aligned_alloc(ALIGNMENT_BYTES, rounded);
    if (!memory) {
        return EEP_ERR_NO_MEMORY;
    }
    memset(memory, 0, rounded);
    *memory_out = memory;
    return EEP_OK;
}

static void host_free(void *device, eep_memory kind, void *memory)
{
    if (!device ||
        kind != EEP_MEMORY_DEVICE) { /* the guard keeps what it gave until it is closed */
        free(memory);
    }
}

/* ------------------------------------------------------------------ lines */

static host_line *line_open(void)
{
    host_line *line = calloc(1, sizeof *line);

    if (!line) {
        return NULL;
    }
    if (cond_open(&line->advanced) != EEP_OK) {
        free(line);
        return NULL;
    }
    pthread_mutex_init(&line->lock, NULL);
    line->wake_at = UINT64_MAX;
    line->refs = 1;
    return line;
}

static void line_unref(host_line *line)
{
    if (!line || __atomic_sub_fetch(&line->refs, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    pthread_cond_destroy(&line->advanced);
    pthread_mutex_destroy(&line->lock);
    free(line);
}

/* Called with the lock. The worker wakes sleepers only when it reaches what one of them needs. */
static eep_status line_wait_locked(host_line *line, uint64_t target, const struct timespec *until)
{
    while (line->done < target) {
        if (target < line->wake_at) {
            line->wake_at = target;
        }
        if (pthread_cond_timedwait(&line->advanced, &line->lock, until) == ETIMEDOUT &&
            line->done < target) {
            return EEP_ERR_TIMEOUT;
        }
    }
    return line->failed ? EEP_ERR_DEVICE : EEP_OK;
}

/* Short work ends before a sleep would. */
static void line_spin(const host_line *line, uint64_t target)
{
    for (int i = 0; i < SPIN_YIELDS && __atomic_load_n(&line->done, __ATOMIC_RELAXED) < target;
         i++) {
        sched_yield();
    }
}

static eep_status line_wait(host_line *line, uint64_t target, uint64_t timeout_us)
{
    struct timespec until = deadline_after(timeout_us);
    eep_status status;

    pthread_mutex_lock(&line->lock);
    status = line_wait_locked(line, target, &until);
    pthread_mutex_unlock(&line->lock);
    return status;
}

/* ------------------------------------------------------------------ the worker */

static void run_node(const entry *e)
{
    if (e->head.kind == ENTRY_COPY) {
        memcpy(e->head.to_or_user, e->head.from, e->head.size);
        return;
    }
    eepi_kernel_begin();
    for (uint32_t block = 0; block < e->head.num_blocks; block++) {
        e->head.run(e->args, (eep_grid){block, e->head.num_blocks, 0, 1});
    }
    eepi_kernel_end();
}

/* EEP_OK, or why the stream cannot keep its order any more. */
static eep_status run_entry(const host_stream *s, const entry *e)
{
    switch (e->head.kind) {
    case ENTRY_LAUNCH:
    case ENTRY_COPY:
        eepi_host_guard_enter(s->guard);
        run_node(e);
        eepi_host_guard_leave(s->guard);
        return EEP_OK;
    case ENTRY_CALL:
        e->head.call(e->head.to_or_user);
        return EEP_OK;
    case ENTRY_WAIT:
        return line_wait(e->head.line, e->head.size, s->limit_us);
    case ENTRY_GRAPH:
        eepi_host_guard_enter(s->guard);
        for (uint32_t i = 0; i < e->head.graph->num_nodes; i++) {
            run_node(&e->head.graph->nodes[i]);
        }
        eepi_host_guard_leave(s->guard);
        return EEP_OK;
    }
    return EEP_ERR_DEVICE;
}

/* Wait for an entry; 0 when there is none and the stream closes. A step follows the last one
 * closely, so look a few times before sleeping. An idle worker's sleep ends with the stream. */
static int next_entry(host_stream *s)
{
    host_line *line = s->line;
    int found;

    for (int i = 0; i < SPIN_YIELDS; i++) {
        if (__atomic_load_n(&line->put, __ATOMIC_ACQUIRE) != line->done) {
            return 1; /* partner: put() */
        }
        sched_yield();
    }
    pthread_mutex_lock(&line->lock);
    while (line->put == line->done && !s->stop) {
        pthread_cond_wait(&s->filled, &line->lock);
    }
    found = line->put != line->done;
    pthread_mutex_unlock(&line->lock);
    return found;
}

static void host_graph_close(void *graph)
{
    host_graph *g = graph;

    if (!g || __atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    free(g->nodes);
    free(g);
}

static void *work(void *argument)
{
    host_stream *s = argument;
    host_line *line = s->line;
    eep_status status = EEP_OK;

    while (next_entry(s)) {
        const entry *e = &s->ring[line->done % RING_ENTRIES];

        if (status == EEP_OK) {
            status = run_entry(s, e);
        }
        if (e->head.kind == ENTRY_WAIT) {
            line_unref(e->head.line);
        }
        if (e->head.kind == ENTRY_GRAPH) {
            host_graph_close(e->head.graph);
        }
        pthread_mutex_lock(&line->lock);
        /* all effects of the entry are ordered before what a waiter does next */
        __atomic_store_n(&line->done, line->done + 1, __ATOMIC_RELEASE);
        line->failed = status != EEP_OK;
        if (line->done >= line->wake_at) {
            line->wake_at = UINT64_MAX;
            pthread_cond_broadcast(&line->advanced);
        }
        pthread_mutex_unlock(&line->lock);
    }
    return NULL;
}

/* ------------------------------------------------------------------ streams */

static eep_status host_stream_open(void *device, void **stream_out)
{
    host_stream *s = calloc(1, sizeof *s);
    eep_status status = EEP_ERR_NO_MEMORY;

    if (!s) {
        return EEP_ERR_NO_MEMORY;
    }
    s->guard = device;
    s->limit_us = default_limit_us;
    s->line = line_open();
    if (!s->line) {
        goto free_stream;
    }
    status = cond_open(&s->filled);
    if (status != EEP_OK) {
        goto close_line;
    }
    status = eepi_thread_start(&s->worker, "eep-stream", EEPI_STACK_BYTES_WORKER, work, s);
    if (status != EEP_OK) {
        goto close_cond;
    }
    *stream_out = s;
    return EEP_OK;

close_cond:
    pthread_cond_destroy(&s->filled);
close_line:
    line_unref(s->line);
free_stream:
    free(s);
    return status;
}

static void host_stream_close(void *stream)
{
    host_stream *s = stream;

    pthread_mutex_lock(&s->line->lock);
    s->stop = 1;
    pthread_cond_signal(&s->filled);
    pthread_mutex_unlock(&s->line->lock);
    pthread_join(s->worker, NULL);
    host_graph_close(s->capture);
    pthread_cond_destroy(&s->filled);
    line_unref(s->line);
    free(s);
}

static eep_status host_stream_synchronize(void *stream, uint64_t timeout_us)
{
    host_line *line = ((host_stream *)stream)->line;
    struct timespec until = deadline_after(timeout_us);
    eep_status status;

    line_spin(line, __atomic_load_n(&line->put, __ATOMIC_RELAXED));
    pthread_mutex_lock(&line->lock);
    status = line_wait_locked(line, line->put, &until);
    pthread_mutex_unlock(&line->lock);
    return status;
}

static void *host_stream_native(void *stream)
{
    return stream;
}

static eep_status host_stream_adopt(void *device, void *native, void **stream_out)
{
    (void)device;
    *stream_out = native;
    return EEP_OK;
}

static void host_stream_disown(void *stream)
{
    (void)stream;
}

/* Captured, put into and looked at by one thread then. */
static int host_stream_is_captured(void *stream)
{
    return ((const host_stream *)stream)->capture != NULL;
}

static void host_stream_set_limit(void *stream, uint64_t limit_us)
{
    ((host_stream *)stream)->limit_us = limit_us;
}

static void entry_fill(entry *e, const entry_head *head, const void *args, size_t args_bytes)
{
    e->head = *head;
    if (args_bytes) {
        memcpy(e->args, args, args_bytes);
    }
}

static eep_status append_node(host_graph *g, const entry_head *head, const void *args,
                              size_t args_bytes)
{
    if (g->num_nodes == g->capacity) {
        uint32_t capacity = g->capacity ? 2 * g->capacity : 64;
        entry *nodes = realloc(g->nodes, capacity * sizeof *nodes);

        if (!nodes) {
            return g->status = EEP_ERR_NO_MEMORY;
        }
        g->nodes = nodes;
        g->capacity = capacity;
    }
    entry_fill(&g->nodes[g->num_nodes++], head, args, args_bytes);
    return EEP_OK;
}

/* Into the graph that is being captured, or into the ring. Publishes the entry's bytes with `put`;
 * partner: next_entry. */
static eep_status put(host_stream *s, const entry_head *head, const void *args, size_t args_bytes)
{
    host_line *line = s->line;
    eep_status status = EEP_OK;

    if (s->capture) {
        return append_node(s->capture, head, args, args_bytes);
    }
    pthread_mutex_lock(&line->lock);
    if (line->put - line->done == RING_ENTRIES) {
        struct timespec until = deadline_after(s->limit_us);

        while (status == EEP_OK && line->put - line->done == RING_ENTRIES) {
            status = line_wait_locked(line, line->put - RING_ENTRIES + 1, &until);
        }
    }
    if (status == EEP_OK && line->failed) {
        status = EEP_ERR_DEVICE;
    }
    if (status == EEP_OK) {
        entry_fill(&s->ring[line->put % RING_ENTRIES], head, args, args_bytes);
        __atomic_store_n(&line->put, line->put + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&line->lock);
    if (status == EEP_OK) {
        pthread_cond_signal(&s->filled); /* not under the lock, which the worker wants at once */
    }
    return status;
}

static eep_status host_copy(void *stream, void *to, const void *from, size_t bytes)
{
    entry_head head = {.kind = ENTRY_COPY, .to_or_user = to, .from = from, .size = bytes};

    return put(stream, &head, NULL, 0);
}

static eep_status host_launch(void *stream, const eep_kernel *kernel, uint32_t num_blocks,
                              uint32_t num_threads, const void *args, size_t args_bytes)
{
    entry_head head = {.kind = ENTRY_LAUNCH, .run = kernel->host, .num_blocks = num_blocks};

    (void)num_threads;
    if (!kernel->host) {
        return EEP_ERR_UNSUPPORTED;
    }
    return put(stream, &head, args, args_bytes);
}

static eep_status host_stream_run_on_worker(void *stream, void (*fn)(void *user), void *user)
{
    entry_head head = {.kind = ENTRY_CALL, .call = fn, .to_or_user = user};

    return put(stream, &head, NULL, 0);
}

/* ------------------------------------------------------------------ events */

static eep_status host_event_open(void *device, void **event_out)
{
    host_event *event = calloc(1, sizeof *event);

    (void)device;
    if (!event) {
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&event->lock, NULL);
    *event_out = event;
    return EEP_OK;
}

static void host_event_close(void *event)
{
    host_event *e = event;

    line_unref(e->line);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static eep_status host_event_record(void *event, void *stream)
{
    host_event *e = event;
    host_line *line = ((host_stream *)stream)->line, *before;

    __atomic_add_fetch(&line->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&e->lock);
    before = e->line;
    e->line = line;
    e->target = __atomic_load_n(&line->put, __ATOMIC_ACQUIRE);
    pthread_mutex_unlock(&e->lock);
    line_unref(before);
    return EEP_OK;
}

/* Where the event's last record is, with a reference; NULL if it was never recorded. */
static host_line *event_place(host_event *e, uint64_t *target_out)
{
    host_line *line;

    pthread_mutex_lock(&e->lock);
    line = e->line;
    *target_out = e->target;
    if (line) {
        __atomic_add_fetch(&line->refs, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&e->lock);
    return line;
}

static eep_status host_stream_wait_event(void *stream, void *event)
{
    entry_head head = {.kind = ENTRY_WAIT};
    eep_status status;

    head.line = event_place(event, &head.size);
    if (!head.line) {
        return EEP_OK;
    }
    status = put(stream, &head, NULL, 0);
    if (status != EEP_OK) {
        line_unref(head.line);
    }
    return status;
}

static eep_status host_event_synchronize(void *event, uint64_t timeout_us)
{
    uint64_t target;
    host_line *line = event_place(event, &target);
    eep_status status;

    if (!line) {
        return EEP_OK;
    }
    line_spin(line, target);
    status = line_wait(line, target, timeout_us);
    line_unref(line);
    return status;
}

/* ------------------------------------------------------------------ graphs */

static eep_status host_capture_begin(void *stream)
{
    host_stream *s = stream;

    s->capture = calloc(1, sizeof *s->capture);
    if (!s->capture) {
        return EEP_ERR_NO_MEMORY;
    }
    s->capture->refs = 1;
    return EEP_OK;
}

static eep_status host_capture_end(void *stream, void **graph_out, uint32_t *num_nodes_out)
{
    host_stream *s = stream;
    host_graph *graph = s->capture;
    eep_status status = graph->status;

    s->capture = NULL;
    if (status != EEP_OK) {
        host_graph_close(graph);
        return status;
    }
    *graph_out = graph;
    *num_nodes_out = graph->num_nodes;
    return EEP_OK;
}

static eep_status host_graph_replay(void *graph, void *stream)
{
    entry_head head = {.kind = ENTRY_GRAPH, .graph = graph};
    eep_status status;

    __atomic_fetch_add(&head.graph->refs, 1, __ATOMIC_RELAXED);
    status = put(stream, &head, NULL, 0);
    if (status != EEP_OK) {
        host_graph_close(graph);
    }
    return status;
}

/* All but how it is opened, and how memory is shared, is the same with a guard and without. */
#define HOST_OPS(open_function, make_function, map_function, close_function)                       \
    {                                                                                              \
        .open = (open_function), .share_make = (make_function), .share_map = (map_function),       \
        .share_close = (close_function), .close = host_close, .alloc = host_alloc,                 \
        .free = host_free, .stream_open = host_stream_open, .stream_close = host_stream_close,     \
        .stream_synchronize = host_stream_synchronize, .stream_adopt = host_stream_adopt,          \
        .stream_disown = host_stream_disown, .stream_is_captured = host_stream_is_captured,        \
        .stream_native = host_stream_native, .stream_wait_event = host_stream_wait_event,          \
        .stream_run_on_worker = host_stream_run_on_worker,                                         \
        .stream_set_limit = host_stream_set_limit, .event_open = host_event_open,                  \
        .event_close = host_event_close, .event_record = host_event_record,                        \
        .event_synchronize = host_event_synchronize, .copy = host_copy, .launch = host_launch,     \
        .capture_begin = host_capture_begin, .capture_end = host_capture_end,                      \
        .graph_replay = host_graph_replay, .graph_close = host_graph_close                         \
    }
static const eepi_device_ops host_ops =
    HOST_OPS(host_open, eepi_host_share_make, eepi_host_share_map, eepi_host_share_close);
static const eepi_device_ops guarded_ops =
    HOST_OPS(guarded_open, guarded_share_make, guarded_share_map, guarded_share_close);

const eepi_device_backend eepi_host_backend = {
    .version = EEPI_BACKEND_VERSION,
    .num_kernels = EEPI_NUM_KERNELS,
    .name = "host",
    .ops = &host_ops,
    .kernels = eepi_host_kernels,
};

const eepi_device_backend eepi_guarded_backend = {
    .version = EEPI_BACKEND_VERSION,
    .num_kernels = EEPI_NUM_KERNELS,
    .name = "guarded",
    .ops = &guarded_ops,
    .kernels = eepi_host_kernels,
    .is_discrete = 1,
};
