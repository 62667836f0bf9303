/* SPDX-License-Identifier: Apache-2.0 */
/* What a device backend implements. graphs/device/device.c checks arguments and states, counts
 * captures and hands everything else on to this table, so a backend sees only legal calls.
 *
 * The host backend is graphs/host/host_backend.c. The CUDA backend is the plugin libeep_cuda.so,
 * which includes this header, links nothing of libeep and exports one function, eep_cuda_backend.
 */
#ifndef EEPI_DEVICE_OPS_H
#define EEPI_DEVICE_OPS_H

#include "eep/device.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up with every change of the structs below or of the kernels' argument structs. */
enum { EEPI_BACKEND_VERSION = 12 };

/* Memory that others map (graphs/device/device_share.h). */
typedef struct eepi_share {
    void *address;       /* as this device's kernels reach it */
    size_t mapped_bytes; /* at least what was asked for; others map exactly as much */
    int fd;              /* what others map it from, close-on-exec; -1: mapped from another's */
    void *impl;          /* the backend's own; NULL: it needs none */
} eepi_share;

/* What a device says of itself; zeros: it sets no such limit (host). */
typedef struct eepi_device_facts {
    uint32_t num_multiprocessors; /* blocks that run at once, at least */
    uint64_t clock_step_ns;       /* of the clock that deadlines in kernels go by */
    uint32_t num_queues;          /* in hardware; two streams in one queue wait for each other */
    const char *queues_variable;  /* of the environment, which says how many; static */
    char pci[16];                 /* "0000:3b:00.0"; "": not on PCI, or unknown */
    uint8_t uuid[16];             /* the same in all processes; zeros: it has none, or unknown */
} eepi_device_facts;

/* The opaque pointers are the backend's own objects. Statuses, timeouts, threads and what may
 * happen during capture are those of the public functions of the same name. A member that may be
 * NULL says so. Outputs are written only on success. */
typedef struct eepi_device_ops {
    /* On failure `why_out` (why_bytes long) gets one line for eep_device_error_text. */
    eep_status (*open)(int ordinal, void **device_out, char *why_out, size_t why_bytes);
    void (*close)(void *device);
    eepi_device_facts (*facts)(const void *device); /* NULL: zeros */
    eep_status (*alloc)(void *device, eep_memory kind, size_t bytes, void **memory_out);
    void (*free)(void *device, eep_memory kind, void *memory);

    /* The device's one stream beside those of its ranks' steps, which lives as long as the device;
     * NULL: graphs/device/device.c opens one like any other. */
    void *(*auxiliary)(void *device);
    /* So many ranks of this process wait in kernels from now on, on any device of the backend:
     * before a rank's first and after its last one, one call at a time. What may wait for a device
     * is put off until it is 0. NULL: nothing does. */
    void (*set_waiters)(void *device, uint32_t num_waiters);
    /* Calls so far that could not be put off although others waited; NULL: 0. */
    uint64_t (*late_calls)(const void *device);

    eep_status (*stream_open)(void *device, void **stream_out);
    void (*stream_close)(void *stream); /* finishes what is in it; drops an open capture */
    /* A handle of the caller's stream, and its end, which leaves the stream alone. */
    eep_status (*stream_adopt)(void *device, void *native, void **stream_out);
    void (*stream_disown)(void *stream);
    bool (*stream_is_captured)(void *stream); /* by whomever */
    eep_status (*stream_synchronize)(void *stream, uint64_t timeout_us);
    /* The same, where a pinned word that becomes `value` says that the stream is about to be empty;
     * it may never become that. NULL: stream_synchronize is as good. */
    eep_status (*stream_await_word)(void *stream, const uint64_t *word, uint64_t value,
                                    uint64_t timeout_us);
    void *(*stream_native)(void *stream);
    eep_status (*stream_wait_event)(void *stream, void *event);
    /* These two belong to streams with a thread of their own; NULL where there is none. */
    eep_status (*stream_run_on_worker)(void *stream, void (*fn)(void *user), void *user);
    void (*stream_set_limit)(void *stream, uint64_t limit_us);

    eep_status (*event_open)(void *device, void **event_out);
    void (*event_close)(void *event);
    eep_status (*event_record)(void *event, void *stream);
    eep_status (*event_synchronize)(void *event, uint64_t timeout_us);

    eep_status (*copy)(void *stream, void *to, const void *from, size_t bytes);
    eep_status (*launch)(void *stream, const eep_kernel *kernel, uint32_t num_blocks,
                         uint32_t num_threads, const void *args, size_t args_bytes);

    eep_status (*capture_begin)(void *stream);
    /* The stream captures no longer, whatever this returns. */
    eep_status (*capture_end)(void *stream, void **graph_out, uint32_t *num_nodes_out);
    eep_status (*graph_replay)(void *graph, void *stream);
    void (*graph_close)(void *graph);
    /* This thread's calls spoil no capture of another thread until `thread_end`, which gives back
     * what *before_out was set to. Both are NULL where none could. */
    eep_status (*thread_begin)(void *device, int *before_out);
    void (*thread_end)(void *device, int before);

    /* On failure `why_out` gets one line. */
    eep_status (*share_make)(void *device, size_t bytes, eepi_share *share_out, char *why_out,
                             size_t why_bytes);
    eep_status (*share_map)(void *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                            char *why_out, size_t why_bytes);
    /* Map what a share of this very process that is open has as `fd`, by no other way than its
     * maker. NULL: share_map does, with a copy of the descriptor. */
    eep_status (*share_map_own)(void *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                                char *why_out, size_t why_bytes);
    void (*share_close)(void *device, eepi_share *share);
    /* A descriptor by which a NIC's driver reaches what this process's share has (dma-buf); the
     * caller's, close-on-exec. EEP_ERR_UNSUPPORTED: `why_out` names what is missing. NULL: the
     * memory is the host's, which a NIC reaches without one. */
    eep_status (*share_dmabuf)(void *device, const eepi_share *share, int *fd_out, char *why_out,
                               size_t why_bytes);
} eepi_device_ops;

typedef struct eepi_device_backend {
    uint32_t version; /* EEPI_BACKEND_VERSION of the backend's build; looked at first */
    uint32_t num_kernels;
    const char *name;
    const eepi_device_ops *ops;
    const eep_kernel *kernels; /* libeep's own, as this backend launches them, by eepi_kernel_id */
    int (*count)(void);        /* of devices; NULL: 1 */
    /* Why the calling thread's last failing operation failed; "" if none did. May be NULL. */
    const char *(*error_text)(void);
    bool is_discrete; /* host threads cannot touch its memory and its shares */
} eepi_device_backend;

extern const eepi_device_backend eepi_host_backend;
extern const eepi_device_backend eepi_guarded_backend; /* host kernels, graphs/host/host_guard.h */

/* The plugin's one symbol; libeep finds it with dlsym. The table lives as long as the plugin. */
#define EEPI_CUDA_BACKEND_SYMBOL "eep_cuda_backend"
EEP_API const eepi_device_backend *eep_cuda_backend(void);

/* NULL, or another process's: refused with a text. */
EEP_MUST_CHECK eep_status eepi_check_device(const char *call, const eep_device *device);
/* Why the last operation of this thread that failed in the device's backend did (cuda: the call and
 * its error), beyond its status; "" where the backend has no texts. Any thread. */
const char *eepi_device_failure(const eep_device *device);

eepi_device_facts eepi_device_facts_of(const eep_device *device);

/* A rank's exchange waits in one block for other ranks, which may be on this device as well: those
 * of this process take at most a quarter of the multiprocessors, so that the rest gets on, and at
 * most the device's queues, at two streams a rank. Any thread. EEP_ERR_UNSUPPORTED: no room for one
 * more. */
EEP_MUST_CHECK eep_status eepi_device_take_waiter(eep_device *device);
void eepi_device_release_waiter(eep_device *device);
/* A rank has one more stream, whose work others wait for, so it shares no queue with a stream that
 * waits. Any thread. EEP_ERR_UNSUPPORTED: the ranks of this process have all queues. */
EEP_MUST_CHECK eep_status eepi_device_take_stream(eep_device *device);
void eepi_device_release_stream(eep_device *device);
/* Ranks that the device has room for; UINT32_MAX: it sets no limit. */
uint32_t eepi_device_most_waiters(const eep_device *device);
/* Calls of this process so far that may have waited for ranks that waited (cuda). Any thread. */
uint64_t eepi_device_late_calls(const eep_device *device);

/* The device's stream for all that is no step: staging, copies of weights. One for all users, so
 * eep_stream_synchronize waits for what others have put in as well; it is never captured and not
 * closed. What eep_stream_open returns where it could not be made; then *stream_out stays. Any
 * thread. */
EEP_MUST_CHECK eep_status eepi_device_auxiliary(eep_device *device, eep_stream **stream_out);

/* eep_stream_synchronize for a stream whose last nodes store `value` to the pinned `word`: the
 * device is asked less often meanwhile. The stream is empty afterwards, whatever the word says. */
EEP_MUST_CHECK eep_status eepi_stream_await_word(eep_stream *stream, const uint64_t *word,
                                                 uint64_t value, uint64_t timeout_us);

/* From here to the other call, what this thread asks of the device spoils no capture of another
 * thread. A thread of libeep's own never ends it; one of the engine's, whose captures are the
 * engine's matter, does. `before` is for the other call, and 0 where it is not set. */
EEP_MUST_CHECK eep_status eepi_device_thread_begin(eep_device *device, int *before_out);
void eepi_device_thread_end(eep_device *device, int before);

/* This thread steps a rank from now on, or no longer: on a device of its own memory it may allocate
 * nothing and open no stream meanwhile (docs/ARCHITECTURE.md, "No call that waits for the device").
 */
void eepi_thread_serves(int is_serving);

/* A context uses the device, or a stream, until it drops it: closed before, the device stays, and
 * the stream is refused as closed. */
void eepi_device_hold(eep_device *device);
void eepi_device_drop(eep_device *device);
/* Memory of eep_device_alloc that has the address: freed before, it goes with the last release.
 * Other memory is passed over. Any thread. */
void eepi_memory_hold(eep_device *device, const void *address);
void eepi_memory_release(eep_device *device, const void *address);
void eepi_stream_hold(eep_stream *stream);
void eepi_stream_drop(eep_stream *stream);
bool eepi_stream_is_closed(const eep_stream *stream);
/* Whose steps run in a stream. Streams and graphs that remember an owner hold it, so that a later
 * one is never taken for one that has gone. NULL: out of memory. Any thread. */
typedef struct eepi_owner eepi_owner;
eepi_owner *eepi_owner_open(void);
void eepi_owner_drop(eepi_owner *owner);
/* The owner's steps run in the stream from now on, until it gives the stream back. All open handles
 * of one stream of the caller's, on one eep_device, count as one. EEP_ERR_STATE: another one's do.
 */
EEP_MUST_CHECK eep_status eepi_stream_own(eep_stream *stream, eepi_owner *owner);
void eepi_stream_disown(eep_stream *stream, const eepi_owner *owner);
bool eepi_stream_is_owned_by(eep_stream *stream, const eepi_owner *owner);
/* What is captured in the stream holds a step of that owner: its graph is refused in a stream that
 * is not the owner's then. */
void eepi_stream_note_step(eep_stream *stream, eepi_owner *owner);

/* Does this thread capture a stream now? */
bool eepi_thread_is_capturing(void);

/* Is it the caller's own stream (eep_stream_adopt)? */
bool eepi_stream_is_adopted(const eep_stream *stream);
/* Which of libeep's captures of the stream is under way, from 1; 0: none is. */
uint64_t eepi_stream_capture_number(const eep_stream *stream);
/* What was put into the stream so far lacks something, as `lacks` says: a capture that ends now is
 * refused with that text. NULL: it lacks nothing. Calling thread of what is put. */
void eepi_stream_note_lack(eep_stream *stream, const char *lacks);

/* A stream that somebody else captures gets a step of ours: counted by eep_device_captures like
 * those that eep_capture_end ends. */
void eepi_device_note_capture(eep_device *device, const eep_stream *stream);

/* A program that launches a kernel through a runtime of its own, into eep_stream_native of a stream
 * that is captured, shows it here first: checked and held like that of eep_launch. */
EEP_MUST_CHECK eep_status eepi_capture_show(eep_stream *stream, const eep_kernel *kernel,
                                            uint32_t num_blocks, const void *args,
                                            size_t args_bytes);

/* Of all that the capture recorded, declared argument bytes included, in order: two captures of one
 * sequence differ only if something in it is not constant. */
uint64_t eepi_graph_fingerprint(const eep_graph *graph);

/* One of libeep's kernels (eepi_kernel_id), as the device launches it; NULL for a foreign id. Any
 * thread. */
const eep_kernel *eepi_device_kernel(const eep_device *device, uint32_t id);

/* Run fn(user) once in the stream's own thread, in stream order, so that the thread can be bound or
 * named; `user` stays valid until then. EEP_ERR_UNSUPPORTED where streams have no thread of their
 * own (cuda), EEP_ERR_STATE during capture. Any thread. */
EEP_MUST_CHECK eep_status eepi_stream_run_on_worker(eep_stream *stream, void (*fn)(void *user),
                                                    void *user);

/* The longest wait inside the stream itself: of a caller for a place in a full stream (then
 * EEP_ERR_TIMEOUT), and of the stream for an event (then the stream has failed: it runs nothing
 * more and its calls return EEP_ERR_DEVICE). Must exceed the longest kernel or replay; the host's
 * default is 60 s. EEP_ERR_UNSUPPORTED where the device's own runtime bounds it (cuda). Before the
 * stream is used. */
EEP_MUST_CHECK eep_status eepi_stream_set_limit(eep_stream *stream, uint64_t limit_us);

#ifdef __cplusplus
}
#endif
#endif
