/* SPDX-License-Identifier: Apache-2.0 */
/* The other process of the programs that measure bulk copies. */
#include "experiments/bench/bulk/bulk_peer.h"

#include "experiments/base/child.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

eepi_bulk *bulk_peer_copier(eep_bulk carrier, const char *holder_path, int seat,
                            eepi_bulk_serve_fn serve, eepi_bulk_done_fn done, void *user)
{
    char why[512] = "";
    eepi_bulk *bulk = NULL;
    eepi_bulk_config config = {.carrier = carrier,
                               .holder_path = holder_path,
                               .seat = seat,
                               .generation = 1,
                               .serve = serve,
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
                                   ignore, NULL);
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

int bulk_peer_make(bulk_peer *peer, const char *holder_path, eepi_bulk_serve_fn serve)
{
    int go[2], report[2];
    *peer = (bulk_peer){.pid = -1};
    if (pipe(go) != 0 || pipe(report) != 0) {
        return -1;
    }
    peer->pid = child_fork(&CHILD_SETUP, NULL);
    if (peer->pid == 0) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) == 1) {
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

int bulk_peer_begin(bulk_peer *peer)
{
    return write(peer->go_fd, "g", 1) == 1 &&
                   read(peer->report_fd, peer->address, sizeof peer->address) ==
                       (ssize_t)sizeof peer->address
               ? 0
               : -1;
}
