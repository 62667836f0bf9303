/* SPDX-License-Identifier: Apache-2.0 */
/* Channels over sockets, and which TCP addresses are taken. */
#include "tests/lib/secure_fixture.h"
#include "tests/lib/store/store_port.h"

#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <poll.h>
#include <pthread.h>

/* A server that sends back what it gets, until its peer goes. */
static void *echo(void *argument)
{
    const int fd = *(int *)argument;
    const eepi_secure_config config = secure_config(true);
    eepi_secure_channel channel;
    eep_status status = eepi_secure_start(&channel, &config);
    if (status == EEP_OK) {
        status = eepi_secure_open(&channel, fd, 10 * 1000 * 1000);
    }
    while (status == EEP_OK || status == EEP_ERR_TIMEOUT) {
        const void *payload;
        size_t bytes;
        status = eepi_secure_take(&channel, fd, &payload, &bytes);
        if (status == EEP_OK) {
            const struct iovec part = {(void *)(uintptr_t)payload, bytes};
            status = eepi_secure_put(&channel, &part, 1);
        } else if (status == EEP_ERR_TIMEOUT) {
            struct pollfd set = {.fd = fd, .events = POLLIN};
            (void)poll(&set, 1, 1000);
        }
    }
    eepi_secure_end(&channel);
    close(fd);
    return NULL;
}

static void talk(int client_fd)
{
    const eepi_secure_config config = secure_config(false);
    eepi_secure_channel channel;
    static unsigned char sent[SECURE_MESSAGE_MAX];
    memset(sent, 0x5a, sizeof sent);
    cr_assert_eq(eepi_secure_start(&channel, &config), EEP_OK);
    cr_assert_eq(eepi_secure_open(&channel, client_fd, 10 * 1000 * 1000), EEP_OK);
    for (int i = 0; i < 20; i++) {
        const struct iovec part = {sent, i % 2 ? sizeof sent : (size_t)i};
        const void *payload = NULL;
        size_t bytes = 0;
        eep_status status;
        cr_assert_eq(eepi_secure_put(&channel, &part, 1), EEP_OK);
        while ((status = eepi_secure_take(&channel, client_fd, &payload, &bytes)) ==
               EEP_ERR_TIMEOUT) {
            struct pollfd set = {.fd = client_fd, .events = POLLIN};
            size_t unsent = 0;
            (void)eepi_secure_unsent(&channel, &unsent);
            set.events |= unsent ? POLLOUT : 0;
            (void)poll(&set, 1, 1000);
        }
        cr_assert_eq(status, EEP_OK);
        cr_assert(bytes == part.iov_len && memcmp(payload, sent, bytes) == 0);
    }
    eepi_secure_end(&channel);
    close(client_fd);
}

Test(secure_socket, over_a_pair)
{
    int pair[2];
    pthread_t thread;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(pthread_create(&thread, NULL, echo, &pair[1]), 0);
    talk(pair[0]);
    pthread_join(thread, NULL);
}

Test(secure_socket, over_tcp)
{
    char why[200] = "";
    pthread_t thread;
    int listener = -1, client = -1, server = -1;
    const uint16_t port = (uint16_t)test_free_port();
    struct pollfd set;
    cr_assert_eq(eepi_tcp_listen("127.0.0.1", port, why, sizeof why, &listener), EEP_OK, "%s", why);
    cr_expect_eq(eepi_tcp_listen("127.0.0.1", port, why, sizeof why, &server), EEP_ERR_CONFLICT);
    cr_assert_eq(eepi_tcp_connect("127.0.0.1", port, 0, &client), EEP_OK);
    set = (struct pollfd){.fd = listener, .events = POLLIN};
    cr_assert_eq(poll(&set, 1, 10000), 1);
    server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    cr_assert_geq(server, 0);
    eepi_tcp_prepare(server);
    cr_expect_eq(eepi_tcp_peer(server), htonl(INADDR_LOOPBACK));
    cr_assert_eq(pthread_create(&thread, NULL, echo, &server), 0);
    talk(client);
    pthread_join(thread, NULL);
    close(listener);
    cr_expect_eq(eepi_tcp_connect("127.0.0.1", port, 100, &client), EEP_ERR_UNREACHABLE);
}

/* The other end goes, or says nothing, before it has proved the key. */
Test(secure_socket, an_end_before_the_proof_is_named)
{
    const eepi_secure_config config = secure_config(false);
    eepi_secure_channel channel;
    char why[EEPI_SECURE_WHY_BYTES];
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(eepi_secure_start(&channel, &config), EEP_OK);
    cr_expect_eq(eepi_secure_open(&channel, pair[0], 1000), EEP_ERR_TIMEOUT);
    close(pair[1]);
    cr_expect_eq(eepi_secure_open(&channel, pair[0], 10 * 1000 * 1000), EEP_ERR_UNREACHABLE);
    cr_expect_eq(channel.fault, EEPI_SECURE_UNPROVEN);
    cr_expect(strstr(eepi_secure_why(&channel, why, sizeof why), "has proved no key"));
    eepi_secure_end(&channel);
    close(pair[0]);
}

Test(secure_socket, addresses_are_taken_by_key)
{
    static const char *const own[] = {"127.0.0.1", "127.9.8.7", "::1", "localhost"};
    static const char *const others[] = {"10.0.0.1", "192.168.7.9", "fd00::7", "128.0.0.1"};
    static const char *const all[] = {"0.0.0.0", "::", "::ffff:0.0.0.0"};
    static const char *const none[] = {"example.org", "127.0.0.1.example.org", "127.1", "",
                                       "1.2.3"};
    char why[300];
    for (size_t i = 0; i < 4; i++) {
        cr_expect(eepi_tcp_is_loopback(own[i]) && !eepi_tcp_is_loopback(others[i]));
        cr_expect_eq(eepi_tcp_check_host(own[i], false, why, sizeof why), EEP_OK);
        cr_expect_eq(eepi_tcp_check_host(own[i], true, why, sizeof why), EEP_OK);
        cr_expect_eq(eepi_tcp_check_host(others[i], true, why, sizeof why), EEP_OK);
        cr_expect_eq(eepi_tcp_check_host(others[i], false, why, sizeof why), EEP_ERR_INVALID);
        cr_expect(strstr(why, others[i]) && strstr(why, "EEP_KEY_FILE"), "%s", why);
    }
    for (size_t i = 0; i < 3; i++) {
        cr_expect_eq(eepi_tcp_check_host(all[i], true, why, sizeof why), EEP_ERR_INVALID);
        cr_expect(strstr(why, "every interface"), "%s", why);
    }
    for (size_t i = 0; i < 5; i++) {
        cr_expect_eq(eepi_tcp_check_host(none[i], true, why, sizeof why), EEP_ERR_INVALID);
        cr_expect(strstr(why, "names are not looked up"), "%s", why);
    }
}
