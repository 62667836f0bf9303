/* SPDX-License-Identifier: Apache-2.0 */
/* A device that is kept busy, and a thread whose short kernels have to get on beside that. */
#include "tests/gpu/probe/probe_role.h"

enum { BUSY_WORDS = 64 };

eep_status probe_busy_open(probe_role *r, probe_busy *busy_out)
{
    void *words = NULL;
    uint64_t *pinned = NULL;
    eep_status status = probe_check(
        r, eep_device_alloc(r->device, EEP_MEMORY_DEVICE, BUSY_WORDS * sizeof(uint64_t), &words),
        "device memory");

    if (status == EEP_OK) {
        status = probe_words(r, 2, &pinned);
    }
    if (status == EEP_OK) {
        *busy_out = (probe_busy){
            {.words = words, .rounds = &pinned[0], .stop = &pinned[1], .num_words = BUSY_WORDS}};
    }
    return status;
}

eep_status probe_busy_begin(probe_role *r, uint32_t limit_ms, probe_busy *busy)
{
    uint64_t *words = busy->args.rounds; /* and behind it the word that stops it */
    eep_status status;

    eepk_store_release(&words[0], 0);
    eepk_store_release(&words[1], 0);
    busy->args.limit_ns = limit_ms * 1000000ull;
    status = probe_launch(r, r->stream, PROBE_STORE, &busy->args, sizeof busy->args);
    return status == EEP_OK ? probe_await(r, words, "a kernel") : status;
}

int probe_busy_goes_on(probe_role *r)
{
    return eep_stream_synchronize(r->stream, 0) == EEP_ERR_TIMEOUT;
}

eep_status probe_busy_end(probe_role *r, probe_busy *busy)
{
    eepk_store_release(busy->args.rounds + 1, 1);
    return probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US), "a busy device");
}

static void *step_on(void *argument)
{
    probe_stepper *s = argument;

    while (s->status == EEP_OK && !__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        uint32_t phase = __atomic_load_n(&s->phase, __ATOMIC_ACQUIRE);
        uint64_t begin_us = eepi_now_us(), us;
        __atomic_store_n(&s->begun_us, begin_us, __ATOMIC_RELEASE);
        s->status = probe_launch(&s->role, s->role.stream, PROBE_FILL, &s->fill, sizeof s->fill);
        if (s->status == EEP_OK) {
            s->status = probe_check(&s->role, eep_stream_synchronize(s->role.stream, PROBE_SYNC_US),
                                    "a short kernel");
        }
        us = eepi_now_us() - begin_us;
        __atomic_store_n(&s->begun_us, 0, __ATOMIC_RELEASE);
        eepk_keep_largest(&s->longest_us[phase], us);
    }
    return NULL;
}

eep_status probe_stepper_open(probe_role *r, probe_stepper *s)
{
    void *words = NULL;
    eep_status status;

    *s = (probe_stepper){.role = *r};
    status = probe_check(r, eep_stream_open(r->device, &s->role.stream), "a second stream");
    if (status == EEP_OK) {
        status = probe_check(
            r,
            eep_device_alloc(r->device, EEP_MEMORY_DEVICE, BUSY_WORDS * sizeof(uint64_t), &words),
            "device memory");
    }
    if (status != EEP_OK) {
        return status;
    }
    s->fill = (probe_fill_args){.words = words, .num_words = BUSY_WORDS};
    return EEP_OK;
}

eep_status probe_stepper_begin(probe_role *r, probe_stepper *s)
{
    return pthread_create(&s->thread, NULL, step_on, s) == 0
               ? EEP_OK
               : probe_fail(r, EEP_ERR_SYSTEM, "no thread");
}

/* A launch that is under way was held up by the phase that ends, as long as both lasted. */
void probe_stepper_phase(probe_stepper *s, uint32_t phase)
{
    uint64_t begun_us = __atomic_load_n(&s->begun_us, __ATOMIC_ACQUIRE);
    uint64_t now_us = eepi_now_us(); /* after it: a launch may begin in between */

    if (begun_us) {
        eepk_keep_largest(&s->longest_us[s->phase],
                          now_us - (begun_us > s->since_us ? begun_us : s->since_us));
    }
    s->since_us = now_us;
    __atomic_store_n(&s->phase, phase, __ATOMIC_RELEASE);
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
