/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of a public call's arguments, and the thread's error text. */
#include "graphs/base/public_call.h"

#include "eep/checkpoint.h"
#include "eep/control.h"
#include "eep/collectives.h"
#include "eep/eep.h"
#include "eep/launch.h"
#include "eep/shapes.h"
#include "eep/watch.h"
#include "eep/words.h"
#include "graphs/base/thread.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A field that comes later must not lie in what an older caller's compiler takes for padding. */
#define ENDS_WITH(type, field)                                                                     \
    static_assert(sizeof(type) == offsetof(type, field) + sizeof(((type *)0)->field),              \
                  #type " must end without padding")
ENDS_WITH(eep_config, reserved_shapes);
ENDS_WITH(eep_event_info, time_ns);
ENDS_WITH(eep_dispatch_args, reserved);
ENDS_WITH(eep_combine_args, chunk);
ENDS_WITH(eep_step, epoch);
ENDS_WITH(eep_counters, experts_reused);
ENDS_WITH(eep_snapshot, epoch);
ENDS_WITH(eep_fault, time_ns);
ENDS_WITH(eep_window_sizes, control_bytes);
ENDS_WITH(eep_bad_input, reserved);
ENDS_WITH(eep_shape_info, rows_capacity);
ENDS_WITH(eep_step_words, aborted);
ENDS_WITH(eep_form_sizes, scales_bytes);
ENDS_WITH(eep_live_placement, placement);
ENDS_WITH(eep_view_info, epoch);
ENDS_WITH(eep_launch_info, source);
ENDS_WITH(eep_verdict, kept_epoch);
ENDS_WITH(eep_memory_sizes, rows_bytes);
ENDS_WITH(eep_collective_result, contributors);
ENDS_WITH(eep_kernel, args);
ENDS_WITH(eep_checkpoint_tensor, dtype);
ENDS_WITH(eep_checkpoint_place, dtype);
/* Elements of arrays, and what kernels get by value, never change. */
static_assert(sizeof(eep_tensor) == 16 && sizeof(eep_seat) == 8 && sizeof(eep_kernel_arg) == 24 &&
                  sizeof(eep_grid) == 16 && sizeof(eep_shape) == 8,
              "the size of an array's element is part of the ABI");

/* Least sizes are part of the ABI: these numbers change with the soname, and not before. */
static_assert(
    EEPI_LEAST_BYTES(eep_config) == 208 && EEPI_LEAST_BYTES(eep_dispatch_args) == 56 &&
        EEPI_LEAST_BYTES(eep_combine_args) == 40 && EEPI_LEAST_BYTES(eep_kernel) == 40 &&
        EEPI_LEAST_BYTES(eep_step) == 24 && EEPI_LEAST_BYTES(eep_counters) == 80 &&
        EEPI_LEAST_BYTES(eep_snapshot) == 24 && EEPI_LEAST_BYTES(eep_fault) == 32 &&
        EEPI_LEAST_BYTES(eep_window_sizes) == 32 && EEPI_LEAST_BYTES(eep_bad_input) == 40 &&
        EEPI_LEAST_BYTES(eep_view_info) == 24 && EEPI_LEAST_BYTES(eep_form_sizes) == 48 &&
        EEPI_LEAST_BYTES(eep_live_placement) == 24 && EEPI_LEAST_BYTES(eep_shape_info) == 24 &&
        EEPI_LEAST_BYTES(eep_launch_info) == 2072 && EEPI_LEAST_BYTES(eep_step_words) == 32 &&
        EEPI_LEAST_BYTES(eep_verdict) == 24 && EEPI_LEAST_BYTES(eep_memory_sizes) == 72 &&
        EEPI_LEAST_BYTES(eep_collective_result) == 152 &&
        EEPI_LEAST_BYTES(eep_checkpoint_tensor) == 96 && EEPI_LEAST_BYTES(eep_placement) == 32 &&
        EEPI_LEAST_BYTES(eep_placement_info) == 40,
    "a struct of soname 1 has at least the fields of its first release");

/* STRUCT_STEP: each struct holds a pointer or a uint64_t, so all sizes are multiples of theirs. */
enum { SIZE_FIELD = sizeof(uint32_t), STRUCT_STEP = 8, MOST_BYTES = 65536 };

static _Thread_local char error_text[EEPI_ERROR_TEXT_BYTES];

char *eepi_error_buffer(void)
{
    return error_text;
}

const char *eep_error_text(void)
{
    return error_text;
}

const char *eep_strerror(eep_status status)
{
    switch (status) {
#define EEP_STATUS_TEXT(name, value, text)                                                         \
    case value:                                                                                    \
        return text;
        EEP_STATUS_LIST(EEP_STATUS_TEXT)
#undef EEP_STATUS_TEXT
    default:
        return "unknown status";
    }
}

uint32_t eep_version(void)
{
    return EEP_VERSION;
}

eep_status eepi_refuse(eep_status status, const char *format, ...)
{
    char text[EEPI_ERROR_TEXT_BYTES]; /* an argument may be the last text */
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(error_text, text, sizeof text);
    return status;
}

eep_status eepi_check_given(const char *call, const char *name, const void *argument)
{
    return argument ? EEP_OK : eepi_refuse(EEP_ERR_INVALID, "%s: %s is NULL", call, name);
}

eep_status eepi_check_process(const char *call, const char *what, int32_t opened_by)
{
    int32_t here = (int32_t)getpid();

    if (here == opened_by) {
        return EEP_OK;
    }
    return eepi_refuse(EEP_ERR_STATE,
                       "%s: process %d opened this %s, and this is process %d: a child of fork "
                       "cannot use it; let the child call exec, or open its own",
                       call, opened_by, what, here);
}

eep_status eepi_check_may_put(const char *call)
{
    if (!eepi_thread_is_in_kernel()) {
        return EEP_OK;
    }
    return eepi_refuse(EEP_ERR_STATE,
                       "%s from a kernel's host body would wait for the stream that runs it: let "
                       "the rank thread do so",
                       call);
}

eep_status eepi_check_may_wait(const char *call)
{
    eep_status status = eepi_check_may_put(call);

    if (status != EEP_OK || !eepi_thread_is_in_callback()) {
        return status;
    }
    return eepi_refuse(EEP_ERR_STATE,
                       "%s from the log or event callback would wait for the thread that calls it: "
                       "let the rank thread do so",
                       call);
}

/* ------------------------------------------------------------------ structs */

/* What sets it, of those structs that have a function or macro of their own for that. */
static const char *setter_of(const char *type)
{
    return strcmp(type, "eep_config") == 0   ? "with eep_config_init"
           : strcmp(type, "eep_kernel") == 0 ? "with EEP_KERNEL"
           : strstr(type, "_args") != NULL   ? "to its sizeof where you fill it in"
                                             : "to its sizeof, as EEP_SIZED does";
}

static eep_status size_of(const char *call, const char *type, const void *theirs, size_t least,
                          size_t *bytes_out)
{
    uint32_t bytes;

    if (!theirs) {
        return eepi_refuse(EEP_ERR_INVALID, "%s: the %s is NULL", call, type);
    }
    memcpy(&bytes, theirs, sizeof bytes);
    if (bytes < least || bytes > MOST_BYTES || bytes % STRUCT_STEP != 0) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: struct_bytes of the %s is %u, and at least %zu, a multiple of %d, "
                           "are needed: set it %s",
                           call, type, bytes, least, STRUCT_STEP, setter_of(type));
    }
    *bytes_out = bytes;
    return EEP_OK;
}

eep_status eepi_struct_take(const char *call, const char *type, void *ours, size_t ours_bytes,
                            size_t least_bytes, const void *theirs)
{
    const unsigned char *bytes = theirs;
    const uint32_t size = (uint32_t)ours_bytes;
    size_t theirs_bytes = 0;
    eep_status status = size_of(call, type, theirs, least_bytes, &theirs_bytes);

    if (status != EEP_OK) {
        return status;
    }
    for (size_t at = ours_bytes; at < theirs_bytes; at++) {
        if (bytes[at] != 0) {
            return eepi_refuse(EEP_ERR_INVALID,
                               "%s: the %s has %zu bytes, and libeep %d.%d.%d knows %zu: the field "
                               "at byte %zu is set and would be ignored; leave it 0, or use a "
                               "newer libeep",
                               call, type, theirs_bytes, EEP_VERSION_MAJOR, EEP_VERSION_MINOR,
                               EEP_VERSION_PATCH, ours_bytes, at);
        }
    }
    memcpy(ours, theirs, theirs_bytes < ours_bytes ? theirs_bytes : ours_bytes);
    memcpy(ours, &size, sizeof size);
    return EEP_OK;
}

eep_status eepi_struct_check(const char *call, const char *type, size_t least_bytes,
                             const void *theirs)
{
    size_t bytes;

    return size_of(call, type, theirs, least_bytes, &bytes);
}

void eepi_struct_give(void *theirs, const void *ours, size_t ours_bytes)
{
    uint32_t bytes;

    memcpy(&bytes, theirs, sizeof bytes);
    if (bytes > ours_bytes) {
        bytes = (uint32_t)ours_bytes;
    }
    memcpy((unsigned char *)theirs + SIZE_FIELD, (const unsigned char *)ours + SIZE_FIELD,
           bytes - SIZE_FIELD);
}
