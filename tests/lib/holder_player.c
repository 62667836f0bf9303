/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/holder_player.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PLAYER_WAIT_MS = 30000 };

player player_dial(const char *path)
{
    player self = {.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    cr_assert_eq(connect(self.fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(getrandom(self.identity, sizeof self.identity, 0), sizeof self.identity);
    return self;
}

player player_open(const char *path)
{
    player self = player_dial(path);
    eepi_holder_message hello = player_message(&self, EEPI_HOLDER_HELLO);
    memcpy(hello.identity, self.identity, sizeof hello.identity);
    cr_assert_eq(player_ask(&self, &hello, -1, NULL).status, EEP_OK);
    return self;
}

eepi_holder_message player_message(player *self, eepi_holder_kind kind)
{
    return (eepi_holder_message){.magic = EEPI_HOLDER_MAGIC,
                                 .version = EEPI_HOLDER_VERSION,
                                 .kind = (uint16_t)kind,
                                 .id = ++self->last_id};
}

void player_send(const player *self, const eepi_holder_message *message, int fd)
{
    cr_assert_eq(eepi_holder_send(self->fd, message, sizeof *message, fd), 0);
}

bool player_receive(const player *self, eepi_holder_message *message_out, int *fd_out)
{
    struct pollfd poll_fd = {.fd = self->fd, .events = POLLIN};
    int fd = -1;
    bool lost = false;
    cr_assert_eq(poll(&poll_fd, 1, PLAYER_WAIT_MS), 1, "nothing came");
    ssize_t bytes = eepi_holder_receive(self->fd, message_out, sizeof *message_out, &fd, &lost);
    if (fd_out != NULL) {
        *fd_out = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    return bytes == (ssize_t)sizeof *message_out;
}

eepi_holder_message player_ask(player *self, const eepi_holder_message *request, int fd,
                               int *fd_out)
{
    eepi_holder_message answer;
    player_send(self, request, fd);
    cr_assert(player_receive(self, &answer, fd_out), "no answer");
    cr_assert_eq(answer.id, request->id);
    cr_assert_eq(answer.kind, EEPI_HOLDER_ANSWER);
    return answer;
}

eep_status player_hold(player *self, const char *name, int fd, uint64_t bytes)
{
    eepi_holder_message request = player_message(self, EEPI_HOLDER_HOLD);
    snprintf(request.name, sizeof request.name, "%s", name);
    request.bytes = bytes;
    return player_ask(self, &request, fd, NULL).status;
}

int make_region(unsigned char **region_out)
{
    int fd = -1;
    cr_assert_eq(eepi_shm_region_make(&fd, region_out), EEP_OK);
    return fd;
}

shm_address player_be_copier(player *self, unsigned char **region_out)
{
    char name[EEPI_HOLDER_NAME_BYTES];
    int fd = make_region(region_out), used = snprintf(name, sizeof name, "bulk/");
    for (int i = 0; i < EEPI_HOLDER_IDENTITY_BYTES; i++) {
        used += snprintf(name + used, sizeof name - (size_t)used, "%02x", self->identity[i]);
    }
    cr_assert_eq(player_hold(self, name, fd, SHM_REGION_BYTES), EEP_OK);
    close(fd);
    shm_address address = {.magic = SHM_ADDRESS_MAGIC,
                           .version = SHM_ADDRESS_VERSION,
                           .num_slots = SHM_SLOTS,
                           .slot_bytes = SHM_SLOT_BYTES};
    memcpy(address.identity, self->identity, sizeof address.identity);
    return address;
}

int player_called(player *self, eepi_bulk *from)
{
    struct pollfd poll_fd = {.fd = self->fd, .events = POLLIN};
    eepi_holder_message call;
    int fd = -1;
    for (int i = 0; i < PLAYER_WAIT_MS && poll(&poll_fd, 1, 1) == 0; i++) {
        eepi_bulk_progress(from);
    }
    cr_assert(player_receive(self, &call, &fd) && call.kind == EEPI_HOLDER_CALLED && fd >= 0);
    for (int i = 0; i < 100; i++) {
        eepi_bulk_progress(from);
    }
    return fd;
}

int player_call(player *self, const shm_address *address)
{
    eepi_holder_message request = player_message(self, EEPI_HOLDER_CONNECT);
    int fd = -1;
    memcpy(request.identity, address->identity, sizeof request.identity);
    cr_assert_eq(player_ask(self, &request, -1, &fd).status, EEP_OK);
    cr_assert_geq(fd, 0);
    return fd;
}
