/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copiers under test: in this process, and in others that can be killed. Waits are on
 * descriptors, with a bound that no healthy run comes near; a lost wake-up therefore fails. */
#ifndef EEPT_BULK_FIXTURE_H
#define EEPT_BULK_FIXTURE_H

#include "transport/bulk/bulk_base.h"
#include "transport/holder/holder.h"

#include <sys/types.h>

enum {
    WAIT_MS = 30000,           /* longest wait for anything */
    FETCH_US = 3000000,        /* timeout of fetches that are to end earlier */
    ROUNDS = 20,               /* kills per test */
    SMALL_BYTES = 1200007,     /* expert 1: three pieces, none of them a multiple of a chunk */
    LARGE_BYTES = 32 * 1048576 /* expert 2: one piece, cannot be in flight all at once */
};

extern unsigned char *small_blob, *large_blob;
void make_blobs(void);
void free_blobs(void);
/* Of all copiers that are opened from now on; children take it over. With shared memory a process
 * is the holder, until free_blobs. */
void use_carrier(eep_bulk carrier);
extern pid_t holder_pid;
const char *bulk_fixture_holder_path(void);
/* A socket that listens at the holder's path in place of what was there; the caller closes it. */
int listen_as_holder(void);
/* A new process at the path of the holder, and the end of the present one. */
pid_t start_holder(void);
void kill_holder(void);

/* One bulk and what its `done` and `serve` were called with. */
typedef struct node {
    eepi_bulk *bulk;
    const void *address;
    size_t address_bytes;
    int served;
    int ended;
    uint64_t transfer;
    eep_status status;
    unsigned char *landing; /* where fetches without a buffer land */
    uint64_t landed;        /* bytes so far */
    int notes;
    char note[BULK_NOTE_BYTES]; /* the last */
} node;

/* Expert 1 is small_blob in three parts, 2 large_blob, 3 has too many parts; `user` is a node. */
int bulk_fixture_serve(void *user, const eepi_blob *blob, uint64_t bytes,
                       eepi_bulk_part *parts_out);
void bulk_fixture_land(void *user, uint64_t transfer, uint64_t offset, const void *data,
                       uint64_t bytes);
void bulk_fixture_done(void *user, uint64_t transfer, eep_status status);
void bulk_fixture_note(void *user, const char *text);
/* Returns 0, or -1 with a line on stderr. */
int open_node(node *of);
/* Returns the transfer; 0: refused. */
uint64_t fetch(node *by, const void *address, size_t address_bytes, uint64_t epoch, int expert,
               void *buffer, size_t bytes, uint64_t timeout_us);
/* Progress one or two nodes (`b` may be NULL) until a has had `ended` ends; 0 if that came. */
int run_until(node *a, node *b, int ended);
void fetch_small_from(node *by, const void *address, size_t address_bytes);
/* Progress both until the first byte of the large blob has landed in `buffer` (zeroed before). */
void run_until_first_chunk(node *by, node *server, const unsigned char *buffer);
/* Of this process; the one that counts is among them. */
int open_descriptors(void);
/* Progress a server until it was asked once more. */
void run_until_served(node *server, int served);

/* A process made before this one opens UCX (its thread and sockets do not survive a fork), which
 * waits until it is told to begin. */
typedef struct peer {
    pid_t pid;
    int go_fd, report_fd;
    size_t address_bytes;
    unsigned char address[BULK_ADDRESS_MAX_BYTES];
} peer;

/* Make a process that, once told, serves (`expert` 0) or fetches that expert. */
peer make_peer(int expert);
void begin_server(peer *server);
void begin_requester(const peer *requester, const node *server);
void stop_peer(const peer *victim);
void kill_peer(const peer *victim);
#endif
