/* SPDX-License-Identifier: Apache-2.0 */
/* What all headers of libeep share: its version, the rule for structs, status codes. */
#ifndef EEP_STATUS_H
#define EEP_STATUS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of these headers; eep_version is that of the library that runs. Programs built with
 * an older header of the same soname work with a newer library (docs/ABI.md). */
#define EEP_VERSION_MAJOR 0
#define EEP_VERSION_MINOR 2
#define EEP_VERSION_PATCH 0
#define EEP_VERSION       (EEP_VERSION_MAJOR * 10000 + EEP_VERSION_MINOR * 100 + EEP_VERSION_PATCH)

/* Structs that are passed to libeep or filled by it begin with struct_bytes, the size that the
 * caller's header gives them, and get new fields only at their end. libeep reads and writes no byte
 * behind that size: what an older caller's struct lacks has its default. A size below that of the
 * first release with this soname is EEP_ERR_INVALID. Zero such a struct and set its size with
 * EEP_SIZED, an expression whose value is the pointer:
 *
 *     eep_step step;
 *     status = eep_step_begin(context, timeout_us, EEP_SIZED(&step));
 *
 * Arrays have elements of a fixed size for ever: eep_tensor, eep_seat, eep_kernel_arg; so has
 * eep_grid, which kernels get by value. */
static inline void *eep_sized(void *it, size_t bytes)
{
    uint32_t struct_bytes = (uint32_t)bytes;

    memset(it, 0, bytes);
    memcpy(it, &struct_bytes, sizeof struct_bytes); /* the first field of each */
    return it;
}
#ifdef __cplusplus
#define EEP_SIZED(pointer)                                                                         \
    static_cast<decltype(&*(pointer))>(eep_sized((pointer), sizeof(*(pointer))))
#else
#define EEP_SIZED(pointer) eep_sized((pointer), sizeof(*(pointer)))
#endif

/* Status codes, grouped by the largest thing the failure damaged. X(name, value, text). Values are
 * stable: they are part of the ABI. */
#define EEP_STATUS_LIST(X)                                                                         \
    X(EEP_OK, 0, "success")                                                                        \
    /* the call: nothing changed */                                                                \
    X(EEP_ERR_INVALID, -1, "invalid argument")                                                     \
    X(EEP_ERR_NO_MEMORY, -2, "out of memory")                                                      \
    X(EEP_ERR_TIMEOUT, -3, "nothing happened within the time given")                               \
    X(EEP_ERR_UNSUPPORTED, -4, "not supported by this build, device or machine")                   \
    X(EEP_ERR_NOT_FOUND, -5, "no such object")                                                     \
    X(EEP_ERR_CONFLICT, -6, "somebody else changed it first")                                      \
    X(EEP_ERR_STATE, -7, "not allowed in the present state")                                       \
    X(EEP_ERR_SYSTEM, -8, "a system call failed")                                                  \
    X(EEP_ERR_PROTOCOL, -9, "malformed or unexpected message")                                     \
    X(EEP_ERR_CHECKSUM, -10, "bytes do not match their checksum")                                  \
    X(EEP_ERR_BAD_STEP_INPUT, -11, "a step's input broke its limits; the step emitted nothing")    \
    X(EEP_ERR_NOT_OWNER, -12, "it belongs to somebody else")                                       \
    X(EEP_ERR_DUPLICATE, -13, "it was done already")                                               \
    X(EEP_ERR_AHEAD, -14, "something that comes before it is missing")                             \
    /* the peer: that rank is gone, the world can heal */                                          \
    X(EEP_ERR_ABORTED, -32, "the step met a fault or an abort; run its positions again")           \
    X(EEP_ERR_UNREACHABLE, -33, "the peer or the store does not answer")                           \
    X(EEP_ERR_SEAT_TAKEN, -34, "a living process holds the rank slot")                             \
    /* this rank: stop serving, the others go on */                                                \
    X(EEP_ERR_EVICTED, -48, "this process was expelled from the view")                             \
    X(EEP_ERR_DRAINED, -49, "this rank has left the view as it asked")                             \
    /* the world: stop serving */                                                                  \
    X(EEP_ERR_UNCOVERED, -64, "experts without any live copy or backup")                           \
    X(EEP_ERR_DEVICE, -65, "the device failed")

typedef enum eep_status_code {
#define EEP_STATUS_ENUM(name, value, text) name = value,
    EEP_STATUS_LIST(EEP_STATUS_ENUM)
#undef EEP_STATUS_ENUM
} eep_status_code;

/* Every call that can fail returns this and must be looked at. */
#if defined(__GNUC__)
#define EEP_MUST_CHECK __attribute__((warn_unused_result))
#define EEP_API        __attribute__((visibility("default")))
#else
#define EEP_MUST_CHECK
#define EEP_API
#endif
typedef int eep_status;

/* The one-line text of a status; "unknown status" for a foreign number. Any thread, any time. */
EEP_API const char *eep_strerror(eep_status status);
/* EEP_VERSION of the library. Any thread, any time. */
EEP_API uint32_t eep_version(void);
/* Why the last call of this thread that failed did so, in words that name the call, the value and
 * what to do; "" before the first. A call that succeeds leaves it, or empties it. For calls on a
 * context eep_last_error says the same. Valid until this thread's next call. Any thread. */
EEP_API const char *eep_error_text(void);

#ifdef __cplusplus
}
#endif
#endif
