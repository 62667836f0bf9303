/* SPDX-License-Identifier: Apache-2.0 */
/* Devices whose descriptor of events is a pipe: a read that finds nothing fails with EAGAIN, as the
 * kernel's does. */
#include "tests/transport/fake_verbs.h"

#include <assert.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fake_device {
    struct ibv_device device;
    int num_ports;
    struct ibv_port_attr ports[FAKE_VERBS_PORTS + 1];
    bool removed;
} fake_device;

typedef struct fake_context {
    struct ibv_context context;
    int writes; /* the other end of async_fd */
    struct fake_context *next;
} fake_context;

static struct {
    pthread_mutex_t lock;
    int num_devices, unacknowledged;
    int num_domains, num_regions, refuses_with, last_access;
    fake_device devices[FAKE_VERBS_DEVICES];
    fake_context *contexts;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

static fake_device *device_of(struct ibv_context *context)
{
    return (fake_device *)context->device;
}

void fake_verbs_begin(int num_devices, int ports_per_device)
{
    assert(num_devices <= FAKE_VERBS_DEVICES && ports_per_device <= FAKE_VERBS_PORTS);
    world.num_devices = num_devices;
    world.unacknowledged = 0;
    world.refuses_with = 0;
    memset(world.devices, 0, sizeof world.devices);
    for (int i = 0; i < num_devices; i++) {
        fake_device *d = &world.devices[i];
        snprintf(d->device.name, sizeof d->device.name, "fake_%d", i);
        d->num_ports = ports_per_device;
        for (int port = 1; port <= ports_per_device; port++) {
            d->ports[port].link_layer = IBV_LINK_LAYER_INFINIBAND;
            fake_verbs_set(i, port, IBV_PORT_ACTIVE, 2, 32);
        }
    }
}

int fake_verbs_end(void)
{
    int left = 0;

    for (fake_context *c = world.contexts; c; c = c->next) {
        left++;
    }
    world.num_devices = 0;
    return left;
}

static struct ibv_device **get_device_list(int *num_devices)
{
    struct ibv_device **list = calloc((size_t)world.num_devices + 1, sizeof *list);

    for (int i = 0; list && i < world.num_devices; i++) {
        list[i] = &world.devices[i].device;
    }
    *num_devices = list ? world.num_devices : 0;
    return list;
}

static void free_device_list(struct ibv_device **list)
{
    free(list);
}

static struct ibv_context *open_device(struct ibv_device *device)
{
    fake_context *c = calloc(1, sizeof *c);
    int ends[2];

    if (!c || pipe(ends) != 0) {
        free(c);
        return NULL;
    }
    c->context.device = device;
    c->context.async_fd = ends[0];
    c->writes = ends[1];
    pthread_mutex_lock(&world.lock);
    c->next = world.contexts;
    world.contexts = c;
    pthread_mutex_unlock(&world.lock);
    return &c->context;
}

static int close_device(struct ibv_context *context)
{
    fake_context *c = (fake_context *)context;

    pthread_mutex_lock(&world.lock);
    for (fake_context **at = &world.contexts; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    pthread_mutex_unlock(&world.lock);
    close(c->context.async_fd);
    close(c->writes);
    free(c);
    return 0;
}

static int query_device(struct ibv_context *context, struct ibv_device_attr *attributes)
{
    memset(attributes, 0, sizeof *attributes);
    attributes->node_guid = 0x10 + (uint64_t)(device_of(context) - world.devices);
    attributes->phys_port_cnt = (uint8_t)device_of(context)->num_ports;
    return 0;
}

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attributes)
{
    if (port < 1 || port > device_of(context)->num_ports) {
        return EINVAL;
    }
    pthread_mutex_lock(&world.lock);
    *attributes = device_of(context)->ports[port];
    pthread_mutex_unlock(&world.lock);
    return 0;
}

static int get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    if (device_of(context)->removed) {
        errno = ENODEV;
        return -1;
    }
    return read(context->async_fd, event, sizeof *event) == sizeof *event ? 0 : -1;
}

static void ack_async_event(struct ibv_async_event *event)
{
    (void)event;
    __atomic_fetch_sub(&world.unacknowledged, 1, __ATOMIC_SEQ_CST);
}

static struct ibv_pd *alloc_pd(struct ibv_context *context)
{
    struct ibv_pd *pd = calloc(1, sizeof *pd);

    if (pd) {
        pd->context = context;
        world.num_domains++;
    }
    return pd;
}

static int dealloc_pd(struct ibv_pd *pd)
{
    world.num_domains--;
    free(pd);
    return 0;
}

/* The descriptor is that of memory as large as is said. */
static struct ibv_mr *reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t bytes, uint64_t iova,
                                    int fd, int access)
{
    struct ibv_mr *mr;
    struct stat file;

    assert(offset == 0 && fstat(fd, &file) == 0 && (uint64_t)file.st_size == bytes);
    if (world.refuses_with) {
        errno = world.refuses_with;
        return NULL;
    }
    mr = calloc(1, sizeof *mr);
    if (mr) {
        mr->context = pd->context;
        mr->addr = (void *)(uintptr_t)iova;
        mr->length = bytes;
        world.last_access = access;
        world.num_regions++;
    }
    return mr;
}

static int dereg_mr(struct ibv_mr *mr)
{
    world.num_regions--;
    free(mr);
    return 0;
}

const eepi_verbs *fake_verbs(void)
{
    static const eepi_verbs verbs = {
        get_device_list, free_device_list, open_device, close_device, query_device,  query_port,
        get_async_event, ack_async_event,  alloc_pd,    dealloc_pd,   reg_dmabuf_mr, dereg_mr};

    return &verbs;
}

const eepi_verbs *fake_verbs_without_dmabuf(void)
{
    static eepi_verbs verbs;

    verbs = *fake_verbs();
    verbs.reg_dmabuf_mr = NULL;
    return &verbs;
}

void fake_verbs_refuse(int error)
{
    world.refuses_with = error;
}

int fake_verbs_num_regions(int *access_out)
{
    *access_out = world.last_access;
    return world.num_regions + world.num_domains;
}

void fake_verbs_set(int device, int port, int state, int width, int speed)
{
    struct ibv_port_attr *at = &world.devices[device].ports[port];

    pthread_mutex_lock(&world.lock);
    at->state = (enum ibv_port_state)state;
    at->active_width = (uint8_t)width;
    at->active_speed = (uint8_t)speed;
    pthread_mutex_unlock(&world.lock);
}

void fake_verbs_tell(int device, int port, int event_type)
{
    struct ibv_async_event event;

    memset(&event, 0, sizeof event);
    event.event_type = (enum ibv_event_type)event_type;
    event.element.port_num = port;
    pthread_mutex_lock(&world.lock);
    for (fake_context *c = world.contexts; c; c = c->next) {
        if (c->context.device == &world.devices[device].device) {
            __atomic_fetch_add(&world.unacknowledged, 1, __ATOMIC_SEQ_CST);
            if (write(c->writes, &event, sizeof event) != (ssize_t)sizeof event) {
                abort();
            }
        }
    }
    pthread_mutex_unlock(&world.lock);
}

void fake_verbs_port_down(int device, int port)
{
    fake_verbs_set(device, port, IBV_PORT_DOWN, 2, 32);
    fake_verbs_tell(device, port, IBV_EVENT_PORT_ERR);
}

void fake_verbs_port_up(int device, int port)
{
    fake_verbs_set(device, port, IBV_PORT_ACTIVE, 2, 32);
    fake_verbs_tell(device, port, IBV_EVENT_PORT_ACTIVE);
}

void fake_verbs_remove(int device)
{
    world.devices[device].removed = true;
    fake_verbs_tell(device, 0, IBV_EVENT_DEVICE_FATAL); /* wakes who polls; cannot be read */
}

int fake_verbs_unacknowledged(void)
{
    return __atomic_load_n(&world.unacknowledged, __ATOMIC_SEQ_CST);
}
