/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies in shared memory: opening a copier, and why one cannot be opened. */
#include "transport/bulk/bulk_shm.h"
#include "graphs/base/descriptors.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPEN_US = 5000000, /* longest wait for the holder */
    DESCRIPTORS = 4    /* that a copier takes once its first two are made */
};

/* Nothing that waiting could mend. */
static bool is_final(eep_status status)
{
    return status == EEP_ERR_STATE || status == EEP_ERR_UNSUPPORTED || status == EEP_ERR_INVALID ||
           status == EEP_ERR_NO_MEMORY;
}

static bool meet_holder(bulk_shm *shm)
{
    uint64_t until_us = eepi_now_us() + OPEN_US;
    eepi_bulk_set_timer(&shm->base, 0); /* it is set to now, for the first progress */
    while (!shm->is_held) {
        uint64_t now_us = eepi_now_us(), wake_us = 0;
        shm->now_us = now_us;
        if (now_us >= until_us || (!shm->holder.is_known && is_final(shm->holder.why))) {
            return false;
        }
        if (eepi_holder_client_progress(&shm->holder, now_us) != 0) {
            continue;
        }
        wake_us = eepi_holder_client_wake_us(&shm->holder);
        wake_us = wake_us < until_us ? wake_us : until_us;
        struct pollfd fd = {.fd = shm->base.poll_fd, .events = POLLIN};
        (void)poll(&fd, 1, wake_us > now_us ? (int)((wake_us - now_us) / 1000 + 1) : 0);
    }
    eepi_bulk_wake(&shm->base);
    return true;
}

static eep_status refuse_holder(const bulk_shm *shm, char *error_out, size_t error_bytes)
{
    static const char otherwise[] =
        "bulk = EEP_BULK_UCX (eep-run --bulk ucx) needs none, but opens network ports";
    const char *path = shm->holder.path;
    eep_status why = shm->holder.why;
    if (is_final(why) || why == EEP_ERR_SYSTEM) {
        return eepi_bulk_fail(error_out, error_bytes, why,
                              "the holder at %s does not take this rank's memory: %s", path,
                              eepi_shm_refusal(why));
    }
    return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_UNREACHABLE,
                          "no holder answers at %s within %d s (it is part of the host's "
                          "agent): %s; %s",
                          path, OPEN_US / 1000000, eepi_shm_refusal(why), otherwise);
}

static eep_status refuse_system(eep_status status, const char *call, char *error_out,
                                size_t error_bytes)
{
    char text[256];
    int error = errno;
    if (eepi_descriptors_lack(DESCRIPTORS, "a copier of weights", text, sizeof text)) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_SYSTEM, "%s: %s", call, text);
    }
    return eepi_bulk_fail(error_out, error_bytes, status, "%s: %s", call, strerror(error));
}

eep_status eepi_bulk_shm_open(const eepi_bulk_config *config, char *error_out, size_t error_bytes,
                              eepi_bulk **bulk_out)
{
    if (config->holder_path == NULL || strlen(config->holder_path) >= EEPI_HOLDER_PATH_BYTES) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_INVALID,
                              "the holder's path must have 1 to %d bytes",
                              EEPI_HOLDER_PATH_BYTES - 1);
    }
    bulk_shm *shm = calloc(1, sizeof *shm);
    if (shm == NULL) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_NO_MEMORY, "out of memory");
    }
    shm->region_fd = -1;
    if (eepi_bulk_base_open(&shm->base, &eepi_shm_carrier, SHM_SLOT_BYTES, config) != EEP_OK) {
        free(shm);
        return refuse_system(EEP_ERR_SYSTEM, "epoll_create1", error_out, error_bytes);
    }
    eepi_shm_holder_fill(shm, config);
    const char *call = "getrandom";
    eep_status status = eepi_holder_client_init(&shm->holder);
    if (status == EEP_OK) {
        call = "a sealed memfd (Linux 5.1)";
        status = eepi_shm_region_make(&shm->region_fd, &shm->region);
    }
    if (status != EEP_OK) {
        status = refuse_system(status, call, error_out, error_bytes);
        eepi_shm_carrier.close(&shm->base);
        return status;
    }
    shm->address = (shm_address){.magic = SHM_ADDRESS_MAGIC,
                                 .version = SHM_ADDRESS_VERSION,
                                 .num_slots = SHM_SLOTS,
                                 .slot_bytes = SHM_SLOT_BYTES};
    memcpy(shm->address.identity, shm->holder.identity, sizeof shm->address.identity);
    shm->base.address = &shm->address;
    shm->base.address_bytes = sizeof shm->address;
    if (!meet_holder(shm)) {
        status = refuse_holder(shm, error_out, error_bytes);
        eepi_shm_carrier.close(&shm->base);
        return status;
    }
    *bulk_out = &shm->base;
    return EEP_OK;
}
