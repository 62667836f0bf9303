/* SPDX-License-Identifier: Apache-2.0 */
/* What lies between processes besides the store: windows, ends of processes, bulk copies. */
#include "tests/sim/sim.h"

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/table_layout.h"
#include "membership/process/process.h"
#include "transport/bulk/bulk.h"
#include "transport/window/window.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ windows */

/* A mapped window has memory of its owner's, and its own list of it. */
struct eepi_window {
    uint8_t *host;
    struct {
        uint8_t *at;
        uint32_t serial; /* 0: none */
    } memory[EEPK_COLOURS][EEPK_MEMORIES_KEPT];
    uint32_t dropped[EEPK_COLOURS];
    eepi_window_spec spec;
    sim_process *owner;
    eepi_window *owners; /* its owner's; NULL: it is that */
};

eepi_window_spec eepi_window_spec_of(const eepk_shape *shape, uint32_t seat, uint32_t generation)
{
    return (eepi_window_spec){seat, generation, shape->window_bytes, shape->off_combine_tag};
}

static uint8_t *window_memory(size_t bytes)
{
    uint8_t *memory = aligned_alloc(EEPK_LINE_BYTES, bytes);

    if (!memory) {
        abort();
    }
    memset(memory, 0, bytes);
    return memory;
}

/* The index; -1: it is not there. */
static int find_memory(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        if (window->memory[colour][i].serial == serial) {
            return i;
        }
    }
    return -1;
}

/* P7: what was dropped is never there again, and no more is kept than there should be. */
static int place_for(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const int at = find_memory(window, colour, 0);

    SIM_MUST(at >= 0, "P7", "%d.%u keeps more memory of colour %u than %d", window->spec.seat,
             window->spec.generation, colour, EEPK_MEMORIES_KEPT);
    SIM_MUST(serial > window->dropped[colour], "P7", "memory %u of colour %u of %d.%u comes back",
             serial, colour, window->spec.seat, window->spec.generation);
    return at;
}

/* The memory outlives its owner, as a memfd that is mapped does: a zombie stores into it still. */
eep_status eepi_window_renew(eepi_window *window, uint32_t colour, uint32_t serial, char *why_out,
                             size_t why_bytes)
{
    int at;

    snprintf(why_out, why_bytes, "it is full");
    if (find_memory(window, colour, serial) >= 0) {
        return EEP_OK;
    }
    at = place_for(window, colour, serial);
    if (sim->failed) {
        return EEP_ERR_STATE;
    }
    window->memory[colour][at].at = window_memory(window->spec.bytes);
    window->memory[colour][at].serial = serial;
    sim->memories++;
    return EEP_OK;
}

eep_status eepi_window_create(eep_device *device, const eepi_window_spec *spec,
                              const uint32_t serial[EEPK_COLOURS], char *why_out, size_t why_bytes,
                              eepi_window **window_out)
{
    eepi_window *window = calloc(1, sizeof *window);

    (void)device;
    if (!window) {
        return EEP_ERR_NO_MEMORY;
    }
    window->host = window_memory(spec->host_bytes);
    window->spec = *spec;
    window->owner = sim_self();
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        if (eepi_window_renew(window, colour, serial[colour], why_out, why_bytes) != EEP_OK) {
            return EEP_ERR_STATE;
        }
    }
    *window_out = window;
    return EEP_OK;
}

eep_status eepi_window_map(eep_device *device, const eepi_window_descriptor *descriptor,
                           const eepi_window_spec *spec, char *why_out, size_t why_bytes,
                           eepi_window **window_out)
{
    eepi_window *owners, *window;

    (void)device;
    snprintf(why_out, why_bytes, "its process is gone, or it is another's");
    memcpy(&owners, descriptor->bytes, sizeof owners);
    if (!owners || !owners->owner->alive || memcmp(&owners->spec, spec, sizeof *spec) != 0) {
        return EEP_ERR_UNREACHABLE;
    }
    window = calloc(1, sizeof *window);
    if (!window) {
        return EEP_ERR_NO_MEMORY;
    }
    *window = (eepi_window){
        .host = owners->host, .spec = *spec, .owner = owners->owner, .owners = owners};
    *window_out = window;
    return EEP_OK;
}

/* What the descriptor does not say yet is not found: it follows in another record. */
static bool is_named(const eepi_window_descriptor *descriptor, uint32_t colour, uint32_t serial)
{
    uint32_t named[EEPK_COLOURS][EEPK_MEMORIES_KEPT];

    memcpy(named, descriptor->bytes + sizeof(void *), sizeof named);
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        if (named[colour][i] == serial) {
            return true;
        }
    }
    return false;
}

eep_status eepi_window_reach(eepi_window *window, const eepi_window_descriptor *descriptor,
                             uint32_t colour, uint32_t serial, char *why_out, size_t why_bytes)
{
    const int from = find_memory(window->owners, colour, serial);
    int at;

    snprintf(why_out, why_bytes, "memory %u of colour %u is not there", serial, colour);
    if (find_memory(window, colour, serial) >= 0) {
        return EEP_OK;
    }
    if (from < 0 || !window->owner->alive || !is_named(descriptor, colour, serial)) {
        return EEP_ERR_NOT_FOUND;
    }
    at = place_for(window, colour, serial);
    if (sim->failed) {
        return EEP_ERR_STATE;
    }
    window->memory[colour][at].at = window->owners->memory[colour][from].at;
    window->memory[colour][at].serial = serial;
    return EEP_OK;
}

/* Freed with its world: whoever stores into it later finds it. */
void eepi_window_drop(eepi_window *window, uint32_t colour, uint32_t serial, uint32_t but)
{
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        const uint32_t has = window->memory[colour][i].serial;
        if (has != 0 && has < serial && has != but) {
            window->dropped[colour] = has > window->dropped[colour] ? has : window->dropped[colour];
            window->memory[colour][i].serial = 0;
        }
    }
}

void eepi_window_close(eepi_window *window)
{
    (void)window; /* freed with its world */
}

eepk_window_header *eepi_window_header(const eepi_window *window)
{
    return (eepk_window_header *)window->host;
}

void *eepi_window_memory(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const int at = serial ? find_memory(window, colour, serial) : -1;

    return at < 0 ? NULL : window->memory[colour][at].at;
}

bool eepi_window_has_all(const eepi_window *window, const uint32_t serial[EEPK_COLOURS])
{
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        if (!eepi_window_memory(window, colour, serial[colour])) {
            return false;
        }
    }
    return true;
}

bool eepi_window_is_discrete(const eepi_window *window)
{
    (void)window;
    return sim->options.windows_discrete;
}

void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out)
{
    uint32_t named[EEPK_COLOURS][EEPK_MEMORIES_KEPT];

    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
            named[colour][i] = window->memory[colour][i].serial;
        }
    }
    memset(descriptor_out, 0, sizeof *descriptor_out);
    memcpy(descriptor_out->bytes, &window, sizeof window);
    memcpy(descriptor_out->bytes + sizeof window, named, sizeof named);
}

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
    return 1;
}

uint64_t eepi_process_start(int32_t pid)
{
    return (uint64_t)pid;
}

eepi_process_state eepi_process_look(int32_t pid, uint64_t start)
{
    const sim_process *p = by_pid(pid);

    (void)start;
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
    *holder_out = sim->seat_file[seat];
    return EEP_OK;
}

bool eepi_seat_has_ended(const char *store_path, int32_t seat, uint64_t home,
                         const eepi_seat_holder *holder)
{
    (void)store_path;
    (void)seat;
    (void)home;
    return holder->pid == 0 ||
           eepi_process_look(holder->pid, holder->pid_start) == EEPI_PROCESS_GONE;
}

eep_status eepi_seat_take(const char *store_path, int32_t seat, uint32_t floor,
                          eepi_seat_holder *holder, eepi_seat_holder *before_out)
{
    (void)store_path;
    *before_out = sim->seat_file[seat];
    if (before_out->generation &&
        !eepi_seat_has_ended(store_path, seat, holder->home, before_out)) {
        return EEP_ERR_SEAT_TAKEN;
    }
    holder->generation = (before_out->generation > floor ? before_out->generation : floor) + 1;
    holder->lock_fd = -1;
    sim->seat_file[seat] = *holder;
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
    if (sim->seat_file[seat].generation == own->generation) {
        sim->seat_file[seat].pid = 0;
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
    eepi_bulk *at = to_source ? t->from : t->to;
    arrived *a = calloc(1, sizeof *a);

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
    sim_wake(&at->process->poll_key, 1);
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
