/* SPDX-License-Identifier: Apache-2.0 */
/* RDMA ports, by libibverbs. A machine without RDMA has an empty list. */
#include "transport/topology.h"

#include <infiniband/verbs.h>
#include <stdio.h>
#include <string.h>

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

static void describe_port(struct ibv_context *context, int number, eepi_port *port)
{
    struct ibv_port_attr attributes = {0};
    port->port = number;
    if (ibv_query_port(context, (uint8_t)number, &attributes) != 0) {
        return;
    }
    snprintf(port->state, sizeof port->state, "%s", state_name(attributes.state));
    snprintf(port->link_layer, sizeof port->link_layer, "%s",
             link_layer_name(attributes.link_layer));
    port->gbit_per_s = gbit_per_s(attributes.active_width, attributes.active_speed);
}

/* Put a device's ports into entries `first` and on; returns how many it has. */
static int list_device(struct ibv_device *device, eepi_port *ports_out, int first, int capacity)
{
    struct ibv_device_attr attributes = {0};
    struct ibv_context *context = ibv_open_device(device);
    int num_ports = 0;
    if (context != NULL && ibv_query_device(context, &attributes) == 0) {
        num_ports = attributes.phys_port_cnt;
    }
    int num_entries = num_ports > 0 ? num_ports : 1;
    for (int i = 0; i < num_entries && first + i < capacity; i++) {
        eepi_port *port = &ports_out[first + i];
        *port = (eepi_port){.state = "unknown", .link_layer = "unknown"};
        snprintf(port->device, sizeof port->device, "%s", ibv_get_device_name(device));
        port->numa_node = numa_node_of(device);
        if (num_ports > 0) {
            describe_port(context, i + 1, port);
        }
    }
    if (context != NULL) {
        ibv_close_device(context);
    }
    return num_entries;
}

int eepi_ports_list(eepi_port *ports_out, int capacity)
{
    int num_devices = 0, num_ports = 0;
    struct ibv_device **devices = ibv_get_device_list(&num_devices);
    if (devices == NULL) {
        return 0; /* no RDMA in this kernel */
    }
    for (int i = 0; i < num_devices; i++) {
        num_ports += list_device(devices[i], ports_out, num_ports, capacity);
    }
    ibv_free_device_list(devices);
    return num_ports;
}
