#include "experiments/device_probe.h"

#include "eep/device.h"
#include "experiments/model_plugin.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_MS = 60000 };

/* In the child: an empty line if all is well. */
static void answer(const char *device, int fd)
{
    char line[DEVICE_PROBE_BYTES] = "";
    eep_device *opened = NULL;
    eep_status status = eep_device_open(device, 0, &opened);
    if (status != EEP_OK) {
        snprintf(line, sizeof line, "%s: %s", eep_strerror(status), eep_device_error_text());
    } else {
        (void)model_plugin_open(0, line, sizeof line);
    }
    ssize_t written = write(fd, line, strlen(line) + 1);
    _exit(written > 0 ? 0 : 1);
}

/* What the child says, up to its terminating zero; false: it said nothing whole in time. */
static bool hear(int fd, char line_out[DEVICE_PROBE_BYTES])
{
    struct pollfd set = {.fd = fd, .events = POLLIN};
    ssize_t bytes = -1;
    if (poll(&set, 1, ANSWER_MS) == 1) {
        bytes = read(fd, line_out, DEVICE_PROBE_BYTES); /* written at once: less than PIPE_BUF */
    }
    return bytes > 0 && line_out[bytes - 1] == '\0';
}

bool device_probe(const char *device, char why_out[DEVICE_PROBE_BYTES])
{
    int ends[2];
    if (strcmp(device, "cuda") != 0) {
        return true;
    }
    if (pipe(ends) != 0) {
        snprintf(why_out, DEVICE_PROBE_BYTES, "pipe: %s", strerror(errno));
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        answer(device, ends[1]);
    }
    close(ends[1]);
    bool heard = child > 0 && hear(ends[0], why_out);
    close(ends[0]);
    if (child > 0) {
        kill(child, SIGKILL); /* it may hang in a driver */
        waitpid(child, NULL, 0);
    }
    if (!heard) {
        snprintf(why_out, DEVICE_PROBE_BYTES, "opening it gave no answer within %d s",
                 ANSWER_MS / 1000);
    }
    return heard && why_out[0] == '\0';
}
