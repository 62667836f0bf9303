/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP port of the loopback interface that nobody has just now, and that no other test is given
 * while this process lives. It lies below those that Linux gives to whoever connects: a client that
 * asks again and again for a store that is away would be given the store's own. */
#ifndef TESTS_STORE_PORT_H
#define TESTS_STORE_PORT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TEST_PORTS_FROM = 12000, TEST_PORTS = 20000 };

static inline bool test_port_is_free(unsigned port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool is_free =
        fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return is_free;
}

/* By the name of a socket, which goes with the process. */
static inline bool test_port_take(unsigned port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "eep-test-port-%u", port);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&name, sizeof name) == 0 &&
        test_port_is_free(port)) {
        return true;
    }
    if (fd >= 0) {
        close(fd);
    }
    return false;
}

/* 0: none can be had. */
static inline unsigned test_free_port(void)
{
    static unsigned tried;

    for (unsigned i = 0; i < TEST_PORTS; i++) {
        const unsigned port = TEST_PORTS_FROM + ((unsigned)getpid() * 7919u + tried++) % TEST_PORTS;
        if (test_port_take(port)) {
            return port;
        }
    }
    return 0;
}
#endif
