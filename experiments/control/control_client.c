/* SPDX-License-Identifier: Apache-2.0 */
/* eep-ctl's end of the socket: connect, send a line, read lines. */
#include "experiments/control/control_client.h"

#include "transport/holder/holder_socket.h"
#include "experiments/base/monotonic.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

eep_status control_client_open(const char *path, control_client **client_out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (*path == '\0' || strlen(path) >= sizeof address.sun_path) {
        return EEP_ERR_INVALID;
    }
    memcpy(address.sun_path, path, strlen(path));
    control_client *self = malloc(sizeof *self);
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    self->num_in = self->num_taken = 0;
    self->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    eep_status status = self->fd < 0 ? EEP_ERR_SYSTEM : EEP_OK;
    if (status == EEP_OK && connect(self->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        status = errno == ENOENT || errno == ECONNREFUSED ? EEP_ERR_UNREACHABLE : EEP_ERR_SYSTEM;
    }
    /* Root too believes only its own runs: another user may have put a socket there. */
    if (status == EEP_OK && !eepi_holder_is_trusted(self->fd)) {
        status = EEP_ERR_STATE;
    }
    if (status != EEP_OK) {
        int error = errno;
        control_client_close(self);
        errno = error;
        return status;
    }
    *client_out = self;
    return EEP_OK;
}

void control_client_close(control_client *self)
{
    if (self && self->fd >= 0) {
        close(self->fd);
    }
    free(self);
}

eep_status control_client_send(control_client *self, const cJSON *request)
{
    char *text = cJSON_PrintUnformatted(request);
    if (!text) {
        return EEP_ERR_NO_MEMORY;
    }
    size_t bytes = strlen(text), sent = 0;
    text[bytes++] = '\n'; /* in place of its NUL */
    while (sent < bytes) {
        ssize_t now = send(self->fd, text + sent, bytes - sent, MSG_NOSIGNAL);
        if (now < 0 && errno != EINTR) {
            break;
        }
        sent += now > 0 ? (size_t)now : 0;
    }
    cJSON_free(text);
    return sent == bytes ? EEP_OK : EEP_ERR_UNREACHABLE;
}

/* More bytes behind those that are here. */
static eep_status receive(control_client *self, double deadline_s)
{
    struct pollfd set = {.fd = self->fd, .events = POLLIN};
    double left_s = deadline_s - now_s();
    int timeout_ms = isinf(deadline_s) ? -1 : left_s > 0 ? (int)fmin(ceil(left_s * 1e3), 1e9) : 0;
    memmove(self->in, self->in + self->num_taken, self->num_in - self->num_taken);
    self->num_in -= self->num_taken;
    self->num_taken = 0;
    if (self->num_in == sizeof self->in) {
        return EEP_ERR_PROTOCOL;
    }
    int ready = poll(&set, 1, timeout_ms);
    if (ready == 0) {
        return EEP_ERR_TIMEOUT;
    }
    ssize_t bytes = ready < 0 ? -1
                              : recv(self->fd, self->in + self->num_in,
                                     sizeof self->in - self->num_in, MSG_DONTWAIT);
    if (bytes < 0) {
        return errno == EINTR || errno == EAGAIN ? EEP_OK : EEP_ERR_UNREACHABLE;
    }
    self->num_in += (size_t)bytes;
    return bytes > 0 ? EEP_OK : EEP_ERR_UNREACHABLE;
}

eep_status control_client_next(control_client *self, double timeout_s, cJSON **line_out)
{
    double deadline_s = timeout_s < 0 ? INFINITY : now_s() + timeout_s;
    for (;;) {
        char *line = self->in + self->num_taken;
        char *end = memchr(line, '\n', self->num_in - self->num_taken);
        if (end) {
            *end = '\0';
            self->num_taken += (size_t)(end - line) + 1;
            cJSON *found = cJSON_Parse(line);
            if (!cJSON_IsObject(found)) {
                cJSON_Delete(found);
                return EEP_ERR_PROTOCOL;
            }
            *line_out = found;
            return EEP_OK;
        }
        eep_status status = receive(self, deadline_s);
        if (status != EEP_OK) {
            return status;
        }
    }
}
