/* SPDX-License-Identifier: Apache-2.0 */
/* What the extension module of the Python package adds to libeep: handles that no call can use
 * behind their close, records of callbacks, kernels that are Python functions, memory that DLPack
 * hands on. eep_build.py reads this header too, and makes from it what Python sees. None of it
 * calls Python, but for eepy_capsule_end. */
#ifndef EEPY_EXTENSION_H
#define EEPY_EXTENSION_H

#include <stddef.h>
#include <stdint.h>

#include <eep/eep.h>

/* ---------------------------------------------------------------- handles */

enum { EEPY_CLOSED = -1000 }; /* a status of this module: the object was closed */

/* What a Python object has of a libeep object. `users` counts the calls that are in it. */
typedef struct eepy_handle {
    void *it;          /* the libeep object; NULL: none */
    int32_t users;     /* calls under way, by atomic operations */
    int32_t is_closed; /* 1: no further call enters */
    int32_t in_step;   /* a context: eep_step_begin was EEP_OK, and eep_step_end has not ended it */
    int32_t pid;       /* of the process that opened it */
} eepy_handle;

/* Enter: `it_out` is what libeep gets. 0: the object is closed, and nothing was entered. NULL is
 * no object, which libeep refuses by itself. */
int eepy_enter(eepy_handle *handle, void **it_out);
void eepy_leave(eepy_handle *handle);
void eepy_fill(eepy_handle *handle, void *it);
/* No further call enters from here on; waits until the last one has left, at most 10 s. Steps of a
 * context are aborted meanwhile. 1: the caller closes `it_out`; 0: it was closed before; -1: a call
 * is still in it. */
int eepy_begin_close(eepy_handle *handle, int is_context, void **it_out);

/* eep_step_begin, or eep_step_begin_shape where the context has several shapes: `shape` is the one
 * that is wanted, and becomes that of the step. A step whose end was never called, because an
 * exception came between, is ended first. */
int eepy_step_begin(eepy_handle *context, uint64_t timeout_us, eep_step *step_out, int32_t *shape);
int eepy_step_end(eepy_handle *context);
/* eep_step_end after eep_step_abort: for a step whose caller failed. */
int eepy_step_drop(eepy_handle *context);
/* Copy eep_physical_to_logical, `bytes` bytes of it. */
int eepy_slots_copy(eepy_handle *context, int32_t *slots_out, size_t bytes);
/* The measured loop in C: `num` steps, each one replay of the graph, and the nanoseconds of each in
 * `ns_out` (may be NULL). The first status that is not EEP_OK ends it. */
int eepy_loop(eepy_handle *context, eepy_handle *graph, eepy_handle *stream, int32_t num,
              uint64_t *ns_out);

/* ---------------------------------------------------------------- records of callbacks */

enum {
    EEPY_RECORD_LOG = 0,
    EEPY_RECORD_EVENT = 1,
    EEPY_LINE_BYTES = 904,
    EEPY_MOST_RECORDS = 4096
};

typedef struct eepy_queue eepy_queue;
typedef struct eepy_record {
    int32_t kind; /* EEPY_RECORD_LOG: level and line; EEPY_RECORD_EVENT: the rest */
    int32_t level;
    uint64_t dropped; /* records that were lost before this one, because nobody took them */
    int32_t event, seat;
    uint32_t generation, reserved;
    uint64_t epoch, value, time_ns;
    char line[EEPY_LINE_BYTES];
} eepy_record;

eepy_queue *eepy_queue_open(void); /* NULL: no memory, or no descriptor */
/* Late callbacks find it closed: it is never freed. Sets *queue to NULL; NULL is ignored. */
void eepy_queue_close(eepy_queue **queue);
int eepy_queue_fd(const eepy_queue *queue);                      /* readable while records wait */
int eepy_queue_next(eepy_queue *queue, eepy_record *record_out); /* 0: none waits */
/* eep_log_fn and eep_event_fn, with a queue as `user`. */
void eepy_log(void *user, eep_log_level level, const char *line);
void eepy_event(void *user, const eep_event_info *record);

/* ---------------------------------------------------------------- kernels in Python */

/* A stream's worker thread hands a task over to a thread of Python and waits for its end. */
typedef struct eepy_server eepy_server;
typedef struct eepy_task { /* the argument bytes of such a kernel */
    eepy_server *server;
    uint64_t number;
} eepy_task;

eepy_server *eepy_server_open(void);
/* Wait for a task. 1: its number is in `number_out`, and eepy_server_done follows; 0: stopped. */
int eepy_server_wait(eepy_server *server, uint64_t *number_out);
void eepy_server_done(eepy_server *server);
void eepy_server_stop(eepy_server *server); /* tasks end at once from here on, undone */
/* Behind the close of the stream. Sets *server to NULL; NULL is ignored. */
void eepy_server_close(eepy_server **server);
void eepy_run_task(const void *args, eep_grid grid); /* the kernel's host body */

/* ---------------------------------------------------------------- memory, DLPack */

typedef struct eepy_memory eepy_memory;
/* Memory of eep_device_alloc, counted: freed when all who hold it have dropped it. */
eepy_memory *eepy_memory_open(eepy_handle *device, int32_t kind, uint64_t bytes,
                              int32_t *status_out);
void *eepy_memory_data(const eepy_memory *memory);
void eepy_memory_drop(eepy_memory *memory);
/* No record is kept of the memory any more: what may still write there keeps it for ever. */
void eepy_memory_leak(eepy_memory *memory);

typedef struct eepy_dltensor { /* DLPack calls it DLTensor */
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} eepy_dltensor;
/* A DLManagedTensor (or DLManagedTensorVersioned) of [shape], which holds the memory. */
void *eepy_dlpack_new(eepy_memory *memory, int32_t device_type, int32_t device_id, uint8_t code,
                      uint8_t bits, int32_t ndim, const int64_t *shape, uint64_t byte_offset,
                      int is_versioned);
/* The DLTensor in one that another library made. */
const eepy_dltensor *eepy_dlpack_look(const void *managed, int is_versioned);
/* Of a capsule that nobody took: what it holds is dropped. `capsule` is a PyObject. */
void eepy_capsule_end(void *capsule);

#endif
