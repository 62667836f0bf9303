/* Processes of the GPU probes: copies of the program itself, started by exec, since CUDA may not be
 * used after a fork. The program that starts them opens no device. They talk in messages, answer in
 * bounded time or are given up, and end with the program. */
#ifndef PROBE_CHILD_H
#define PROBE_CHILD_H

#include "transport/window.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROBE_VALUES = 17, PROBE_TEXT_BYTES = 400, PROBE_LIFE_S = 150, PROBE_NO_DEVICE = 77 };

/* One kind fits all: who asks knows what the values are. */
typedef struct probe_message {
    int32_t status; /* of the step that it answers; eep_status */
    int32_t pid, fd;
    uint32_t generation;
    uint64_t values[PROBE_VALUES]; /* [0] PROBE_NO_DEVICE: the status is that of opening it */
    eepi_window_descriptor window;
    char text[PROBE_TEXT_BYTES]; /* why the status is not EEP_OK */
} probe_message;

typedef struct probe_child {
    pid_t pid; /* 0: none */
    int socket, pidfd;
} probe_child;

/* What a child gets on its command line. */
typedef struct probe_how {
    const char *device, *role;
    uint32_t seconds; /* of the longest kernel */
} probe_how;

/* Start a copy of this program in that role; 0, or -1 with errno. */
int probe_child_start(const probe_how *how, probe_child *child_out);
/* SIGKILL, and wait until its pidfd tells that it has ended; microseconds between the two, or -1
 * after 20 s. The child is reaped. */
int64_t probe_child_kill(probe_child *child);

int probe_send(int socket, const probe_message *message);
/* The next message; 0, or -1 with a text and EEP_ERR_TIMEOUT or EEP_ERR_UNREACHABLE in it. */
int probe_receive(int socket, uint64_t timeout_ms, probe_message *message_out);
uint64_t probe_now_us(void);
/* Let time pass that a probe is about; never a way to wait for another process. */
void probe_pause_ms(uint32_t ms);

/* probe_roles.c: be that child; the exit status. */
int probe_role_run(const probe_how *how, int socket);
#endif
