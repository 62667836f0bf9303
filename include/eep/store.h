/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded store: a small linearizable key-value register with compare-and-swap, leases and
 * watches, served on a unix socket. Run it inside any process with these calls, or alone as the
 * program eep-store. Serving ranks do not touch it in steady state. */
#ifndef EEP_STORE_H
#define EEP_STORE_H

#include "eep/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct eep_store eep_store;

/* Serve on `path`, which is a path, `unix:PATH` or `tcp://HOST:PORT?local=PATH` (docs/STORES.md):
 * over TCP, beside the socket at PATH. Without a key (key-file=FILE or EEP_KEY_FILE) it serves on
 * loopback addresses alone. PATH (at most 107 bytes) lies in a directory that exists, is ours, and
 * is closed to all others, as by mode 0700. A thread of its own serves. A stale socket file is
 * replaced, also one that a forked child of an ended process still holds; EEP_ERR_CONFLICT if a
 * living store answers there. Only processes of the same user, and root, may connect to the socket.
 * `error_out` may be NULL.
 *
 * The agent of this host comes with it, unless another one serves (docs/AGENT.md): a second socket,
 * PATH.holder, where the memory is held that ranks copy weights through (EEP_BULK_SHM), and
 * PATH.agent, its lock. Both go away with the store.
 *
 * Ranks keep small files PATH.seatN beside the socket (links are followed first), with the newest
 * generation of each seat and the process that holds it, so that a store that ends and comes back
 * empty gives none of them again. They stay when a store or a rank ends. Remove them, or the
 * directory, when the instance is over, never while ranks live. A seat's
 * file says in which boot, pid namespace and time namespace its pid means something, and the
 * process keeps a lock on it: so neither a reboot nor another container makes a dead process seem
 * alive, or a living one dead. PATH.seats is empty, and is locked while a rank opens and while
 * eep_store_forget works; it goes away with the store. */
EEP_API EEP_MUST_CHECK eep_status eep_store_open(const char *path, char *error_out,
                                                 size_t error_bytes, eep_store **store_out);
/* Stop serving, close all connections, remove the socket files. In a forked child the store is its
 * parent's, which serves on: there only the child's copies are given back. */
EEP_API void eep_store_close(eep_store *store);
/* Remove what an instance left in the store that answers at `path`, once none of its processes
 * holds a seat (else EEP_ERR_STATE, and the text names one): for an instance that did not end in
 * order (eep_instance_end), where another configuration or other weights are to begin. The seats'
 * files stay, so generations go on. `error_out` may be NULL. */
EEP_API EEP_MUST_CHECK eep_status eep_store_forget(const char *path, char *error_out,
                                                   size_t error_bytes);

#ifdef __cplusplus
}
#endif
#endif
