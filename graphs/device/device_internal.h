/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the device layer share: device.c and device_*.c. */
#ifndef EEPI_DEVICE_INTERNAL_H
#define EEPI_DEVICE_INTERNAL_H

#include "graphs/device/capture_check.h"
#include "graphs/device/device_ops.h"
#include "graphs/kernels/kernel_fields.h"

#include <stdbool.h>
#include <pthread.h>

struct eep_device {
    const eepi_device_backend *backend;
    const eepi_device_ops *ops;
    void *impl;
    uint64_t captures;
    uint32_t users;    /* the opener, and each stream, event, graph, memory and context; atomic */
    int32_t opened_by; /* the process */
    int ordinal;
    eepi_registered *registered;          /* memory that graphs may refer to */
    eep_kernel kernels[EEPI_NUM_KERNELS]; /* the backend's, with what their arguments are */
    bool outlives_process;                /* likewise */
    bool is_discrete; /* set before the device is used for windows, read only afterwards */
    /* what sharing cost so far; written with atomics, by any thread */
    uint64_t share_calls, share_us, share_longest_us;
    pthread_mutex_t lock;
    eep_stream *auxiliary; /* made when it is first asked for, under the lock */
    eep_stream *streams;   /* open handles, under the lock */
};

struct eepi_owner {
    uint32_t holders; /* atomic */
};

struct eep_stream {
    eep_device *device;
    eep_stream *next; /* of the device's */
    void *impl, *native;
    const void *capturer;   /* own_captures of the thread that captures it; NULL: not by us */
    eepi_captured captured; /* what that capture has recorded */
    eep_status refused;     /* of that capture: the first node that may not be in a graph */
    uint64_t captures;      /* begun by us, so far */
    char lacks[256];        /* what the graph would lack if it ended now; "": nothing */
    bool is_adopted, is_closed;
    uint32_t holders;       /* the opener, and contexts that replay in it; atomic */
    eepi_owner *owner;      /* whose steps run in it; NULL: nobody's; atomic, under the lock */
    eepi_owner *step_owner; /* whose step that capture has recorded; NULL: none */
};

struct eep_event {
    eep_device *device;
    void *impl;
};

struct eep_graph {
    eep_device *device;
    void *impl;
    uint32_t num_nodes;
    eepi_captured captured;
    eepi_owner *step_owner; /* of the step that it holds; NULL: it holds none */
};

static inline const void *eepi_capturer_of(const eep_stream *stream)
{
    return __atomic_load_n(&stream->capturer, __ATOMIC_ACQUIRE);
}

/* device.c: the number of streams that this thread captures; its address stands for the thread. */
uint32_t *eepi_own_captures(void);
/* device_captured.c: an opened stream is among the device's until it is closed. */
void eepi_stream_list(eep_stream *stream);
void eepi_stream_unlist(eep_stream *stream);
/* NULL, another process's, a closed one: refused with a text. */
EEP_MUST_CHECK eep_status eepi_check_stream(const char *call, const eep_stream *stream);
/* What a backend answered, with a text if it is no EEP_OK. */
eep_status eepi_device_say(const char *call, const eep_device *device, eep_status status);
EEP_MUST_CHECK eep_status eepi_may_wait_for_device(const char *call, const eep_device *device);

/* device_backend.c: the backend of that name; a plugin's stays loaded, since graphs and contexts
 * may refer to its kernels. EEP_ERR_INVALID: there is none of that name; EEP_ERR_UNSUPPORTED: its
 * plugin cannot be used. `why_out` is set on failure. Any thread. */
EEP_MUST_CHECK eep_status eepi_device_find_backend(const char *name,
                                                   const eepi_device_backend **backend_out,
                                                   char *why_out, size_t why_bytes);
#endif
