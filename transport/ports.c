/* SPDX-License-Identifier: Apache-2.0 */
/* Ports: read at open, and read again after each event that is about them. */
#include "transport/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS_PER_CALL = 64 }; /* of one device, so that a flood of events keeps nobody */

typedef struct watched {
    struct ibv_context *context; /* NULL: it could not be opened */
    bool is_watched;
    bool is_lost;
} watched;

struct eepi_ports {
    const eepi_verbs *verbs;
    int num_ports, num_devices;
    watched devices[EEPI_PORTS_MAX_DEVICES];
    eepi_port ports[EEPI_PORTS_MAX];
    eepi_port known[EEPI_PORTS_MAX]; /* as they were told last */
};

static const char *state_name(enum ibv_port_state state)
{
    switch (state) {
    case IBV_PORT_DOWN:
        return "down";
    case IBV_PORT_INIT:
        return "init";
    case IBV_PORT_ARMED:
        return "armed";
    case IBV_PORT_ACTIVE:
        return "active";
    case IBV_PORT_ACTIVE_DEFER:
        return "defer";
    default:
        return "unknown";
    }
}

static const char *link_layer_name(uint8_t link_layer)
{
    switch (link_layer) {
    case IBV_LINK_LAYER_UNSPECIFIED: /* what InfiniBand drivers said before there was a choice */
    case IBV_LINK_LAYER_INFINIBAND:
        return "InfiniBand";
    case IBV_LINK_LAYER_ETHERNET:
        return "Ethernet";
    default:
        return "unknown";
    }
}

/* Codes of the InfiniBand architecture specification, PortInfo: lanes x rate per lane. */
static double gbit_per_s(uint8_t width, uint8_t speed)
{
    static const struct {
        uint8_t code;
        double value;
    } widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}},
      speeds[] = {{1, 2.5},      {2, 5},         {4, 10},      {8, 10.3125},
                  {16, 14.0625}, {32, 25.78125}, {64, 53.125}, {128, 106.25}};
    double lanes = 0, rate = 0;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        if (widths[i].code == width) {
            lanes = widths[i].value;
        }
    }
    for (size_t i = 0; i < sizeof speeds / sizeof speeds[0]; i++) {
        if (speeds[i].code == speed) {
            rate = speeds[i].value;
        }
    }
    return lanes * rate;
}

static int numa_node_of(const struct ibv_device *device)
{
    char path[IBV_SYSFS_PATH_MAX + 32];
    int node = -1;
    snprintf(path, sizeof path, "%s/device/numa_node", device->ibdev_path);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    if (fscanf(file, "%d", &node) != 1) {
        node = -1;
    }
    fclose(file);
    return node;
}

static void describe_port(const eepi_ports *ports, eepi_port *port)
{
    const watched *device = &ports->devices[port->device_at];
    struct ibv_port_attr attributes = {0};

    port->is_active = false;
    port->gbit_per_s = 0;
    if (device->is_lost) {
        snprintf(port->state, sizeof port->state, "lost");
        return;
    }
    if (port->port == 0 ||
        ports->verbs->query_port(device->context, (uint8_t)port->port, &attributes) != 0) {
        snprintf(port->state, sizeof port->state, "unknown");
        return;
    }
    port->is_active = attributes.state == IBV_PORT_ACTIVE;
    snprintf(port->state, sizeof port->state, "%s", state_name(attributes.state));
    snprintf(port->link_layer, sizeof port->link_layer, "%s",
             link_layer_name(attributes.link_layer));
    port->gbit_per_s = gbit_per_s(attributes.active_width, attributes.active_speed);
}

/* Events are taken only where reading them cannot block. */
static bool watch(struct ibv_context *context)
{
    int flags = fcntl(context->async_fd, F_GETFL);

    return flags >= 0 && fcntl(context->async_fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static void add_device(eepi_ports *ports, struct ibv_device *device)
{
    struct ibv_device_attr attributes = {0};
    const int at = ports->num_devices++;
    watched *here = &ports->devices[at];
    int num_ports = 0;

    here->context = ports->verbs->open_device(device);
    if (here->context && ports->verbs->query_device(here->context, &attributes) == 0) {
        num_ports = attributes.phys_port_cnt;
        here->is_watched = watch(here->context);
    }
    for (int i = 0; i < (num_ports > 0 ? num_ports : 1) && ports->num_ports < EEPI_PORTS_MAX; i++) {
        eepi_port *port = &ports->ports[ports->num_ports];
        *port = (eepi_port){.device_at = at,
                            .port = num_ports > 0 ? i + 1 : 0,
                            .link_layer = "unknown",
                            .numa_node = numa_node_of(device),
                            .guid = attributes.node_guid};
        snprintf(port->device, sizeof port->device, "%s", device->name);
        describe_port(ports, port);
        ports->known[ports->num_ports++] = *port;
    }
}

eep_status eepi_ports_open(const eepi_verbs *verbs, eepi_ports **ports_out)
{
    eepi_ports *ports = calloc(1, sizeof *ports);
    struct ibv_device **devices;
    int num_devices = 0;

    if (!ports) {
        return EEP_ERR_NO_MEMORY;
    }
    ports->verbs = verbs;
    devices = verbs->get_device_list(&num_devices);
    for (int i = 0; devices && i < num_devices && i < EEPI_PORTS_MAX_DEVICES; i++) {
        add_device(ports, devices[i]);
    }
    if (devices) {
        verbs->free_device_list(devices);
    }
    *ports_out = ports;
    return EEP_OK;
}

void eepi_ports_close(eepi_ports *ports)
{
    for (int i = 0; ports && i < ports->num_devices; i++) {
        if (ports->devices[i].context) {
            ports->verbs->close_device(ports->devices[i].context);
        }
    }
    free(ports);
}

void eepi_ports_keep(eepi_ports *ports, int device)
{
    int kept = 0;

    for (int i = 0; i < ports->num_devices; i++) {
        if (i != device && ports->devices[i].context) {
            ports->verbs->close_device(ports->devices[i].context);
            ports->devices[i] = (watched){.context = NULL};
        }
    }
    for (int i = 0; i < ports->num_ports; i++) {
        if (ports->ports[i].device_at == device) {
            ports->known[kept] = ports->known[i];
            ports->ports[kept++] = ports->ports[i];
        }
    }
    ports->num_ports = kept;
}

int eepi_ports_count(const eepi_ports *ports)
{
    return ports->num_ports;
}

const eepi_port *eepi_ports_at(const eepi_ports *ports, int i)
{
    return i >= 0 && i < ports->num_ports ? &ports->ports[i] : NULL;
}

int eepi_ports_num_devices(const eepi_ports *ports)
{
    return ports->num_devices;
}

int eepi_ports_fd(const eepi_ports *ports, int device)
{
    return ports->devices[device].is_watched ? ports->devices[device].context->async_fd : -1;
}

/* What an event says is old by the time it is read, so the ports are asked. */
static void look_again(eepi_ports *ports, int device)
{
    for (int i = 0; i < ports->num_ports; i++) {
        if (ports->ports[i].device_at == device) {
            describe_port(ports, &ports->ports[i]);
        }
    }
}

static void take_events(eepi_ports *ports, int device)
{
    watched *here = &ports->devices[device];
    struct ibv_async_event event;
    int num = 0;

    while (here->is_watched && num < EVENTS_PER_CALL) {
        if (ports->verbs->get_async_event(here->context, &event) != 0) {
            here->is_lost = errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
            break;
        }
        here->is_lost = event.event_type == IBV_EVENT_DEVICE_FATAL;
        ports->verbs->ack_async_event(&event);
        num++;
        if (here->is_lost) {
            break;
        }
    }
    if (num > 0 || here->is_lost) {
        here->is_watched = here->is_watched && !here->is_lost;
        look_again(ports, device);
    }
}

bool eepi_ports_next(eepi_ports *ports, eepi_port_change *change_out)
{
    for (int device = 0; device < ports->num_devices; device++) {
        if (ports->devices[device].is_watched) {
            take_events(ports, device);
        }
    }
    for (int i = 0; i < ports->num_ports; i++) {
        const eepi_port *port = &ports->ports[i];
        eepi_port *known = &ports->known[i];
        if (port->is_active != known->is_active || strcmp(port->state, known->state) != 0 ||
            port->gbit_per_s > known->gbit_per_s || port->gbit_per_s < known->gbit_per_s) {
            *change_out = (eepi_port_change){port, known->is_active, known->gbit_per_s};
            *known = *port;
            return true;
        }
    }
    return false;
}

uint64_t eepi_ports_rate(const eepi_ports *ports, int device)
{
    double gbit = 0;

    for (int i = 0; i < ports->num_ports; i++) {
        const eepi_port *port = &ports->ports[i];
        gbit += port->is_active && (device < 0 || port->device_at == device) ? port->gbit_per_s : 0;
    }
    return (uint64_t)(gbit * 1e9 / 8);
}

int eepi_ports_device(const eepi_ports *ports, const char *name)
{
    for (int i = 0; i < ports->num_ports; i++) {
        if (strcmp(ports->ports[i].device, name) == 0) {
            return ports->ports[i].device_at;
        }
    }
    return -1;
}

struct ibv_context *eepi_ports_context(const eepi_ports *ports, int device)
{
    return ports->devices[device].context;
}

const eepi_verbs *eepi_ports_verbs(const eepi_ports *ports)
{
    return ports->verbs;
}
