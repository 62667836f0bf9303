/* SPDX-License-Identifier: Apache-2.0 */
/* What all public functions do with what a caller gives them: they refuse with a text, and look at
 * NULL, at structs of another version's header, and at handles that another process opened. */
#ifndef EEPI_PUBLIC_CALL_H
#define EEPI_PUBLIC_CALL_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

enum { EEPI_ERROR_TEXT_BYTES = 512 };

/* This thread's text for eep_error_text, of EEPI_ERROR_TEXT_BYTES. */
char *eepi_error_buffer(void);
/* Set that text and return the status. */
eep_status eepi_refuse(eep_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* EEP_ERR_INVALID, and the text, if the argument `name` of the public function `call` is NULL. */
EEP_MUST_CHECK eep_status eepi_check_given(const char *call, const char *name,
                                           const void *argument);
/* EEP_ERR_STATE, and the text, in another process than the one that opened the `what`: a child of
 * fork has its memory, but neither its threads nor its place among the ranks. */
EEP_MUST_CHECK eep_status eepi_check_process(const char *call, const char *what, int32_t opened_by);

/* The last field of each struct in the first release of soname 1. Every caller's struct has it, so
 * it never changes while the soname stays: fields that come later have defaults, these have none.
 */
#define EEPI_FIRST_eep_config            bulk_interface
#define EEPI_FIRST_eep_dispatch_args     row_scales
#define EEPI_FIRST_eep_combine_args      out
#define EEPI_FIRST_eep_kernel            args
#define EEPI_FIRST_eep_step              epoch
#define EEPI_FIRST_eep_counters          weights_bytes_background
#define EEPI_FIRST_eep_snapshot          epoch
#define EEPI_FIRST_eep_fault             time_ns
#define EEPI_FIRST_eep_placement         pinned
#define EEPI_FIRST_eep_placement_info    own_number
#define EEPI_FIRST_eep_window_sizes      control_bytes
#define EEPI_FIRST_eep_bad_input         step
#define EEPI_FIRST_eep_step_words        aborted
#define EEPI_FIRST_eep_form_sizes        scales_bytes
#define EEPI_FIRST_eep_live_placement    placement
#define EEPI_FIRST_eep_shape_info        rows_capacity
#define EEPI_FIRST_eep_view_info         epoch
#define EEPI_FIRST_eep_verdict           kept_epoch
#define EEPI_FIRST_eep_memory_sizes      rows_bytes
#define EEPI_FIRST_eep_collective_result contributors
#define EEPI_FIRST_eep_checkpoint_tensor dtype
#define EEPI_FIRST_eep_launch_info       source
/* Its least size. */
#define EEPI_LEAST_BYTES(type)                                                                     \
    (offsetof(type, EEPI_FIRST_##type) + sizeof(((type *)0)->EEPI_FIRST_##type))
/* EEP_ERR_STATE, and the text, in a log or event callback and in a kernel's host body: a function
 * that waits for the library's threads would wait for the one that it is called in. */
EEP_MUST_CHECK eep_status eepi_check_may_wait(const char *call);
/* The same for functions that wait for nothing but a place in a stream: in a kernel only. */
EEP_MUST_CHECK eep_status eepi_check_may_put(const char *call);

/* The caller's struct `theirs` into `ours`, which holds the defaults of what an older caller's
 * lacks. EEP_ERR_INVALID, and the text, if it is NULL, has a size of no version (below
 * `least_bytes`, or no multiple of 8), or has a value in fields that came after this version. Both
 * begin with struct_bytes; that of `ours` is set to its size. */
EEP_MUST_CHECK eep_status eepi_struct_take(const char *call, const char *type, void *ours,
                                           size_t ours_bytes, size_t least_bytes,
                                           const void *theirs);
/* May `theirs` be written? As above. Before a function does anything. */
EEP_MUST_CHECK eep_status eepi_struct_check(const char *call, const char *type, size_t least_bytes,
                                            const void *theirs);
/* `ours` into the caller's struct, as far as both reach; its struct_bytes stays. */
void eepi_struct_give(void *theirs, const void *ours, size_t ours_bytes);

/* The function that the program called is this one, or `call`. */
#define EEPI_STRUCT_TAKE(type, ours, theirs) EEPI_STRUCT_TAKE_IN(__func__, type, ours, theirs)
#define EEPI_STRUCT_TAKE_IN(call, type, ours, theirs)                                              \
    eepi_struct_take((call), #type, (ours), sizeof(type), EEPI_LEAST_BYTES(type), (theirs))
#define EEPI_STRUCT_CHECK(type, theirs) EEPI_STRUCT_CHECK_IN(__func__, type, (theirs))
#define EEPI_STRUCT_CHECK_IN(call, type, theirs)                                                   \
    eepi_struct_check((call), #type, EEPI_LEAST_BYTES(type), (theirs))
#define EEPI_STRUCT_GIVE(type, theirs, ours) eepi_struct_give((theirs), (ours), sizeof(type))
#endif
