/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of libibverbs that ports and their memory need, as a table, so that a test has ports
 * where no RDMA device is. Their meaning, errno included, is that of the calls named ibv_*. */
#ifndef EEPI_IBVERBS_H
#define EEPI_IBVERBS_H

#include <stddef.h>
#include <stdint.h>

struct ibv_async_event;
struct ibv_context;
struct ibv_device;
struct ibv_device_attr;
struct ibv_mr;
struct ibv_pd;
struct ibv_port_attr;

typedef struct eepi_verbs {
    struct ibv_device **(*get_device_list)(int *num_devices); /* NULL: none, or no RDMA here */
    void (*free_device_list)(struct ibv_device **list);
    struct ibv_context *(*open_device)(struct ibv_device *device);
    int (*close_device)(struct ibv_context *context);
    int (*query_device)(struct ibv_context *context, struct ibv_device_attr *attributes);
    int (*query_port)(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attributes);
    /* Reads context->async_fd, which does not block. */
    int (*get_async_event)(struct ibv_context *context, struct ibv_async_event *event);
    void (*ack_async_event)(struct ibv_async_event *event);
    struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
    int (*dealloc_pd)(struct ibv_pd *pd);
    /* NULL: the libibverbs that this was compiled with has it not (rdma-core before 34). */
    struct ibv_mr *(*reg_dmabuf_mr)(struct ibv_pd *pd, uint64_t offset, size_t bytes, uint64_t iova,
                                    int fd, int access);
    int (*dereg_mr)(struct ibv_mr *mr);
} eepi_verbs;

/* This machine's. A test program that defines this function itself has its own everywhere. */
const eepi_verbs *eepi_verbs_system(void);
#endif
