/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of one machine. The host side, and on the host backend all of a window, is a memfd; where
 * the device's memory is discrete, the device side is memory that the device's backend shares.
 *
 * A whole window is opened through /proc/<pid>/fd, so no descriptor has to be passed around. The
 * two descriptors of a window with two sides are copied out of its process, the device's
 * first: its host side is closed first and says whose it is, so if that one was still there, the
 * other, which was copied before, belongs to it. A window of this process itself goes the same way,
 * but a device that knows its own process's memory is not asked to import it. */
#include "transport/window/window.h"

#include "graphs/device/device_share.h"
#include "graphs/base/descriptors.h"
#include "transport/window/peer_descriptor.h"

#include <stdbool.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct eepi_window {
    eep_device *device;
    size_t bytes;
    eepi_share host, device_side; /* device_side: all zero if it is the host side */
};

enum { DEVICE_FD, HOST_FD, NUM_FDS }; /* in the order in which they are copied */

/* What a descriptor's bytes are. Magic and version keep their place in every version. Fields of one
 * version that this build cannot fill are zero. */
enum { PLACE_MAGIC = 0x45455044 };
typedef struct place {
    uint32_t magic, version;
    int32_t pid;
    int32_t fds[NUM_FDS]; /* fds[DEVICE_FD] -1: the host side is all */
    char backend[12];     /* of the owner's device: only one of the same kind can map its memory */
    uint64_t bytes, device_bytes;
    uint8_t gpu_uuid[16];      /* an ordinal means another GPU in each process */
    uint8_t fabric_handle[64]; /* device memory that other hosts of a fabric map */
    uint8_t remote_key[96];    /* what a network interface wants to store into it */
    uint8_t unused[32];
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

eep_status eepi_window_create(eep_device *device, const eepi_window_spec *spec, char *why_out,
                              size_t why_bytes, eepi_window **window_out)
{
    int is_discrete = eepi_device_is_discrete(device);
    eepi_window *window = calloc(1, sizeof *window);
    eep_status status;

    if (!window) {
        snprintf(why_out, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    window->device = device;
    window->bytes = spec->bytes;
    status = eepi_host_share_make(NULL, is_discrete ? spec->host_bytes : spec->bytes, &window->host,
                                  why_out, why_bytes);
    if (status == EEP_OK && is_discrete) {
        eepi_peer_descriptors_allow();
        status = eepi_share_make(device, spec->bytes, &window->device_side, why_out, why_bytes);
    }
    if (status != EEP_OK) {
        eepi_window_close(window);
        return status;
    }
    fill_header(window->host.address, spec);
    *window_out = window;
    return EEP_OK;
}

/* ------------------------------------------------------------------ a peer's */

static eep_status map_whole(const place *from, eepi_window *window, char *why_out, size_t why_bytes)
{
    char path[64], text[160];
    eep_status status;
    int fd, error;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", from->pid, from->fds[HOST_FD]);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK); /* whatever that descriptor is by now */
    if (fd < 0) {
        error = errno;
        snprintf(why_out, why_bytes, "%s: %s", path,
                 eepi_descriptors_error(error, text, sizeof(text)));
        return error == EMFILE || error == ENFILE ? EEP_ERR_SYSTEM : EEP_ERR_UNREACHABLE;
    }
    status = eepi_host_share_map(NULL, fd, window->bytes, &window->host, why_out, why_bytes);
    close(fd);
    return status;
}

/* Of a rank that is a thread of this process: its device side is known here, and what has its
 * descriptor's number is found before the host side says whose that was, as with copies. */
static eep_status map_own(const place *from, const eepi_window_spec *spec, eepi_window *window,
                          char *why_out, size_t why_bytes)
{
    eep_status status = eepi_share_map_own(window->device, from->fds[DEVICE_FD], from->device_bytes,
                                           &window->device_side, why_out, why_bytes);
    int fd;

    if (status == EEP_OK) {
        status =
            eepi_peer_descriptors_copy(from->pid, &from->fds[HOST_FD], 1, &fd, why_out, why_bytes);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_host_share_map(NULL, fd, spec->host_bytes, &window->host, why_out, why_bytes);
    close(fd);
    return status;
}

static eep_status map_discrete(const place *from, const eepi_window_spec *spec, eepi_window *window,
                               char *why_out, size_t why_bytes)
{
    int fds[NUM_FDS];
    eep_status status;

    if (from->device_bytes < spec->bytes) {
        snprintf(why_out, why_bytes, "its window has %llu bytes, %llu are needed",
                 (unsigned long long)from->device_bytes, (unsigned long long)spec->bytes);
        return EEP_ERR_UNREACHABLE;
    }
    if (from->pid == (int32_t)getpid() && eepi_share_has_own(window->device)) {
        return map_own(from, spec, window, why_out, why_bytes);
    }
    status = eepi_peer_descriptors_copy(from->pid, from->fds, NUM_FDS, fds, why_out, why_bytes);
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_host_share_map(NULL, fds[HOST_FD], spec->host_bytes, &window->host, why_out,
                                 why_bytes);
    /* the descriptor of another process that has the number by now never gets to the driver */
    if (status == EEP_OK && is_the_one(window->host.address, spec)) {
        status = eepi_share_map(window->device, fds[DEVICE_FD], from->device_bytes,
                                &window->device_side, why_out, why_bytes);
    }
    for (int i = 0; i < NUM_FDS; i++) {
        close(fds[i]);
    }
    return status;
}

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
        eepi_device_is_discrete(window->device) == (from->fds[DEVICE_FD] >= 0)) {
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "its window is %.*s memory%s, this rank's device is %s%s",
             (int)sizeof from->backend, from->backend,
             from->fds[DEVICE_FD] >= 0 ? " that is discrete" : "", own,
             eepi_device_is_discrete(window->device) ? ", whose memory is discrete" : "");
    return EEP_ERR_UNSUPPORTED;
}

static eep_status map_from(const place *from, const eepi_window_spec *spec, eepi_window *window,
                           char *why_out, size_t why_bytes)
{
    eep_status status;

    status = check_version(from, why_out, why_bytes);
    if (status != EEP_OK) {
        return status;
    }
    status = check_kind(from, window, why_out, why_bytes);
    if (status != EEP_OK) {
        return status;
    }
    if (from->bytes != spec->bytes) {
        snprintf(why_out, why_bytes, "its window has %llu bytes, not %zu",
                 (unsigned long long)from->bytes, spec->bytes);
        return EEP_ERR_UNREACHABLE;
    }
    status = from->fds[DEVICE_FD] >= 0 ? map_discrete(from, spec, window, why_out, why_bytes)
                                       : map_whole(from, window, why_out, why_bytes);
    if (status == EEP_ERR_INVALID) { /* the number is another process's by now, or another file's */
        status = EEP_ERR_UNREACHABLE;
    }
    if (status == EEP_OK && !is_the_one(window->host.address, spec)) {
        snprintf(why_out, why_bytes, "process %d holds another window there", from->pid);
        status = EEP_ERR_UNREACHABLE;
    }
    return status;
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
    window->device = device;
    window->bytes = spec->bytes;
    memcpy(&from, descriptor->bytes, sizeof from);
    status = map_from(&from, spec, window, why_out, why_bytes);
    if (status != EEP_OK) {
        eepi_window_close(window);
        return status;
    }
    *window_out = window;
    return EEP_OK;
}

void eepi_window_close(eepi_window *window)
{
    if (!window) {
        return;
    }
    if (window->host.address) {
        eepi_host_share_close(NULL, &window->host);
    }
    eepi_share_close(window->device, &window->device_side);
    free(window);
}

eepk_window_header *eepi_window_header(const eepi_window *window)
{
    return window->host.address;
}

void *eepi_window_device_address(const eepi_window *window)
{
    return eepi_window_is_discrete(window) ? window->device_side.address : window->host.address;
}

bool eepi_window_is_discrete(const eepi_window *window)
{
    return window->device_side.address != NULL;
}

int eepi_window_device_fd(const eepi_window *window)
{
    return eepi_window_is_discrete(window) ? window->device_side.fd : window->host.fd;
}

void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out)
{
    int is_discrete = eepi_window_is_discrete(window);
    place to = {
        .magic = PLACE_MAGIC,
        .version = EEPI_WINDOW_DESCRIPTOR_VERSION,
        .pid = (int32_t)getpid(),
        .fds =
            {[DEVICE_FD] = is_discrete ? window->device_side.fd : -1, [HOST_FD] = window->host.fd},
        .bytes = window->bytes,
        .device_bytes = is_discrete ? window->device_side.mapped_bytes : 0};

    snprintf(to.backend, sizeof to.backend, "%s", eep_device_backend(window->device));
    memset(descriptor_out, 0, sizeof *descriptor_out);
    memcpy(descriptor_out->bytes, &to, sizeof to);
}
