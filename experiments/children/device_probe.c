/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes that open a device and spin on it. */
#include "experiments/children/device_probe.h"

#include "eep/device.h"
#include "experiments/model/fault_kernels.h"
#include "experiments/model/model_plugin.h"
#include "graphs/device/device_ops.h"
#include "experiments/base/child.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OPEN_MS = 60000, SPIN_MS = 10000, MOST_PROBES = 2 };
static const uint64_t SPIN_NS = 300000000;

/* What a child says, twice: once the device is open, and, told to spin, what came of that. */
typedef struct probe_answer {
    int32_t num_devices;
    uint64_t longest_ns;
    char why[DEVICE_PROBE_BYTES]; /* empty: all is well */
} probe_answer;

typedef struct probe_child {
    pid_t pid; /* 0: none */
    int fd;
} probe_child;

/* ---------------------------------------------------------------- the child */

static void send_answer(int fd, const probe_answer *answer)
{
    if (write(fd, answer, sizeof *answer) != (ssize_t)sizeof *answer) {
        _exit(1);
    }
}

static void fail(probe_answer *answer, eep_status status)
{
    snprintf(answer->why, sizeof answer->why, "%s: %s", eep_strerror(status),
             eep_device_error_text());
}

static eep_status spin(eep_device *device, const model_plugin *plugin, probe_answer *answer)
{
    const model_bodies gaps = {MODEL_PLUGIN_FIRST_FAULT + FAULT_KERNEL_gaps,
                               &fault_kernels[FAULT_KERNEL_gaps]};
    const char *why = NULL;
    eep_stream *stream = NULL;
    void *longest_ns = NULL;
    eep_status status = eep_device_alloc(device, EEP_MEMORY_PINNED, sizeof(uint64_t), &longest_ns);
    if (status == EEP_OK) {
        status = eepi_device_auxiliary(device, &stream);
    }
    if (status == EEP_OK) {
        fault_gaps_args args = {longest_ns, SPIN_NS};
        status = model_plugin_put(plugin, 0, stream, gaps, 1, 1, &args, sizeof args, &why);
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(stream, SPIN_NS / 1000 * 20);
    }
    if (status == EEP_OK) {
        answer->longest_ns = *(const uint64_t *)longest_ns;
    }
    return status;
}

/* Opens, says so, spins when told to, says so, and ends; what it holds ends with it. */
static void run_child(const char *name, int fd)
{
    probe_answer answer = {0};
    eep_device *device = NULL;
    const model_plugin *plugin = NULL;
    char go;
    eep_status status = eep_device_open(name, 0, &device);
    if (status != EEP_OK) {
        fail(&answer, status);
    } else if (strcmp(name, "cuda") == 0) {
        plugin = model_plugin_open(0, answer.why, sizeof answer.why);
    }
    answer.num_devices = eep_device_count(name);
    send_answer(fd, &answer);
    if (answer.why[0] == '\0' && read(fd, &go, 1) == 1) {
        status = spin(device, plugin, &answer);
        if (status != EEP_OK) {
            fail(&answer, status);
        }
        send_answer(fd, &answer);
    }
    _exit(0);
}

/* ---------------------------------------------------------------- the caller */

static void start(probe_child *child, const char *name)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return;
    }
    child_setup setup = CHILD_SETUP;
    setup.channel = ends[1];
    setup.closes_rest = true; /* the ends of the other child's socket are among them */
    pid_t pid = child_fork(&setup, NULL);
    if (pid == 0) {
        run_child(name, CHILD_CHANNEL);
    }
    int failure = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        errno = failure;
        return;
    }
    *child = (probe_child){pid, ends[0]};
}

/* It may hang in a driver. */
static void end(const probe_child *child)
{
    if (child->pid) {
        child_kill(child->pid, NULL);
        close(child->fd);
    }
}

/* False: nothing in time, or it cannot be used; `out` says why. */
static bool receive_answer(const probe_child *child, int bound_ms, const char *what,
                           device_probe_result *out)
{
    probe_answer answer = {0};
    struct pollfd set = {.fd = child->fd, .events = POLLIN};
    if (poll(&set, 1, bound_ms) != 1 ||
        read(child->fd, &answer, sizeof answer) != (ssize_t)sizeof answer) {
        snprintf(out->why, sizeof out->why, "%s gave no answer within %d s", what, bound_ms / 1000);
        return false;
    }
    double slice_ms = (double)answer.longest_ns / 1e6;
    out->num_devices = answer.num_devices;
    out->slice_ms = slice_ms > out->slice_ms ? slice_ms : out->slice_ms;
    memcpy(out->why, answer.why, sizeof out->why);
    return answer.why[0] == '\0';
}

bool device_probe(const char *device, bool shared, device_probe_result *out)
{
    probe_child child[MOST_PROBES] = {{0}};
    int num = shared ? MOST_PROBES : 1;
    bool good = true;
    *out = (device_probe_result){0};
    for (int i = 0; i < num && good; i++) {
        start(&child[i], device);
        good = child[i].pid != 0;
        if (!good) {
            snprintf(out->why, sizeof out->why, "no process can be started: %s", strerror(errno));
        }
    }
    for (int i = 0; i < num && good; i++) {
        good = receive_answer(&child[i], OPEN_MS, "opening it", out);
    }
    for (int i = 0; i < num && good && shared; i++) {
        good = send(child[i].fd, "", 1, MSG_NOSIGNAL) == 1;
        if (!good) {
            snprintf(out->why, sizeof out->why, "a process that had opened it is gone");
        }
    }
    for (int i = 0; i < num && good && shared; i++) {
        good = receive_answer(&child[i], SPIN_MS, "a kernel that spins", out);
    }
    for (int i = 0; i < num; i++) {
        end(&child[i]);
    }
    return good;
}
