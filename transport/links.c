/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/links.h"

#include "transport/ports.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct one_link {
    char name[IFNAMSIZ]; /* "": unknown */
    bool is_up;
    eepi_ports *ports; /* of its RDMA device alone; NULL: it has none */
    int device;        /* its number among them */
    int port;          /* 0: any of the device */
} one_link;

struct eepi_links {
    int events; /* of interfaces, from the kernel; -1: it tells of none */
    int num;
    one_link link[EEPI_LINKS_MAX];
};

/* ------------------------------------------------------------------ names */

static bool is_at(const struct sockaddr *address, const char *text)
{
    char own[INET6_ADDRSTRLEN] = "";

    if (address && address->sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, own, sizeof own);
    } else if (address && address->sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, own,
                        sizeof own);
    }
    return strcmp(own, text) == 0;
}

static void take_name(one_link *link, const char *text)
{
    struct ifaddrs *all = NULL;

    if (if_nametoindex(text) != 0) {
        snprintf(link->name, sizeof link->name, "%s", text);
        return;
    }
    if (getifaddrs(&all) != 0) {
        return;
    }
    for (const struct ifaddrs *one = all; one && link->name[0] == '\0'; one = one->ifa_next) {
        if (is_at(one->ifa_addr, text)) {
            snprintf(link->name, sizeof link->name, "%s", one->ifa_name);
        }
    }
    freeifaddrs(all);
}

/* The RDMA device below a network interface, as sysfs has it; "": none. */
static void device_of(const char *interface, char *device_out, size_t bytes)
{
    char path[96];
    const struct dirent *entry;
    DIR *folder;

    device_out[0] = '\0';
    snprintf(path, sizeof path, "/sys/class/net/%s/device/infiniband", interface);
    folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        if (entry->d_name[0] != '.') {
            snprintf(device_out, bytes, "%.63s", entry->d_name);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

/* Of a device with several ports. */
static int port_of(const char *interface)
{
    char path[96];
    int port = -1;
    FILE *file;

    snprintf(path, sizeof path, "/sys/class/net/%s/dev_port", interface);
    file = fopen(path, "re");
    if (file && fscanf(file, "%d", &port) != 1) {
        port = -1;
    }
    if (file) {
        fclose(file);
    }
    return port + 1;
}

static void take_ports(one_link *link, const char *device, const eepi_verbs *verbs)
{
    char found[64];
    int at;

    if (device[0] == '\0') {
        device_of(link->name, found, sizeof found);
        device = found;
        link->port = port_of(link->name);
    }
    if (device[0] == '\0' || eepi_ports_open(verbs, &link->ports) != EEP_OK) {
        return;
    }
    at = eepi_ports_device(link->ports, device);
    if (at < 0) {
        eepi_ports_close(link->ports);
        link->ports = NULL;
        return;
    }
    link->device = at;
    eepi_ports_keep(link->ports, at);
}

/* ------------------------------------------------------------------ looking */

static bool carries(const one_link *link)
{
    struct ifreq request = {0};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_up = true;

    if (link->name[0] != '\0' && fd >= 0) {
        memcpy(request.ifr_name, link->name, sizeof request.ifr_name);
        is_up = ioctl(fd, SIOCGIFFLAGS, &request) != 0 ||
                (request.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
    }
    if (fd >= 0) {
        close(fd);
    }
    return is_up;
}

static bool has_active_port(const one_link *link)
{
    bool has_it = false, is_active = false, any = false;

    for (int i = 0; i < eepi_ports_count(link->ports); i++) {
        const eepi_port *port = eepi_ports_at(link->ports, i);
        any |= port->is_active;
        if (port->port == link->port) {
            has_it = true;
            is_active = port->is_active;
        }
    }
    return has_it ? is_active : any;
}

void eepi_links_look(eepi_links *links)
{
    eepi_port_change change;
    char told[4096];

    while (links->events >= 0 && recv(links->events, told, sizeof told, MSG_DONTWAIT) > 0) {
    }
    for (int i = 0; i < links->num; i++) {
        one_link *link = &links->link[i];
        while (link->ports && eepi_ports_next(link->ports, &change)) {
        }
        link->is_up = carries(link) && (!link->ports || has_active_port(link));
    }
}

bool eepi_links_is_up(const eepi_links *links, int link)
{
    return links->link[link].is_up;
}

/* ------------------------------------------------------------------ life */

static int open_events(void)
{
    const struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    if (fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

eep_status eepi_links_open(const eepi_link_name *names, int num, const eepi_verbs *verbs,
                           eepi_links **links_out)
{
    eepi_links *links = calloc(1, sizeof *links);

    if (!links) {
        return EEP_ERR_NO_MEMORY;
    }
    links->num = num;
    links->events = open_events();
    for (int i = 0; i < num; i++) {
        take_name(&links->link[i], names[i].name);
        take_ports(&links->link[i], names[i].device, verbs);
    }
    eepi_links_look(links);
    *links_out = links;
    return EEP_OK;
}

void eepi_links_close(eepi_links *links)
{
    if (!links) {
        return;
    }
    for (int i = 0; i < links->num; i++) {
        eepi_ports_close(links->link[i].ports);
    }
    if (links->events >= 0) {
        close(links->events);
    }
    free(links);
}

int eepi_links_fds(const eepi_links *links, int fds_out[EEPI_LINK_FDS])
{
    int num = 0;

    if (links->events >= 0) {
        fds_out[num++] = links->events;
    }
    for (int i = 0; i < links->num; i++) {
        const int fd =
            links->link[i].ports ? eepi_ports_fd(links->link[i].ports, links->link[i].device) : -1;
        if (fd >= 0) {
            fds_out[num++] = fd;
        }
    }
    return num;
}
