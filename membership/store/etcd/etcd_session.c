/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_session.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

void eepi_etcd_break(eepi_etcd *self, bool moves)
{
    self->broken = true;
    self->moves |= moves;
}

void eepi_etcd_send(eepi_etcd *self, const eepi_store_message *message)
{
    static const unsigned char zeros[8];
    unsigned char head[EEPI_STORE_HEAD_MAX];
    struct iovec part[3] = {
        {.iov_base = head, .iov_len = eepi_store_wire_encode(message, head)},
        {.iov_base = (void *)(uintptr_t)message->value, .iov_len = message->value_size},
        {.iov_base = (void *)(uintptr_t)zeros,
         .iov_len = eepi_store_wire_padding(message->value_size)},
    };
    for (int i = 0; i < 3 && !self->broken; i++) {
        for (size_t sent = 0; sent < part[i].iov_len;) {
            ssize_t more = send(self->fd, (const char *)part[i].iov_base + sent,
                                part[i].iov_len - sent, MSG_NOSIGNAL | (i < 2 ? MSG_MORE : 0));
            if (more < 0 && errno != EINTR) {
                eepi_etcd_break(self, false);
                break;
            }
            sent += more > 0 ? (size_t)more : 0;
        }
    }
}
