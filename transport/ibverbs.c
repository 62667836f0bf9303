/* SPDX-License-Identifier: Apache-2.0 */
/* The table of libibverbs, and nothing else: a test program replaces this file as a whole. */
#include "transport/ibverbs.h"

#include <infiniband/verbs.h>

/* ibv_query_port is a macro. */
static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attributes)
{
    return ibv_query_port(context, port, attributes);
}

const eepi_verbs *eepi_verbs_system(void)
{
    static const eepi_verbs verbs = {
        .get_device_list = ibv_get_device_list,
        .free_device_list = ibv_free_device_list,
        .open_device = ibv_open_device,
        .close_device = ibv_close_device,
        .query_device = ibv_query_device,
        .query_port = query_port,
        .get_async_event = ibv_get_async_event,
        .ack_async_event = ibv_ack_async_event,
        .alloc_pd = ibv_alloc_pd,
        .dealloc_pd = ibv_dealloc_pd,
#ifdef EEPI_HAS_DMABUF_MR
        .reg_dmabuf_mr = ibv_reg_dmabuf_mr,
#endif
        .dereg_mr = ibv_dereg_mr,
    };

    return &verbs;
}
