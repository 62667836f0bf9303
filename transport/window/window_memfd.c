/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of one machine. The host side is a memfd; what kernels store into is memory that the
 * device's backend shares, which is a memfd on the host backend.
 *
 * A memfd is opened through /proc/<pid>/fd, so no descriptor has to be passed around. Descriptors
 * of a device's memory are copied out of the owner's process, and its host side with them. The
 * number of one that was closed may be given to another file, and the owner closes the memory that
 * it drops. So the owner lists what it has in the header of the host side, and takes an entry off
 * before it closes the descriptor. Whoever has has a copy of a descriptor looks at the header
 * afterwards: if the entry stands there still, the copy is of that memory. The host side itself
 * says whose it is. A window of this process goes the same way, but a device that knows its own
 * process's memory is not asked to import it. */
#include "transport/window/window.h"

#include "graphs/base/descriptors.h"
#include "graphs/device/device_share.h"
#include "graphs/kernels/compiler_macros.h"
#include "transport/window/peer_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of one colour; serial 0: none. */
typedef struct memory {
    eepi_share share;
    uint32_t serial;
} memory;

struct eepi_window {
    eep_device *device;
    eepi_window_spec spec;
    bool is_own;
    eepi_share host;
    memory memories[EEPK_COLOURS][EEPK_MEMORIES_KEPT];
    uint32_t dropped[EEPK_COLOURS]; /* the newest of each colour */
};

/* What a descriptor's bytes are. Magic and version keep their place in every version. Fields of one
 * version that this build cannot fill are zero. */
enum { PLACE_MAGIC = 0x45455044, KEY_BYTES = 128 - 16 * EEPK_MEMORIES_KEPT };
typedef struct place {
    uint32_t magic, version;
    int32_t pid, host_fd;
    char backend[12]; /* of the owner's device: only one of the same kind can map its memory */
    int32_t is_discrete;
    uint64_t bytes, mapped_bytes;                      /* of a memory: as asked for, as it is */
    uint64_t memory[EEPK_COLOURS][EEPK_MEMORIES_KEPT]; /* as in eepk_window_header */
    uint8_t gpu_uuid[16];          /* an ordinal means another GPU in each process */
    uint8_t fabric_handle[64];     /* device memory that other hosts of a fabric map */
    uint8_t remote_key[KEY_BYTES]; /* what a network interface wants to store into it */
} place;
static_assert(sizeof(place) == EEPI_WINDOW_DESCRIPTOR_BYTES, "all of it");

eepi_window_spec eepi_window_spec_of(const eepk_shape *shape, uint32_t seat, uint32_t generation)
{
    return (eepi_window_spec){seat, generation, shape->window_bytes, shape->off_combine_tag};
}

static void fill_header(eepk_window_header *header, const eepi_window_spec *spec)
{
    header->magic = EEPK_WINDOW_MAGIC;
    header->version = EEPK_WINDOW_VERSION;
    header->seat = spec->seat;
    header->generation = spec->generation;
    header->bytes = spec->bytes;
}

static bool is_the_one(const eepk_window_header *header, const eepi_window_spec *spec)
{
    return header->magic == EEPK_WINDOW_MAGIC && header->version == EEPK_WINDOW_VERSION &&
           header->seat == spec->seat && header->generation == spec->generation &&
           header->bytes == spec->bytes;
}

/* NULL: there is none; serial 0: a place for another one. */
static memory *find(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const memory *of = window->memories[colour];

    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        if (__atomic_load_n(&of[i].serial, __ATOMIC_ACQUIRE) == serial) {
            return (memory *)(uintptr_t)&of[i];
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ an own one */

static uint64_t *listed(const eepi_window *window, uint32_t colour, const memory *m)
{
    eepk_window_header *header = window->host.address;

    return &header->memory[colour][m - window->memories[colour]];
}

static uint64_t entry_of(const memory *m)
{
    return m->serial ? (uint64_t)m->serial << 32 | (uint32_t)(m->share.fd + 1) : 0;
}

eep_status eepi_window_renew(eepi_window *window, uint32_t colour, uint32_t serial, char *why_out,
                             size_t why_bytes)
{
    memory *m = find(window, colour, 0);
    eep_status status;

    if (find(window, colour, serial)) {
        return EEP_OK;
    }
    if (!m || serial <= window->dropped[colour]) {
        snprintf(why_out, why_bytes, "memory %u of colour %u %s", serial, colour,
                 m ? "was dropped" : "is one more than are kept");
        return EEP_ERR_STATE;
    }
    status = eepi_share_make(window->device, window->spec.bytes, &m->share, why_out, why_bytes);
    if (status == EEP_OK) {
        __atomic_store_n(&m->serial, serial, __ATOMIC_RELEASE); /* partner: find */
        eepk_store_release(listed(window, colour, m), entry_of(m));
    }
    return status;
}

eep_status eepi_window_create(eep_device *device, const eepi_window_spec *spec,
                              const uint32_t serial[EEPK_COLOURS], char *why_out, size_t why_bytes,
                              eepi_window **window_out)
{
    eepi_window *window = calloc(1, sizeof *window);
    eep_status status;

    if (!window) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    *window = (eepi_window){.device = device, .spec = *spec, .is_own = true};
    status = eepi_host_share_make(NULL, spec->host_bytes, &window->host, why_out, why_bytes);
    if (status == EEP_OK) {
        if (eepi_device_is_discrete(device)) {
            eepi_peer_descriptors_allow();
        }
        fill_header(window->host.address, spec);
    }
    for (uint32_t colour = 0; colour < EEPK_COLOURS && status == EEP_OK; colour++) {
        status = eepi_window_renew(window, colour, serial[colour], why_out, why_bytes);
    }
    if (status != EEP_OK) {
        eepi_window_close(window);
        return status;
    }
    *window_out = window;
    return EEP_OK;
}

void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out)
{
    place to = {.magic = PLACE_MAGIC,
                .version = EEPI_WINDOW_DESCRIPTOR_VERSION,
                .pid = (int32_t)getpid(),
                .host_fd = window->host.fd,
                .is_discrete = eepi_device_is_discrete(window->device),
                .bytes = window->spec.bytes};
    const eepi_device_facts facts = eepi_device_facts_of(window->device);

    static_assert(sizeof to.gpu_uuid == sizeof facts.uuid, "as the driver has it");
    memcpy(to.gpu_uuid, facts.uuid, sizeof to.gpu_uuid);
    snprintf(to.backend, sizeof to.backend, "%s", eep_device_backend(window->device));
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
            const memory *m = &window->memories[colour][i];
            to.memory[colour][i] = entry_of(m);
            to.mapped_bytes = m->serial ? m->share.mapped_bytes : to.mapped_bytes;
        }
    }
    memset(descriptor_out, 0, sizeof *descriptor_out);
    memcpy(descriptor_out->bytes, &to, sizeof to);
}

/* ------------------------------------------------------------------ a peer's */

/* Are those bytes a descriptor that this build can read? */
static eep_status check_version(const place *from, char *why_out, size_t why_bytes)
{
    static const place none;

    if (memcmp(from, &none, sizeof none) == 0) { /* of a rank that has just taken its seat */
        snprintf(why_out, why_bytes, "its record names no window yet");
        return EEP_ERR_NOT_FOUND;
    }
    if (from->magic != PLACE_MAGIC) {
        snprintf(why_out, why_bytes, "its record holds no window descriptor");
        return EEP_ERR_UNREACHABLE;
    }
    if (from->version != EEPI_WINDOW_DESCRIPTOR_VERSION) {
        snprintf(why_out, why_bytes,
                 "its window descriptor has version %u and this libeep reads version %d: run one "
                 "version of libeep on all ranks",
                 from->version, EEPI_WINDOW_DESCRIPTOR_VERSION);
        return EEP_ERR_UNSUPPORTED;
    }
    return EEP_OK;
}

/* Can the device's kernels store into that window at all? */
static eep_status check_kind(const place *from, const eepi_window *window, char *why_out,
                             size_t why_bytes)
{
    const char *own = eep_device_backend(window->device);

    if (strncmp(from->backend, own, sizeof from->backend) == 0 &&
        eepi_device_is_discrete(window->device) == (from->is_discrete != 0)) {
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "its window is %.*s memory%s, this rank's device is %s%s",
             (int)sizeof from->backend, from->backend, from->is_discrete ? " that is discrete" : "",
             own, eepi_device_is_discrete(window->device) ? ", whose memory is discrete" : "");
    return EEP_ERR_UNSUPPORTED;
}

/* A descriptor of this process's own for what the owner has as `fd`, whatever that is by now. */
static eep_status open_copy(const place *from, int32_t fd, int *copy_out, char *why_out,
                            size_t why_bytes)
{
    char path[64], text[160];
    int error;

    if (from->is_discrete) {
        return eepi_peer_descriptors_copy(from->pid, &fd, 1, copy_out, why_out, why_bytes);
    }
    snprintf(path, sizeof path, "/proc/%d/fd/%d", from->pid, fd);
    *copy_out = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (*copy_out >= 0) {
        return EEP_OK;
    }
    error = errno;
    snprintf(why_out, why_bytes, "%s: %s", path, eepi_descriptors_error(error, text, sizeof text));
    return error == EMFILE || error == ENFILE ? EEP_ERR_SYSTEM : EEP_ERR_UNREACHABLE;
}

static eep_status map_host(const place *from, eepi_window *window, char *why_out, size_t why_bytes)
{
    int fd;
    eep_status status = open_copy(from, from->host_fd, &fd, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    status =
        eepi_host_share_map(NULL, fd, window->spec.host_bytes, &window->host, why_out, why_bytes);
    close(fd);
    if (status == EEP_ERR_INVALID) { /* the number is another process's by now, or another file's */
        return EEP_ERR_UNREACHABLE;
    }
    if (status == EEP_OK && !is_the_one(window->host.address, &window->spec)) {
        snprintf(why_out, why_bytes, "process %d holds another window there", from->pid);
        return EEP_ERR_UNREACHABLE;
    }
    return status;
}

static eep_status map_from(const place *from, eepi_window *window, char *why_out, size_t why_bytes)
{
    eep_status status;

    status = check_version(from, why_out, why_bytes);
    if (status != EEP_OK) {
        return status;
    }
    status = check_kind(from, window, why_out, why_bytes);
    if (status == EEP_OK && (from->bytes != window->spec.bytes ||
                             (from->mapped_bytes != 0 && from->mapped_bytes < from->bytes))) {
        snprintf(why_out, why_bytes, "its window has %llu bytes, %llu of them mapped, not %zu",
                 (unsigned long long)from->bytes, (unsigned long long)from->mapped_bytes,
                 window->spec.bytes);
        return EEP_ERR_UNREACHABLE;
    }
    return status == EEP_OK ? map_host(from, window, why_out, why_bytes) : status;
}

eep_status eepi_window_map(eep_device *device, const eepi_window_descriptor *descriptor,
                           const eepi_window_spec *spec, char *why_out, size_t why_bytes,
                           eepi_window **window_out)
{
    eepi_window *window = calloc(1, sizeof *window);
    eep_status status;
    place from;

    if (!window) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    *window = (eepi_window){.device = device, .spec = *spec};
    memcpy(&from, descriptor->bytes, sizeof from);
    status = map_from(&from, window, why_out, why_bytes);
    if (status != EEP_OK) {
        eepi_window_close(window);
        return status;
    }
    *window_out = window;
    return EEP_OK;
}

/* The header has the entry still: what was copied before is that memory. */
static bool is_listed(const eepi_window *window, uint32_t colour, uint64_t entry)
{
    eepk_window_header *header = window->host.address;

    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        if (eepk_load_acquire(&header->memory[colour][i]) == entry) {
            return true;
        }
    }
    return false;
}

static eep_status not_listed(uint32_t colour, uint32_t serial, char *why_out, size_t why_bytes)
{
    snprintf(why_out, why_bytes, "it has no memory %u of colour %u", serial, colour);
    return EEP_ERR_NOT_FOUND;
}

static void write_uuid(const uint8_t uuid[16], char out[48])
{
    size_t at = (size_t)snprintf(out, 48, "GPU-");

    for (int i = 0; i < 16; i++) { /* as nvidia-smi -L writes it */
        const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
        at += (size_t)snprintf(out + at, 48 - at, "%s%02x", dash, uuid[i]);
    }
}

/* The reason alone says which device of this process refused, if any. Ordinals of two processes may
 * name different devices, so both are named as nvidia-smi does. */
static void add_devices(const eepi_window *window, const place *from, char *why, size_t why_bytes)
{
    static const uint8_t unknown[16];
    const eepi_device_facts own = eepi_device_facts_of(window->device);
    const size_t at = strnlen(why, why_bytes);
    char theirs[48], ours[48];

    if (memcmp(from->gpu_uuid, unknown, sizeof unknown) == 0 ||
        memcmp(own.uuid, unknown, sizeof unknown) == 0) {
        return;
    }
    write_uuid(from->gpu_uuid, theirs);
    write_uuid(own.uuid, ours);
    snprintf(why + at, why_bytes - at, " (its window is on %s, this rank is on %s)", theirs, ours);
}

static eep_status map_memory(eepi_window *window, const place *from, int32_t fd, memory *m,
                             char *why_out, size_t why_bytes)
{
    int copy;
    eep_status status;

    if (from->pid == (int32_t)getpid() && eepi_share_has_own(window->device)) {
        status = eepi_share_map_own(window->device, fd, from->mapped_bytes, &m->share, why_out,
                                    why_bytes);
    } else {
        status = open_copy(from, fd, &copy, why_out, why_bytes);
        if (status != EEP_OK) {
            return status;
        }
        status =
            eepi_share_map(window->device, copy, from->mapped_bytes, &m->share, why_out, why_bytes);
        close(copy);
    }
    if (status != EEP_OK) {
        add_devices(window, from, why_out, why_bytes);
    }
    return status;
}

eep_status eepi_window_reach(eepi_window *window, const eepi_window_descriptor *descriptor,
                             uint32_t colour, uint32_t serial, char *why_out, size_t why_bytes)
{
    memory *m = find(window, colour, 0);
    uint64_t entry = 0;
    eep_status status;
    place from;

    if (find(window, colour, serial)) {
        return EEP_OK;
    }
    memcpy(&from, descriptor->bytes, sizeof from);
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        entry = from.memory[colour][i] >> 32 == serial ? from.memory[colour][i] : entry;
    }
    if (entry == 0 || !is_listed(window, colour, entry)) {
        return not_listed(colour, serial, why_out, why_bytes);
    }
    if (!m || serial <= window->dropped[colour]) {
        snprintf(why_out, why_bytes, "memory %u of colour %u %s", serial, colour,
                 m ? "was dropped" : "is one more than are kept");
        return EEP_ERR_STATE;
    }
    status = map_memory(window, &from, (int32_t)(uint32_t)entry - 1, m, why_out, why_bytes);
    if (status == EEP_OK && !is_listed(window, colour, entry)) {
        eepi_share_close(window->device, &m->share);
        return not_listed(colour, serial, why_out, why_bytes);
    }
    if (status == EEP_OK) {
        __atomic_store_n(&m->serial, serial, __ATOMIC_RELEASE);
    }
    return status == EEP_ERR_INVALID ? EEP_ERR_UNREACHABLE : status;
}

/* ------------------------------------------------------------------ both */

static void close_memory(eepi_window *window, uint32_t colour, memory *m)
{
    if (window->is_own && window->host.address) { /* partner: is_listed */
        eepk_store_release(listed(window, colour, m), 0);
    }
    if (m->serial > window->dropped[colour]) {
        window->dropped[colour] = m->serial;
    }
    __atomic_store_n(&m->serial, 0, __ATOMIC_RELEASE);
    eepi_share_close(window->device, &m->share);
    m->share = (eepi_share){0};
}

void eepi_window_drop(eepi_window *window, uint32_t colour, uint32_t serial, uint32_t but)
{
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        memory *m = &window->memories[colour][i];
        if (m->serial != 0 && m->serial < serial && m->serial != but) {
            close_memory(window, colour, m);
        }
    }
}

void eepi_window_close(eepi_window *window)
{
    if (!window) {
        return;
    }
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        eepi_window_drop(window, colour, UINT32_MAX, 0);
    }
    if (window->host.address) {
        eepi_host_share_close(NULL, &window->host);
    }
    free(window);
}

eepk_window_header *eepi_window_header(const eepi_window *window)
{
    return window->host.address;
}

void *eepi_window_memory(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const memory *m = serial ? find(window, colour, serial) : NULL;

    return m ? m->share.address : NULL;
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

bool eepi_window_has_dropped(const eepi_window *window, const uint32_t serial[EEPK_COLOURS])
{
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        if (serial[colour] <= window->dropped[colour]) {
            return true;
        }
    }
    return false;
}

bool eepi_window_is_discrete(const eepi_window *window)
{
    return eepi_device_is_discrete(window->device);
}

int eepi_window_memory_fd(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const memory *m = serial ? find(window, colour, serial) : NULL;

    return m ? m->share.fd : -1;
}
