/* SPDX-License-Identifier: Apache-2.0 */
/* The views of an instance, for a program that is no rank: a front that schedules requests, a
 * monitor. It reads the store, and the ranks do not know of it. A watch is used by one thread at a
 * time. */
#ifndef EEP_WATCH_H
#define EEP_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "eep/eep.h"
#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct eep_watch eep_watch;

/* A committed view. While it does not serve yet, experts are copied and no rank steps. The end of
 * an instance (eep_instance_end, or the last rank has left) is a view with num_active 0, which does
 * not serve; a process that has left and not ended yet shows as QUARANTINED. Views come from ranks:
 * when all of them die, no view tells so, and seats stay ACTIVE until a new process opens. A front
 * hence watches the processes of its ranks, or what they send, as well. */
typedef struct eep_view_info {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t max_ranks, num_active;
    int32_t is_serving;
    uint64_t epoch;
} eep_view_info;

/* Connect to the store's socket, waiting at most `timeout_us` (and never more than a day) for a
 * store that is there and answers: EEP_ERR_UNREACHABLE then. A first answer has one second at
 * least, whatever `timeout_us` is. A store that hangs up is asked again until then. One that serves
 * another user is EEP_ERR_UNREACHABLE at once. EEP_ERR_INVALID: a path of more than 107 bytes, or a
 * NULL. EEP_ERR_STATE: what listens there is another user's. EEP_ERR_SYSTEM: the path cannot be
 * reached. `error_out` may be NULL. */
EEP_API EEP_MUST_CHECK eep_status eep_watch_open(const char *store_path, uint64_t timeout_us,
                                                 char *error_out, size_t error_bytes,
                                                 eep_watch **watch_out);
EEP_API void eep_watch_close(eep_watch *watch);
/* The next view, in order of commits, none left out while the store is there; the first call gives
 * the present one. Waits at most `timeout_us`: EEP_ERR_TIMEOUT. Up to `num_seats` seats are written
 * to `seats_out`, which may be NULL with 0. A request is moved (eep_sink_revoke, eep_sink_assign)
 * when no seat has its (seat, generation) as ACTIVE or RETIRING any more. When a store was away the
 * watch goes on with the newest view. */
EEP_API EEP_MUST_CHECK eep_status eep_watch_next(eep_watch *watch, uint64_t timeout_us,
                                                 eep_view_info *view_out, eep_seat *seats_out,
                                                 int32_t num_seats);
/* To poll for reading, then call eep_watch_next with timeout 0 until EEP_ERR_TIMEOUT. It changes
 * when the store was away, and is -1 meanwhile: ask before each poll, and poll for 20 ms at most
 * then. */
EEP_API int eep_watch_fd(const eep_watch *watch);

#ifdef __cplusplus
}
#endif
#endif
