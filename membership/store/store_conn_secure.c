/* SPDX-License-Identifier: Apache-2.0 */
/* The store server's connections that speak through a channel: the proof, what arrives, and what is
 * refused. Nothing of a connection reaches the table before its proof. */
#include "membership/store/store_conn.h"
#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <stdlib.h>
#include <sys/socket.h>

static void count(eepi_store_conn *conn, eepi_secure_fault fault)
{
    if (!conn->dead) {
        __atomic_fetch_add(&conn->store->counts.of[fault], 1, __ATOMIC_RELAXED);
    }
}

void eepi_store_turn_away(int fd, eep_status status)
{
    const eepi_store_message why = {.type = EEPI_STORE_MSG_REPLY, .status = status, .key = ""};
    unsigned char frame[EEPI_STORE_HEAD_MAX];
    const size_t bytes = eepi_store_wire_encode(&why, frame);
    (void)!send(fd, frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

eepi_secure_counts eepi_store_counts(const struct eep_store *store)
{
    eepi_secure_counts counts = {.opened =
                                     __atomic_load_n(&store->counts.opened, __ATOMIC_RELAXED)};
    for (int i = 0; i < EEPI_SECURE_FAULTS; i++) {
        counts.of[i] = __atomic_load_n(&store->counts.of[i], __ATOMIC_RELAXED);
    }
    return counts;
}

bool eepi_store_conn_greet(eepi_store_conn *conn, eepi_store_conn **crowded_out)
{
    struct eep_store *store = conn->store;
    *crowded_out = NULL;
    conn->secure = malloc(sizeof *conn->secure);
    if (!conn->secure || eepi_secure_start(conn->secure, &store->secure_config) != EEP_OK) {
        return false;
    }
    *crowded_out =
        eepi_secure_waiting_add(&store->waiting, conn, eepi_tcp_peer(conn->fd), store->now_us);
    if (*crowded_out) {
        count(*crowded_out, EEPI_SECURE_CROWDED);
    }
    return true;
}

eep_status eepi_store_conn_receive(eepi_store_conn *conn, size_t *got_out)
{
    const bool was_open = eepi_secure_is_open(conn->secure);
    const eep_status status =
        eepi_store_secure_receive(conn->secure, conn->fd, &conn->inbox, got_out);
    if (!was_open && eepi_secure_is_open(conn->secure)) {
        __atomic_fetch_add(&conn->store->counts.opened, 1, __ATOMIC_RELAXED);
    }
    if (conn->secure->state >= EEPI_SECURE_OPEN) {
        eepi_secure_waiting_remove(&conn->store->waiting, conn);
    }
    if (conn->secure->fault == EEPI_SECURE_GARBAGE && conn->secure->peer.newest == 0) {
        eepi_store_turn_away(conn->fd, EEP_ERR_STATE); /* a client without a key speaks frames */
    }
    if (conn->secure->fault != EEPI_SECURE_FINE) {
        count(conn, conn->secure->fault);
    }
    return status;
}

eepi_store_conn *eepi_store_conns_unproven(struct eep_store *store, uint64_t *next_us_out)
{
    eepi_store_conn *late = eepi_secure_waiting_expire(&store->waiting, store->now_us, next_us_out);
    if (late) {
        count(late, EEPI_SECURE_UNPROVEN);
    }
    return late;
}

void eepi_store_conn_unsecure(eepi_store_conn *conn)
{
    if (conn->secure) {
        eepi_secure_waiting_remove(&conn->store->waiting, conn);
        eepi_secure_end(conn->secure);
        free(conn->secure);
        conn->secure = NULL;
    }
}
