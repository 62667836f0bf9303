/* What the roles of the GPU probes share: a device, a stream, words that kernels and host see, and
 * an answer under way. */
#ifndef PROBE_ROLE_H
#define PROBE_ROLE_H

#include "graphs/cuda/probe_child.h"
#include "graphs/cuda/probe_kernels.h"
#include "graphs/device_share.h"

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
/* A zeroed pinned array of words; freed with the process. */
EEP_MUST_CHECK eep_status probe_words(probe_role *r, size_t count, uint64_t **words_out);
/* Wait until a kernel has stored something into a pinned word. */
EEP_MUST_CHECK eep_status probe_await(probe_role *r, const uint64_t *word, const char *what);
/* Send the answer, and begin an empty one. */
EEP_MUST_CHECK eep_status probe_say(probe_role *r);
/* What the program asks for next. EEP_ERR_UNREACHABLE when it asks no more: the role is over. */
EEP_MUST_CHECK eep_status probe_hear(probe_role *r, probe_message *message_out);
eepi_window_spec probe_spec(uint32_t generation);
uint64_t *probe_word(const eepi_window *window, size_t at);

/* probe_timing.c */
eep_status probe_ring(probe_role *r);
eep_status probe_spin(probe_role *r);
#endif
