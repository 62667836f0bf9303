/* SPDX-License-Identifier: Apache-2.0 */
/* What the roles of the GPU probes share: a device, a stream, words that kernels and host see, and
 * an answer under way. */
#ifndef PROBE_ROLE_H
#define PROBE_ROLE_H

#include "tests/gpu/probe/probe_child.h"
#include "tests/gpu/probe/probe_kernels.h"
#include "graphs/device/device_share.h"

#include <pthread.h>

enum {
    PROBE_WINDOW_BYTES = 8 << 20,
    PROBE_HOST_BYTES = 4096,
    PROBE_SEAT = 1,
    PROBE_ROWS_AT = 64 << 10, /* in a window: what PROBE_STORE stores into */
    PROBE_WORD_AT = 8 << 10,  /* and the word of the counter, or of the ring */
    PROBE_SYNC_US = 20000000, /* beyond what a kernel's own limit allows */
};

typedef struct probe_role {
    const probe_how *how;
    int socket, is_cuda;
    eep_device *device;
    eep_stream *stream;
    probe_message say; /* the next answer; on failure the last one */
} probe_role;

/* Keep why the role failed, and return the status. */
eep_status probe_fail(probe_role *r, eep_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a call of the device layer that may have failed. */
EEP_MUST_CHECK eep_status probe_check(probe_role *r, eep_status status, const char *what);
EEP_MUST_CHECK eep_status probe_open(probe_role *r);
void probe_close(probe_role *r);
/* One block of a kernel into a stream of the role's device. */
EEP_MUST_CHECK eep_status probe_launch(probe_role *r, eep_stream *stream, probe_kernel_id id,
                                       const void *args, size_t args_bytes);
/* Where the runtime can begin a launch before the one in front of it in the stream has ended
 * (cuda); EEP_ERR_UNSUPPORTED elsewhere. */
EEP_MUST_CHECK eep_status probe_launch_early(probe_role *r, eep_stream *stream,
                                             const probe_stamp_args *args);
/* A zeroed pinned array of words; freed with the process. */
EEP_MUST_CHECK eep_status probe_words(probe_role *r, size_t count, uint64_t **words_out);
/* Wait until a kernel has stored something into a pinned word. */
EEP_MUST_CHECK eep_status probe_await(probe_role *r, const uint64_t *word, const char *what);
/* Send the answer, and begin an empty one. */
EEP_MUST_CHECK eep_status probe_say(probe_role *r);
/* Send a row; whoever asks for rows takes a probe_say for their end. */
EEP_MUST_CHECK eep_status probe_say_row(probe_role *r, const char *check, double value, int ok);
/* What the program asks for next. EEP_ERR_UNREACHABLE when it asks no more: the role is over. */
EEP_MUST_CHECK eep_status probe_hear(probe_role *r, probe_message *message_out);
eepi_window_spec probe_spec(uint32_t generation);
uint64_t *probe_word(const eepi_window *window, size_t at);

EEP_MUST_CHECK eep_status probe_map_window(probe_role *r, const probe_message *asked,
                                           eepi_window **window_out);

/* A kernel that stores into the role's stream until it is told to end, at most `limit_ms`. What it
 * and the stepper need is made before it begins, since allocating may wait for its end. */
typedef struct probe_busy {
    probe_store_args args;
} probe_busy;
EEP_MUST_CHECK eep_status probe_busy_open(probe_role *r, probe_busy *busy_out);
EEP_MUST_CHECK eep_status probe_busy_begin(probe_role *r, uint32_t limit_ms, probe_busy *busy);
int probe_busy_goes_on(probe_role *r);
EEP_MUST_CHECK eep_status probe_busy_end(probe_role *r, probe_busy *busy);

/* A thread that launches short kernels into a stream of its own, and keeps the longest time from a
 * launch to its end in each phase. */
enum { PROBE_PHASES = 3 };
typedef struct probe_stepper {
    probe_role role; /* a copy: its own answer */
    probe_fill_args fill;
    pthread_t thread;
    uint64_t longest_us[PROBE_PHASES];
    uint64_t begun_us; /* of the launch that is under way; 0: none */
    uint64_t since_us; /* of the phase; the caller's */
    uint32_t phase, stop;
    eep_status status;
} probe_stepper;
EEP_MUST_CHECK eep_status probe_stepper_open(probe_role *r, probe_stepper *stepper_out);
EEP_MUST_CHECK eep_status probe_stepper_begin(probe_role *r, probe_stepper *stepper);
void probe_stepper_phase(probe_stepper *stepper, uint32_t phase);
EEP_MUST_CHECK eep_status probe_stepper_end(probe_role *r, probe_stepper *stepper);

/* Rows NAME_n, NAME_p50_UNIT, NAME_p99_UNIT, NAME_max_UNIT of values that this sorts. */
EEP_MUST_CHECK eep_status probe_say_values(probe_role *r, const char *name, const char *unit,
                                           double *values, size_t count);

/* The roles. probe_look.c, probe_calls.c: */
eep_status probe_look(probe_role *r);
eep_status probe_allocating(probe_role *r);
eep_status probe_calls(probe_role *r);
/* probe_windows.c: */
eep_status probe_owner(probe_role *r);
eep_status probe_survivor(probe_role *r);
eep_status probe_counter(probe_role *r);
/* probe_ring.c: */
eep_status probe_ring(probe_role *r);
eep_status probe_ring_of_graphs(probe_role *r);
/* probe_slices.c: */
eep_status probe_spin(probe_role *r);
/* probe_micro.c: */
eep_status probe_fence(probe_role *r);
eep_status probe_pinned(probe_role *r);
eep_status probe_nodes(probe_role *r);
eep_status probe_pass(probe_role *r);
#endif
