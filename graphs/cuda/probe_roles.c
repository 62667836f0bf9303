/* The roles of the probes' processes that have to do with shared memory and death. */
#include "graphs/cuda/probe_role.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOK_BYTES = 128 << 20, /* as large as a window of a real model */
    BUSY_MS = 1000,         /* how long the device is kept busy while something is mapped */
    AWAIT_MS = 20000,
    HEAR_MS = 60000,
    COUNT_LIMIT_S = 60,
    NUM_SAMPLES = 4
};

/* ------------------------------------------------------------------ what roles share */

eep_status probe_fail(probe_role *r, eep_status status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(r->say.text, sizeof(r->say.text), format, arguments);
    va_end(arguments);
    r->say.status = status;
    return status;
}

eep_status probe_check(probe_role *r, eep_status status, const char *what)
{
    if (status == EEP_OK)
        return EEP_OK;
    return probe_fail(r, status, "%s: %s %.250s", what, eep_strerror(status),
                      eepi_device_failure(r->device));
}

eep_status probe_open(probe_role *r)
{
    char name[128] = "host";
    const char *why = NULL;
    eep_status status = eep_device_open(r->how->device, 0, &r->device);

    if (status != EEP_OK)
        return probe_fail(r, status, "%s: %.300s", eep_strerror(status), eep_device_error_text());
    r->is_cuda = strcmp(r->how->device, "host") != 0;
    if (r->is_cuda)
        why = probe_kernels_load(0, name, sizeof(name));
    else
        eepi_device_set_apart(r->device);
    if (why)
        return probe_fail(r, EEP_ERR_DEVICE, "the probes' kernels: %s", why);
    snprintf(r->say.text, sizeof(r->say.text), "%s", name);
    return probe_check(r, eep_stream_open(r->device, &r->stream), "eep_stream_open");
}

void probe_close(probe_role *r)
{
    if (r->stream)
        eep_stream_close(r->stream);
    eep_device_close(r->device);
}

#define PROBE_HOST_TWIN(name)                                                                      \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        probe_##name##_body(args, grid);                                                           \
    }
PROBE_HOST_TWIN(store)
PROBE_HOST_TWIN(fill)
PROBE_HOST_TWIN(count)
PROBE_HOST_TWIN(ring)
PROBE_HOST_TWIN(gaps)

static const eep_kernel host_twins[PROBE_NUM_KERNELS] = {{"store", store_host, NULL},
                                                         {"fill", fill_host, NULL},
                                                         {"count", count_host, NULL},
                                                         {"ring", ring_host, NULL},
                                                         {"gaps", gaps_host, NULL}};

eep_status probe_launch(probe_role *r, eep_stream *stream, probe_kernel_id id, const void *args,
                        size_t args_bytes)
{
    const char *why;

    if (!r->is_cuda)
        return probe_check(r, eep_launch(stream, &host_twins[id], 1, 1, args, args_bytes),
                           host_twins[id].name);
    why = probe_kernel_launch(eep_stream_native(stream), id, PROBE_THREADS, args);
    return why ? probe_fail(r, EEP_ERR_DEVICE, "kernel %s: %s", host_twins[id].name, why) : EEP_OK;
}

eep_status probe_words(probe_role *r, size_t count, uint64_t **words_out)
{
    void *memory = NULL;
    eep_status status = probe_check(
        r, eep_device_alloc(r->device, EEP_MEMORY_PINNED, count * sizeof(uint64_t), &memory),
        "pinned memory");

    if (status == EEP_OK)
        *words_out = memory;
    return status;
}

eep_status probe_await(probe_role *r, const uint64_t *word, const char *what)
{
    uint64_t until_us = probe_now_us() + AWAIT_MS * 1000u;

    while (eepk_load_acquire(word) == 0) {
        if (probe_now_us() > until_us)
            return probe_fail(r, EEP_ERR_TIMEOUT, "%s did not begin within %d ms", what, AWAIT_MS);
        sched_yield();
    }
    return EEP_OK;
}

eep_status probe_say(probe_role *r)
{
    int sent = probe_send(r->socket, &r->say);

    memset(&r->say, 0, sizeof(r->say));
    return sent == 0 ? EEP_OK : EEP_ERR_UNREACHABLE;
}

eep_status probe_hear(probe_role *r, probe_message *message_out)
{
    return probe_receive(r->socket, HEAR_MS, message_out) == 0 ? EEP_OK : EEP_ERR_UNREACHABLE;
}

eepi_window_spec probe_spec(uint32_t generation)
{
    return (eepi_window_spec){PROBE_SEAT, generation, PROBE_WINDOW_BYTES, PROBE_HOST_BYTES};
}

uint64_t *probe_word(const eepi_window *window, size_t at)
{
    return (uint64_t *)((uint8_t *)eepi_window_device_address(window) + at);
}

static eep_status map_window(probe_role *r, const probe_message *asked, eepi_window **window_out)
{
    eepi_window_spec spec = probe_spec(asked->generation);
    char why[300] = "";
    eep_status status =
        eepi_window_map(r->device, &asked->window, &spec, why, sizeof(why), window_out);

    return status == EEP_OK ? EEP_OK : probe_fail(r, status, "mapping a window: %s", why);
}

/* ------------------------------------------------------------------ look: can this device share?
 */

typedef struct look_times {
    uint64_t first_us, second_us, third_us; /* sharing: make, map, close; allocating: device memory,
                                             * pinned memory, a stream, each with its end */
} look_times;
typedef eep_status (*look_fn)(probe_role *r, look_times *out);

static eep_status look_at_sharing(probe_role *r, look_times *out)
{
    eepi_share made = {0}, mapped = {0};
    char why[300] = "";
    uint64_t begin_us = probe_now_us(), made_us, mapped_us = 0;
    eep_status status = eepi_share_make(r->device, LOOK_BYTES, &made, why, sizeof(why));

    made_us = probe_now_us();
    if (status == EEP_OK)
        status = eepi_share_map(r->device, made.fd, made.mapped_bytes, &mapped, why, sizeof(why));
    mapped_us = probe_now_us();
    r->say.values[0] = made.mapped_bytes;
    eepi_share_close(r->device, &mapped);
    *out = (look_times){made_us - begin_us, mapped_us - made_us, probe_now_us() - mapped_us};
    eepi_share_close(r->device, &made);
    return status == EEP_OK ? EEP_OK : probe_fail(r, status, "sharing memory: %s", why);
}

/* What a joining rank of this process does at eep_open and eep_close. */
static eep_status look_at_allocating(probe_role *r, look_times *out)
{
    uint64_t begin_us = probe_now_us(), at_us[2] = {0, 0};
    eep_stream *stream = NULL;
    eep_status status = EEP_OK;

    for (int kind = 0; kind < 2 && status == EEP_OK; kind++) {
        eep_memory memory = kind == 0 ? EEP_MEMORY_DEVICE : EEP_MEMORY_PINNED;
        void *bytes = NULL;
        status =
            probe_check(r, eep_device_alloc(r->device, memory, LOOK_BYTES, &bytes), "allocating");
        eep_device_free(r->device, memory, bytes);
        at_us[kind] = probe_now_us();
    }
    if (status == EEP_OK)
        status = probe_check(r, eep_stream_open(r->device, &stream), "a third stream");
    eep_stream_close(stream);
    *out = (look_times){at_us[0] - begin_us, at_us[1] - at_us[0], probe_now_us() - at_us[1]};
    return status;
}

/* A thread that launches short kernels into a stream of its own, as a rank's steps go on while its
 * service thread maps a window. */
typedef struct stepper {
    probe_role role; /* a copy: its own answer */
    probe_fill_args fill;
    pthread_t thread;
    uint64_t longest_us; /* from a launch to its end */
    int stop;
    eep_status status;
} stepper;

static void *step_on(void *argument)
{
    stepper *s = argument;

    while (s->status == EEP_OK && !__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        uint64_t begin_us = probe_now_us(), us;
        s->status = probe_launch(&s->role, s->role.stream, PROBE_FILL, &s->fill, sizeof(s->fill));
        if (s->status == EEP_OK)
            s->status = probe_check(&s->role, eep_stream_synchronize(s->role.stream, PROBE_SYNC_US),
                                    "a short kernel");
        us = probe_now_us() - begin_us;
        s->longest_us = us > s->longest_us ? us : s->longest_us;
    }
    return NULL;
}

static eep_status look_while_stepping(probe_role *r, look_fn look_at, void *words, look_times *out,
                                      uint64_t *longest_us_out)
{
    stepper s = {.role = *r, .fill = {.words = words, .num_words = 64}};
    eep_status status =
        probe_check(r, eep_stream_open(r->device, &s.role.stream), "a second stream");

    if (status != EEP_OK)
        return status;
    if (pthread_create(&s.thread, NULL, step_on, &s) != 0)
        return probe_fail(r, EEP_ERR_SYSTEM, "no thread");
    status = look_at(r, out);
    __atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
    pthread_join(s.thread, NULL);
    eep_stream_close(s.role.stream);
    *longest_us_out = s.longest_us;
    if (status == EEP_OK && s.status != EEP_OK)
        status = probe_fail(r, s.status, "%.*s", PROBE_TEXT_BYTES - 1, s.role.say.text);
    return status;
}

/* The same while a kernel runs, and short ones are launched: does it wait for the one, do the
 * others wait for it? Values from `first` on: the times, did the kernel still run, the longest
 * launch. */
static eep_status look_while_busy(probe_role *r, look_fn look_at, int first)
{
    look_times times = {0};
    probe_store_args busy = {.num_words = 64, .limit_ns = BUSY_MS * 1000000ull};
    void *words = NULL;
    uint64_t *pinned = NULL;
    eep_status status = probe_check(r, eep_device_alloc(r->device, EEP_MEMORY_DEVICE, 4096, &words),
                                    "device memory");

    if (status == EEP_OK)
        status = probe_words(r, 2, &pinned);
    if (status != EEP_OK)
        return status;
    busy.words = words;
    busy.rounds = &pinned[0];
    busy.stop = &pinned[1];
    status = probe_launch(r, r->stream, PROBE_STORE, &busy, sizeof(busy));
    if (status == EEP_OK)
        status = probe_await(r, busy.rounds, "a kernel");
    if (status == EEP_OK)
        status = look_while_stepping(r, look_at, (uint64_t *)words + 64, &times,
                                     &r->say.values[first + 4]);
    r->say.values[first] = times.first_us;
    r->say.values[first + 1] = times.second_us;
    r->say.values[first + 2] = times.third_us;
    r->say.values[first + 3] = eep_stream_synchronize(r->stream, 0) == EEP_ERR_TIMEOUT;
    if (status == EEP_OK)
        status = probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US), "a busy device");
    return status;
}

/* Values: bytes mapped; make, map, close in us; the same on a busy device, did it stay busy, the
 * longest short kernel meanwhile in us; likewise for allocating. The text is the device's name. */
static eep_status look(probe_role *r)
{
    look_times idle = {0}, allocating = {0};
    eep_status status = look_at_sharing(r, &idle);

    if (status == EEP_OK)
        status = look_while_busy(r, look_at_sharing, 4);
    if (status == EEP_OK)
        status = look_at_allocating(r, &allocating);
    if (status == EEP_OK)
        status = look_while_busy(r, look_at_allocating, 12);
    if (status != EEP_OK)
        return status;
    r->say.values[1] = idle.first_us;
    r->say.values[2] = idle.second_us;
    r->say.values[3] = idle.third_us;
    r->say.values[9] = allocating.first_us;
    r->say.values[10] = allocating.second_us;
    r->say.values[11] = allocating.third_us;
    return probe_say(r);
}

/* ------------------------------------------------------------------ owner of a window */

static eep_status sample(probe_role *r, const eepi_window *window, uint64_t *pinned)
{
    static const uint32_t after_ms[NUM_SAMPLES] = {0, 50, 450, 500};
    eep_status status = EEP_OK;

    for (int i = 0; i < NUM_SAMPLES && status == EEP_OK; i++) {
        if (after_ms[i])
            probe_pause_ms(after_ms[i]);
        status = probe_check(
            r,
            eep_copy_async(r->stream, pinned, probe_word(window, PROBE_WORD_AT), sizeof(*pinned)),
            "reading the counter");
        if (status == EEP_OK)
            status = probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US),
                                 "reading the counter");
        r->say.values[i] = *pinned;
    }
    return status;
}

/* Says where its window is; whenever it is asked, says what its counter's word held at once, and
 * 50 ms, 0.5 s and 1 s later. */
static eep_status owner(probe_role *r)
{
    probe_message asked;
    eepi_window_spec spec;
    eepi_window *window;
    uint64_t *pinned = NULL;
    char why[300] = "";
    eep_status status = probe_hear(r, &asked);

    if (status == EEP_OK)
        status = probe_words(r, 1, &pinned);
    if (status != EEP_OK)
        return status;
    spec = probe_spec(asked.generation);
    status = eepi_window_create(r->device, &spec, why, sizeof(why), &window);
    if (status != EEP_OK)
        return probe_fail(r, status, "making a window: %s", why);
    eepi_window_describe(window, &r->say.window);
    r->say.generation = asked.generation;
    r->say.fd = eepi_window_device_fd(window);
    status = probe_say(r);
    while (status == EEP_OK) {
        status = probe_hear(r, &asked);
        if (status == EEP_OK)
            status = sample(r, window, pinned);
        if (status == EEP_OK)
            status = probe_say(r);
    }
    eepi_window_close(window);
    return status;
}

/* ------------------------------------------------------------------ survivor of an owner */

/* After the owner's end: new launches store into the window, and what they stored is there. */
static eep_status check_rows(probe_role *r, const eepi_window *window, uint64_t num_words,
                             uint64_t *wrong_out)
{
    probe_fill_args fill = {probe_word(window, PROBE_ROWS_AT), num_words, 1000003};
    uint64_t *copy = NULL;
    eep_status status = probe_words(r, num_words, &copy);

    if (status == EEP_OK)
        status = probe_launch(r, r->stream, PROBE_FILL, &fill, sizeof(fill));
    if (status == EEP_OK)
        status = probe_check(
            r, eep_copy_async(r->stream, copy, fill.words, num_words * sizeof(uint64_t)), "a copy");
    if (status == EEP_OK)
        status = probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US),
                             "storing after the owner's end");
    *wrong_out = 0;
    for (uint64_t i = 0; i < num_words && status == EEP_OK; i++)
        *wrong_out += copy[i] != fill.first + i;
    return status;
}

/* The successor of the owner is mapped while the kernel still stores into the old window. Says:
 * microseconds, is it at another address, does the kernel still run. */
static eep_status map_successor(probe_role *r, const eepi_window *old, eepi_window **window_out)
{
    probe_message asked;
    uint64_t begin_us;
    eep_status status = probe_hear(r, &asked);

    if (status != EEP_OK)
        return status;
    begin_us = probe_now_us();
    status = map_window(r, &asked, window_out);
    if (status != EEP_OK)
        return status;
    r->say.values[0] = probe_now_us() - begin_us;
    r->say.values[1] = eepi_window_device_address(*window_out) != eepi_window_device_address(old);
    r->say.values[2] = eep_stream_synchronize(r->stream, 0) == EEP_ERR_TIMEOUT;
    return probe_say(r);
}

/* Stores into another process's window for `seconds`, whatever becomes of that process. Says when
 * it has begun; then see map_successor; last: rounds stored, words wrong afterwards. */
static eep_status survivor(probe_role *r)
{
    uint64_t num_words = (PROBE_WINDOW_BYTES - PROBE_ROWS_AT) / sizeof(uint64_t), wrong = 0;
    probe_store_args store = {.num_words = num_words, .limit_ns = r->how->seconds * 1000000000ull};
    eepi_window *window = NULL, *successor = NULL;
    uint64_t *pinned = NULL;
    probe_message asked;
    eep_status status = probe_hear(r, &asked);

    if (status == EEP_OK)
        status = map_window(r, &asked, &window);
    if (status == EEP_OK)
        status = probe_words(r, 2, &pinned);
    if (status != EEP_OK)
        return status;
    store.words = probe_word(window, PROBE_ROWS_AT);
    store.rounds = &pinned[0];
    store.stop = &pinned[1];
    status = probe_launch(r, r->stream, PROBE_STORE, &store, sizeof(store));
    if (status == EEP_OK)
        status = probe_await(r, store.rounds, "the storing kernel");
    if (status == EEP_OK)
        status = probe_say(r);
    if (status == EEP_OK)
        status = map_successor(r, window, &successor);
    if (status == EEP_OK)
        status = probe_check(
            r, eep_stream_synchronize(r->stream, r->how->seconds * 1000000ull + PROBE_SYNC_US),
            "the storing kernel");
    if (status == EEP_OK)
        status = check_rows(r, window, num_words, &wrong);
    if (status != EEP_OK)
        return status;
    r->say.values[0] = pinned[0];
    r->say.values[1] = wrong;
    eepi_window_close(successor);
    eepi_window_close(window);
    return probe_say(r);
}

/* ------------------------------------------------------------------ counter, to be killed */

/* Counts in another process's window until it is killed; says when it has begun. */
static eep_status counter(probe_role *r)
{
    probe_count_args count = {.limit_ns = COUNT_LIMIT_S * 1000000000ull};
    eepi_window *window = NULL;
    probe_message asked;
    eep_status status = probe_hear(r, &asked);

    if (status == EEP_OK)
        status = map_window(r, &asked, &window);
    if (status == EEP_OK)
        status = probe_words(r, 1, &count.progress);
    if (status != EEP_OK)
        return status;
    count.counter = probe_word(window, PROBE_WORD_AT);
    status = probe_launch(r, r->stream, PROBE_COUNT, &count, sizeof(count));
    if (status == EEP_OK)
        status = probe_await(r, count.progress, "the counting kernel");
    if (status == EEP_OK)
        status = probe_say(r);
    if (status == EEP_OK)
        status = probe_hear(r, &asked); /* nobody asks: it is killed here */
    return status;
}

/* ------------------------------------------------------------------ which role */

int probe_role_run(const probe_how *how, int socket)
{
    static const struct {
        const char *name;
        eep_status (*play)(probe_role *r);
    } roles[] = {{"look", look},       {"owner", owner},     {"survivor", survivor},
                 {"counter", counter}, {"ring", probe_ring}, {"spin", probe_spin}};
    probe_role r = {.how = how, .socket = socket};
    eep_status status = EEP_ERR_INVALID;
    size_t i = 0;

    while (i < sizeof(roles) / sizeof(roles[0]) && strcmp(roles[i].name, how->role) != 0)
        i++;
    if (i < sizeof(roles) / sizeof(roles[0]))
        status = probe_open(&r);
    if (status == EEP_OK)
        status = roles[i].play(&r);
    if (status == EEP_OK) {
        probe_close(&r);
        return EXIT_SUCCESS;
    }
    if (!r.device)
        r.say.values[0] = PROBE_NO_DEVICE;
    /* a kernel may still run: nothing is closed under it, the process's end takes all */
    r.say.status = status;
    (void)probe_send(socket, &r.say);
    return EXIT_FAILURE;
}
