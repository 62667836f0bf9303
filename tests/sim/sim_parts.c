/* SPDX-License-Identifier: Apache-2.0 */
/* What lies between processes besides the store and windows: ends of processes, bulk copies. */
#include "tests/sim/sim.h"

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/table_layout.h"
#include "membership/context/context.h"
#include "membership/process/process.h"
#include "transport/bulk/bulk.h"
#include "transport/window/window.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A waiting rank sleeps on its doorbell; publishers ring it, one seat after the other. */
void eepk_doorbell_ring(uint32_t *doorbell)
{
    ++*doorbell;
    sim_wake(doorbell, 8);
    sim_point();
}

uint32_t eepk_looks_at_once(uint32_t num_ranks)
{
    (void)num_ranks;
    return 0; /* nothing changes while no time passes */
}

void eepk_poll_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen)
{
    (void)polls;
    if (*doorbell == seen) {
        (void)sim_wait(doorbell, sim->now_us + 20000); /* the product's nap is shorter */
    }
}

/* ------------------------------------------------------------------ processes */

static sim_process *by_pid(int32_t pid)
{
    int at = pid - 100;

    return at >= 0 && at < sim->num_processes ? sim->process[at] : NULL;
}

uint64_t eepi_process_home(void)
{
    return 1 + (uint64_t)sim_self()->host;
}

uint64_t eepi_process_start(int32_t pid)
{
    return (uint64_t)pid;
}

eepi_process_state eepi_process_look(int32_t pid, uint64_t start)
{
    const sim_process *p = by_pid(pid);

    (void)start;
    if (pid <= 0) {
        return EEPI_PROCESS_RUNS; /* of another host: nothing is known */
    }
    if (!p || (!p->alive && sim->now_us >= p->gone_us)) {
        return EEPI_PROCESS_GONE;
    }
    return p->alive ? EEPI_PROCESS_RUNS : EEPI_PROCESS_ENDING;
}

int eepi_process_watch(int32_t pid, uint64_t start)
{
    sim_process *p = by_pid(pid);

    if (sim->kinds >> SIM_LATE & 1u && sim_random(16) == 0) {
        return -1; /* no descriptors left */
    }
    return eepi_process_look(pid, start) != EEPI_PROCESS_GONE ? sim_fd_new(SIM_FD_PROCESS, p) : -1;
}

static void end_killed(void *user, uint64_t number)
{
    (void)number;
    sim_process_kill(user, "killed by a peer");
}

bool eepi_process_kill(int pidfd)
{
    sim_process *p = sim_fd_what(pidfd);

    if (!p || !p->alive || sim->kinds >> SIM_UNKILLABLE & 1u) {
        return false;
    }
    sim_check_kill(p);
    sim_after(sim_delay(50, 3000), end_killed, p, 0);
    return true;
}

/* ------------------------------------------------------------------ the seats' files */

eep_status eepi_seat_look(const char *store_path, int32_t seat, eepi_seat_holder *holder_out)
{
    (void)store_path;
    *holder_out = seat < SIM_MAX_SEATS
                      ? sim->seat_file[sim_self()->host][seat]
                      : (eepi_seat_holder){0}; /* agents look at all there may be */
    return EEP_OK;
}

bool eepi_seat_has_ended(const char *store_path, int32_t seat, uint64_t home,
                         const eepi_seat_holder *holder)
{
    const eepi_seat_holder *in_file = &sim->seat_file[sim_self()->host][seat];

    (void)store_path;
    if (holder->pid == 0 || holder->home == home || in_file->generation < holder->generation) {
        return holder->pid == 0 ||
               (holder->home == home && eepi_process_look(holder->pid, 0) == EEPI_PROCESS_GONE);
    }
    return in_file->generation > holder->generation || in_file->pid == 0 || /* the lock */
           eepi_process_look(in_file->pid, 0) == EEPI_PROCESS_GONE;
}

eep_status eepi_seat_take(const char *store_path, int32_t seat, uint32_t floor,
                          eepi_seat_holder *holder, eepi_seat_holder *before_out)
{
    (void)store_path;
    *before_out = sim->seat_file[sim_self()->host][seat];
    if (before_out->generation &&
        !eepi_seat_has_ended(store_path, seat, holder->home, before_out)) {
        return EEP_ERR_SEAT_TAKEN;
    }
    holder->generation = (before_out->generation > floor ? before_out->generation : floor) + 1;
    holder->lock_fd = -1;
    sim->seat_file[sim_self()->host][seat] = *holder;
    sim_self()->took = holder->generation;
    return EEP_OK;
}

/* Nobody clears a store here. */
eep_status eepi_seats_enter(const char *store_path, bool alone, int *gate_out)
{
    (void)store_path, (void)alone;
    *gate_out = -1;
    return EEP_OK;
}

void eepi_seats_leave(int gate)
{
    (void)gate;
}

void eepi_seats_remove(const char *store_path, int32_t num_seats)
{
    (void)store_path, (void)num_seats;
}

eep_status eepi_seat_release(const char *store_path, int32_t seat, const eepi_seat_holder *own)
{
    (void)store_path;
    if (sim->seat_file[sim_self()->host][seat].generation == own->generation) {
        sim->seat_file[sim_self()->host][seat].pid = 0;
        sim_self()->said_end = 1; /* whoever looks at the file may tell it before its own word */
    }
    return EEP_OK;
}

/* ------------------------------------------------------------------ bulk copies */

typedef struct transfer {
    struct transfer *next;
    struct eepi_bulk *from, *to; /* from: whom it is asked of */
    eepi_blob blob;
    uint64_t id;
    uint8_t *buffer, *copy;
    size_t bytes;
    eep_status status;
    int is_request, over;
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts;
} transfer;

typedef struct arrived {
    struct arrived *next;
    transfer *transfer;
    int is_request;
} arrived;

struct eepi_bulk {
    sim_process *process;
    eepi_bulk_serve_fn serve;
    eepi_bulk_served_fn served;
    eepi_bulk_land_fn land;
    eepi_bulk_done_fn done;
    void *user;
    int fd;
    uint64_t next_id;
    transfer *transfers;
    arrived *first, *last;
    struct eepi_bulk *self; /* the address */
};

eep_status eepi_bulk_open(const eepi_bulk_config *config, char *error_out, size_t error_bytes,
                          eepi_bulk **bulk_out)
{
    eepi_bulk *bulk = calloc(1, sizeof *bulk);

    (void)error_out;
    (void)error_bytes;
    if (!bulk) {
        return EEP_ERR_NO_MEMORY;
    }
    *bulk = (eepi_bulk){.process = sim_self(),
                        .serve = config->serve,
                        .served = config->served,
                        .land = config->land,
                        .done = config->done,
                        .user = config->user,
                        .next_id = 1,
                        .self = bulk};
    bulk->fd = sim_fd_new(SIM_FD_BULK, bulk);
    bulk->process->bulk = bulk;
    *bulk_out = bulk;
    return EEP_OK;
}

void eepi_bulk_close(eepi_bulk *bulk)
{
    (void)bulk;
}

eepi_bulk_facts eepi_bulk_facts_of(const eepi_bulk *bulk)
{
    (void)bulk;
    return (eepi_bulk_facts){.carrier = EEP_BULK_SHM};
}

void eepi_bulk_address(const eepi_bulk *bulk, const void **address_out, size_t *bytes_out)
{
    *address_out = &bulk->self;
    *bytes_out = sizeof bulk->self;
}

int eepi_bulk_fd(eepi_bulk *bulk)
{
    return bulk->fd;
}

int sim_bulk_is_readable(eepi_bulk *bulk)
{
    return bulk->first != NULL;
}

static void arrive(void *user, uint64_t to_source)
{
    transfer *t = user;
    const int from = t->from->process->host, to = t->to->process->host;
    eepi_bulk *at = to_source ? t->from : t->to;
    arrived *a;

    if (to_source ? sim_hosts_are_cut(to, from) : sim_hosts_are_cut(from, to)) {
        sim_after(sim_delay(10000, 100000), arrive, t, to_source); /* it is sent again */
        return;
    }
    a = calloc(1, sizeof *a);
    if (!a) {
        abort();
    }
    a->transfer = t;
    a->is_request = (int)to_source;
    if (at->last) {
        at->last->next = a;
    } else {
        at->first = a;
    }
    at->last = a;
    sim_wake(&at->process->poll_key, SIM_POLLERS);
}

/* The answer is on its way: back it comes whole, damaged, or not at all. */
static void answer(transfer *t, eep_status status)
{
    t->is_request = 0;
    t->status = status;
    if (status == EEP_OK && sim_random(1000) < (uint64_t)sim->corrupt_of_1000) {
        t->copy[sim_random(t->bytes)] ^= (uint8_t)(1u << sim_random(8));
    }
    sim_after(sim_delay(100, 3000), arrive, t, 0);
}

/* Copy the bytes from `begin` to `end` of the range that is asked for. */
static void gather(transfer *t, size_t begin, size_t end)
{
    size_t at = 0; /* of the part, in the blob */

    for (int i = 0; i < t->num_parts; i++) {
        for (size_t byte = 0; byte < t->parts[i].bytes; byte++) {
            const size_t in_range = at + byte - (size_t)t->blob.offset;
            if (at + byte >= t->blob.offset && in_range >= begin && in_range < end) {
                t->copy[in_range] = ((const uint8_t *)t->parts[i].data)[byte];
            }
        }
        at += t->parts[i].bytes;
    }
}

/* The slot may be written while it is sent: the second half is read later. */
static void send_rest(void *user, uint64_t number)
{
    transfer *t = user;

    (void)number;
    if (!t->from->process->alive) {
        answer(t, EEP_ERR_UNREACHABLE);
        return;
    }
    gather(t, t->bytes / 2, t->bytes);
    if (t->from->served) {
        t->from->served(t->from->user, t->parts, t->num_parts);
    }
    answer(t, EEP_OK);
}

static void give(transfer *t)
{
    size_t at = 0;

    t->num_parts = t->from->serve(t->from->user, &t->blob, t->bytes, t->parts);
    if (t->num_parts == 0) {
        answer(t, EEP_ERR_NOT_FOUND);
        return;
    }
    for (int i = 0; i < t->num_parts; i++) {
        at += t->parts[i].bytes;
    }
    if (at != t->blob.total) {
        abort();
    }
    t->copy = calloc(1, t->bytes);
    gather(t, 0, t->bytes / 2);
    sim_after(sim_delay(10, 2000), send_rest, t, 0);
}

static void end_transfer(eepi_bulk *bulk, transfer *t, eep_status status)
{
    if (t->over) {
        return;
    }
    t->over = 1;
    if (status == EEP_OK && t->buffer) {
        memcpy(t->buffer, t->copy, t->bytes);
    } else if (status == EEP_OK) {
        bulk->land(bulk->user, t->id, 0, t->copy, t->bytes);
    }
    bulk->done(bulk->user, t->id, status);
}

int eepi_bulk_progress(eepi_bulk *bulk)
{
    arrived *a = bulk->first;

    if (!a) {
        return 0;
    }
    bulk->first = a->next;
    if (!bulk->first) {
        bulk->last = NULL;
    }
    if (a->is_request) {
        give(a->transfer);
    } else {
        end_transfer(bulk, a->transfer, a->transfer->status);
    }
    free(a);
    return 1;
}

static void time_out(void *user, uint64_t unreachable)
{
    transfer *t = user;

    if (t->over || !t->to->process->alive || (unreachable && t->from->process->alive)) {
        return;
    }
    if (unreachable || t->is_request) {
        t->is_request = 0;
        t->status = unreachable ? EEP_ERR_UNREACHABLE : EEP_ERR_TIMEOUT;
        arrive(t, 0);
    }
}

eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address, size_t address_bytes,
                           const eepi_blob *blob, void *buffer, size_t bytes, uint64_t timeout_us,
                           uint64_t *transfer_out)
{
    transfer *t = calloc(1, sizeof *t);

    if (!t || address_bytes != sizeof t->from) {
        return EEP_ERR_INVALID;
    }
    memcpy(&t->from, peer_address, sizeof t->from);
    t->to = bulk;
    t->blob = *blob;
    t->blob.total = blob->total ? blob->total : blob->offset + bytes;
    t->id = bulk->next_id++;
    t->buffer = buffer;
    t->bytes = bytes;
    t->next = bulk->transfers;
    bulk->transfers = t;
    t->is_request = 1;
    sim_after(sim_delay(100, 3000), arrive, t, 1);
    sim_after(sim_delay(3000, 6000), time_out, t, 1); /* if its process has ended */
    sim_after(timeout_us, time_out, t, 0);
    *transfer_out = t->id;
    return EEP_OK;
}

void eepi_bulk_cancel(eepi_bulk *bulk, uint64_t id)
{
    for (transfer *t = bulk->transfers; t; t = t->next) {
        if (t->id == id && !t->over) {
            t->over = 1;
            t->status = EEP_ERR_ABORTED;
        }
    }
}

void eepi_bulk_cancel_before(eepi_bulk *bulk, uint64_t epoch)
{
    for (transfer *t = bulk->transfers; t; t = t->next) {
        if (!t->over && t->blob.epoch < epoch) {
            end_transfer(bulk, t, EEP_ERR_ABORTED);
        }
    }
}

void eepi_bulk_forget(eepi_bulk *bulk, const void *peer_address, size_t address_bytes)
{
    (void)bulk;
    (void)peer_address;
    (void)address_bytes;
}
