/* SPDX-License-Identifier: Apache-2.0 */
/* The holder of a seat on this machine: one line in a small file beside the store's socket. The
 * store may lose its memory; this does not, so no generation is given twice, and no process takes a
 * seat before its predecessor's end was seen (rule M7). The files stay when a store ends, since the
 * holders of the seats may live on; they are removed with the store's folder.
 *
 *   STORE_PATH.seatN   "generation pid start-time-of-the-process home\n", numbers of fixed width;
 *                      pid 0: its holder has closed its context
 *
 *   STORE_PATH.seats   empty: the gate that a process passes to take a seat (eepi_seats_enter); a
 * store that ends in order removes it, unless a process is inside
 *
 * A pid says something only where its process lives (eepi_process_home). So the holder of a seat
 * also holds a lock on its file (an open file description's, which goes with the process in any
 * namespace): of a holder from another pid or time namespace, or from before a reboot, the lock
 * alone says whether it lives. So it does where a process has the holder's pid and another start
 * time. A child that such a holder forked, and that has not called exec, keeps the lock. */
#ifndef EEPI_SEAT_FILE_H
#define EEPI_SEAT_FILE_H

#include "eep/status.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct eepi_seat_holder {
    uint32_t generation; /* 0: nobody yet */
    int32_t pid;
    uint64_t pid_start;
    uint64_t home; /* where that pid means something */
    int lock_fd;   /* of the process that took the seat: keeps the lock; not in the file */
} eepi_seat_holder;

/* The seat's last holder, generation 0 if nobody has had it. EEP_ERR_SYSTEM: nobody can tell
 * (errno; EINVAL: the file is not ours). Waits for nobody. */
EEP_MUST_CHECK eep_status eepi_seat_look(const char *store_path, int32_t seat,
                                         eepi_seat_holder *holder_out);
/* Its process is wholly gone, or it has closed its context. `home`: the caller's. */
bool eepi_seat_has_ended(const char *store_path, int32_t seat, uint64_t home,
                         const eepi_seat_holder *holder);
/* Take the seat for the process in *holder: *holder gets the next generation above `floor` and
 * above that of *before_out, which has ended, and the lock. EEP_ERR_SEAT_TAKEN: *before_out lives.
 * EEP_ERR_SYSTEM: errno says why; EBUSY: another process has been writing the file for a second. */
EEP_MUST_CHECK eep_status eepi_seat_take(const char *store_path, int32_t seat, uint32_t floor,
                                         eepi_seat_holder *holder, eepi_seat_holder *before_out);
/* The context of *own is closed, though its process lives on; its lock_fd is closed, too (-1: it
 * has none). EEP_ERR_SYSTEM as above: then the seat stays taken until the process ends. */
EEP_MUST_CHECK eep_status eepi_seat_release(const char *store_path, int32_t seat,
                                            const eepi_seat_holder *own);
/* Why a call on a seat's file failed with EEP_ERR_SYSTEM, and what to do, of its errno. */
static inline const char *eepi_seat_why(int error)
{
    if (error == EOVERFLOW) {
        return "generations have reached the last number; remove the file once no process of the "
               "instance lives";
    }
    if (error == EINVAL || error == ELOOP || error == ENXIO) {
        return "no rank has written what is there; remove the file once no process of the instance "
               "lives";
    }
    return strerror(error);
}

/* Pass the gate of all seats, from the first look at what the store says until the seat is taken
 * and said there: many may at once. `alone`: to look at all seats and clear the store, while nobody
 * takes one. *gate_out is given to eepi_seats_leave. EEP_ERR_SYSTEM: errno says why; EBUSY: another
 * process has been inside for 6 s. */
EEP_MUST_CHECK eep_status eepi_seats_enter(const char *store_path, bool alone, int *gate_out);
void eepi_seats_leave(int gate);
/* The instance is over: remove the files of seats 0 .. num_seats-1, and the gate unless somebody is
 * inside. With seats, also the agents' lock (membership/agent/agent_lock.h). */
void eepi_seats_remove(const char *store_path, int32_t num_seats);
#endif
