/* A device that is kept busy, and a thread whose short kernels have to get on beside that. */
#include "graphs/cuda/probe_role.h"

enum { BUSY_WORDS = 64 };

eep_status probe_busy_begin(probe_role *r, uint32_t limit_ms, probe_busy *busy_out)
{
    probe_store_args args = {.num_words = BUSY_WORDS, .limit_ns = limit_ms * 1000000ull};
    void *words = NULL;
    uint64_t *pinned = NULL;
    eep_status status = probe_check(
        r, eep_device_alloc(r->device, EEP_MEMORY_DEVICE, BUSY_WORDS * sizeof(uint64_t), &words),
        "device memory");

    if (status == EEP_OK)
        status = probe_words(r, 2, &pinned);
    if (status != EEP_OK)
        return status;
    args.words = words;
    args.rounds = &pinned[0];
    args.stop = &pinned[1];
    *busy_out = (probe_busy){&pinned[1]};
    status = probe_launch(r, r->stream, PROBE_STORE, &args, sizeof(args));
    return status == EEP_OK ? probe_await(r, args.rounds, "a kernel") : status;
}

int probe_busy_goes_on(probe_role *r)
{
    return eep_stream_synchronize(r->stream, 0) == EEP_ERR_TIMEOUT;
}

eep_status probe_busy_end(probe_role *r, probe_busy *busy)
{
    eepk_store_release(busy->stop, 1);
    return probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US), "a busy device");
}

static void *step_on(void *argument)
{
    probe_stepper *s = argument;

    while (s->status == EEP_OK && !__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        uint32_t phase = __atomic_load_n(&s->phase, __ATOMIC_RELAXED);
        uint64_t begin_us = probe_now_us(), us;
        s->status = probe_launch(&s->role, s->role.stream, PROBE_FILL, &s->fill, sizeof(s->fill));
        if (s->status == EEP_OK)
            s->status = probe_check(&s->role, eep_stream_synchronize(s->role.stream, PROBE_SYNC_US),
                                    "a short kernel");
        us = probe_now_us() - begin_us;
        s->longest_us[phase] = us > s->longest_us[phase] ? us : s->longest_us[phase];
        s->num_launches++;
        phase = __atomic_load_n(&s->phase, __ATOMIC_RELAXED); /* it may have held this one up */
        s->longest_us[phase] = us > s->longest_us[phase] ? us : s->longest_us[phase];
    }
    return NULL;
}

eep_status probe_stepper_begin(probe_role *r, probe_stepper *s)
{
    void *words = NULL;
    eep_status status;

    *s = (probe_stepper){.role = *r};
    status = probe_check(r, eep_stream_open(r->device, &s->role.stream), "a second stream");
    if (status == EEP_OK)
        status = probe_check(
            r,
            eep_device_alloc(r->device, EEP_MEMORY_DEVICE, BUSY_WORDS * sizeof(uint64_t), &words),
            "device memory");
    if (status != EEP_OK)
        return status;
    s->fill = (probe_fill_args){.words = words, .num_words = BUSY_WORDS};
    return pthread_create(&s->thread, NULL, step_on, s) == 0
               ? EEP_OK
               : probe_fail(r, EEP_ERR_SYSTEM, "no thread");
}

void probe_stepper_phase(probe_stepper *s, uint32_t phase)
{
    __atomic_store_n(&s->phase, phase, __ATOMIC_RELAXED);
}

eep_status probe_stepper_end(probe_role *r, probe_stepper *s)
{
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
    pthread_join(s->thread, NULL);
    eep_stream_close(s->role.stream);
    return s->status == EEP_OK
               ? EEP_OK
               : probe_fail(r, s->status, "%.*s", PROBE_TEXT_BYTES - 1, s->role.say.text);
}
