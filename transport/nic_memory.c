/* SPDX-License-Identifier: Apache-2.0 */
/* Registered by a descriptor: the card's driver keeps the memory, whatever becomes of the
 * descriptor. */
#include "transport/nic_memory.h"

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct eepi_nic_memory {
    const eepi_verbs *verbs;
    struct ibv_pd *pd; /* of this memory alone */
    struct ibv_mr *mr;
};

static eep_status fail(eep_status status, const char *what, char *why_out, size_t why_bytes)
{
    snprintf(why_out, why_bytes, "%s: %s", what, strerror(errno));
    return status;
}

/* `fd` is the caller's. Without relaxed order: a tag may not overtake its rows (rule N4). */
static eep_status enter(eepi_nic_memory *m, struct ibv_context *context, const eepi_share *share,
                        int fd, char *why_out, size_t why_bytes)
{
    m->pd = m->verbs->alloc_pd(context);
    if (!m->pd) {
        return fail(EEP_ERR_SYSTEM, "ibv_alloc_pd", why_out, why_bytes);
    }
    m->mr = m->verbs->reg_dmabuf_mr(m->pd, 0, share->mapped_bytes, (uintptr_t)share->address, fd,
                                    IBV_ACCESS_LOCAL_WRITE);
    if (!m->mr) {
        return fail(errno == EOPNOTSUPP || errno == ENOSYS ? EEP_ERR_UNSUPPORTED : EEP_ERR_SYSTEM,
                    "ibv_reg_dmabuf_mr", why_out, why_bytes);
    }
    return EEP_OK;
}

eep_status eepi_nic_memory_open(const eepi_ports *ports, int nic, eep_device *device,
                                const eepi_share *share, char *why_out, size_t why_bytes,
                                eepi_nic_memory **memory_out)
{
    struct ibv_context *context = eepi_ports_context(ports, nic);
    eepi_nic_memory *m;
    eep_status status;
    int fd = -1;

    if (!eepi_ports_verbs(ports)->reg_dmabuf_mr) {
        snprintf(why_out, why_bytes,
                 "libeep was compiled with a libibverbs that has no "
                 "ibv_reg_dmabuf_mr (rdma-core 34)");
        return EEP_ERR_UNSUPPORTED;
    }
    if (!context) {
        snprintf(why_out, why_bytes, "its RDMA device could not be opened");
        return EEP_ERR_SYSTEM;
    }
    status = eepi_share_dmabuf(device, share, &fd, why_out, why_bytes);
    if (status != EEP_OK) {
        return status;
    }
    m = calloc(1, sizeof *m);
    if (m) {
        m->verbs = eepi_ports_verbs(ports);
        status = enter(m, context, share, fd, why_out, why_bytes);
    } else {
        snprintf(why_out, why_bytes, "out of memory");
        status = EEP_ERR_NO_MEMORY;
    }
    close(fd);
    if (status != EEP_OK) {
        eepi_nic_memory_close(m);
        return status;
    }
    *memory_out = m;
    return EEP_OK;
}

void eepi_nic_memory_close(eepi_nic_memory *memory)
{
    if (!memory) {
        return;
    }
    if (memory->mr) {
        (void)memory->verbs->dereg_mr(memory->mr);
    }
    if (memory->pd) {
        (void)memory->verbs->dealloc_pd(memory->pd);
    }
    free(memory);
}
