/* SPDX-License-Identifier: Apache-2.0 */
/* The pair of processes with which the programs measure bulk copies. */
#include "experiments/bench/bulk/bulk_peer.h"

#include "experiments/base/child.h"
#include "transport/topology.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

eepi_bulk *bulk_peer_copier(eep_bulk carrier, const char *holder_path, int seat,
                            eepi_bulk_serve_fn serve, eepi_bulk_land_fn land,
                            eepi_bulk_done_fn done, void *user)
{
    char why[512] = "";
    eepi_bulk *bulk = NULL;
    eepi_bulk_config config = {.carrier = carrier,
                               .holder_path = holder_path,
                               .seat = seat,
                               .generation = 1,
                               .serve = serve,
                               .land = land,
                               .done = done,
                               .user = user};
    if (eepi_bulk_open(&config, why, sizeof why, &bulk) != EEP_OK) {
        fprintf(stderr, "a copier cannot be opened: %s\n", why);
        exit(1);
    }
    return bulk;
}

void bulk_peer_turn(eepi_bulk *const *copiers, int num)
{
    struct pollfd fds[2];
    for (int i = 0; i < num; i++) {
        while (eepi_bulk_progress(copiers[i]) != 0) {
        }
        fds[i] = (struct pollfd){.fd = eepi_bulk_fd(copiers[i]), .events = POLLIN};
    }
    poll(fds, (nfds_t)num, 1000);
}

/* As a rank's service thread with bind_threads. */
static int bind_to_core(int seat)
{
    eepi_topology *topology = NULL;
    eep_status status = eepi_topology_open(&topology);
    if (status == EEP_OK && eepi_topology_num_pus(topology) < 2) {
        status = EEP_ERR_UNSUPPORTED;
    }
    if (status == EEP_OK) {
        status = eepi_topology_bind(topology, EEPI_THREAD_SERVICE, seat, 2);
    }
    eepi_topology_close(topology);
    return status == EEP_OK ? 0 : -1;
}

/* It asks for nothing. */
static void ignore(void *user, uint64_t transfer, eep_status status)
{
    (void)user;
    (void)transfer;
    (void)status;
}

static void serve_until_killed(bulk_peer *peer, const char *holder_path, eepi_bulk_serve_fn serve,
                               int report_fd)
{
    eepi_bulk *both[2];
    for (int i = 0; i < 2; i++) {
        const void *address = NULL;
        size_t bytes = 0;
        both[i] = bulk_peer_copier(i == 0 ? EEP_BULK_SHM : EEP_BULK_UCX, holder_path, 1, serve,
                                   NULL, ignore, NULL);
        eepi_bulk_address(both[i], &address, &bytes);
        peer->address[i][0] = (unsigned char)bytes;
        memcpy(peer->address[i] + 1, address, bytes);
    }
    if (write(report_fd, peer->address, sizeof peer->address) != sizeof peer->address) {
        _exit(1);
    }
    for (;;) {
        bulk_peer_turn(both, 2);
    }
}

/* The other process, which waits for the holder. 0, or -1 with errno. */
static int make_peer(bulk_peer *peer, const char *holder_path, eepi_bulk_serve_fn serve, bool binds)
{
    int go[2], report[2];
    if (pipe(go) != 0 || pipe(report) != 0) {
        return -1;
    }
    peer->pid = child_fork(&CHILD_SETUP, NULL);
    if (peer->pid == 0) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) == 1 && (!binds || bind_to_core(1) == 0)) {
            serve_until_killed(peer, holder_path, serve, report[1]);
        }
        _exit(0);
    }
    close(go[0]);
    close(report[1]);
    peer->go_fd = go[1];
    peer->report_fd = report[0];
    return peer->pid < 0 ? -1 : 0;
}

/* It begins, since the holder is there now. 0, or -1. */
static int begin_peer(bulk_peer *peer)
{
    return write(peer->go_fd, "g", 1) == 1 &&
                   read(peer->report_fd, peer->address, sizeof peer->address) ==
                       (ssize_t)sizeof peer->address
               ? 0
               : -1;
}

/* 0, or -1 with `why`. */
static int open_parts(bulk_pair *pair, eepi_bulk_serve_fn serve, bool binds,
                      char why[PRIVATE_DIR_ERROR_BYTES])
{
    char path[PRIVATE_DIR_BYTES + sizeof "/store"];
    if (private_dir_make("eep-bench", PRIVATE_DIR_BYTES - sizeof "/store", &pair->directory, why) !=
        0) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/store", pair->directory.path);
    eepi_holder_path(path, pair->holder_path);
    if (make_peer(&pair->peer, pair->holder_path, serve, binds) != 0) {
        snprintf(why, PRIVATE_DIR_ERROR_BYTES, "the other process cannot be made: %s",
                 strerror(errno));
        return -1;
    }
    if (eep_store_open(path, why, PRIVATE_DIR_ERROR_BYTES, &pair->store) != EEP_OK) {
        return -1;
    }
    if (binds && bind_to_core(0) != 0) {
        snprintf(why, PRIVATE_DIR_ERROR_BYTES, "there are no two CPUs to bind the processes to");
        return -1;
    }
    snprintf(why, PRIVATE_DIR_ERROR_BYTES, "the other process does not begin");
    return begin_peer(&pair->peer);
}

bool bulk_pair_open(bulk_pair *pair, const char *program, eepi_bulk_serve_fn serve, bool binds)
{
    char why[PRIVATE_DIR_ERROR_BYTES] = "";
    *pair = (bulk_pair){.peer = {.pid = -1}};
    if (open_parts(pair, serve, binds, why) != 0) {
        fprintf(stderr, "%s: %s\n", program, why);
        return false;
    }
    return true;
}

void bulk_pair_end_peer(bulk_pair *pair)
{
    if (pair->peer.pid > 0) {
        child_kill(pair->peer.pid, NULL);
        pair->peer.pid = -1;
    }
}

void bulk_pair_close(bulk_pair *pair)
{
    bulk_pair_end_peer(pair);
    eep_store_close(pair->store);
    private_dir_remove(&pair->directory);
}
