/* Status codes of libeep, grouped by the largest thing the failure damaged. */
#ifndef EEP_STATUS_H
#define EEP_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text). Values are stable: they are part of the ABI. */
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

#ifdef __cplusplus
}
#endif
#endif
