/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of the GPU probes: copies of the program itself, started by exec, since CUDA may not be
 * used after a fork. The program that starts them opens no device. They talk in messages, answer in
 * bounded time or are given up, and end with the program. */
#ifndef PROBE_CHILD_H
#define PROBE_CHILD_H

#include "transport/window/window.h"
#include "graphs/base/clock.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROBE_VALUES = 17, PROBE_TEXT_BYTES = 400, PROBE_LIFE_S = 150, PROBE_NO_DEVICE = 77 };

/* One kind fits all: who asks knows what the values are. */
typedef struct probe_message {
    int32_t status; /* of the step that it answers; eep_status */
    int32_t pid, fd;
    uint32_t generation;
    int32_t is_row; /* 1: `text` is a check, `number` its value, and more follows */
    int32_t ok;     /* of that row */
    double number;
    uint64_t values[PROBE_VALUES]; /* [0] PROBE_NO_DEVICE: the status is that of opening it */
    eepi_window_descriptor window;
    char text[PROBE_TEXT_BYTES]; /* why the status is not EEP_OK */
} probe_message;

/* What an owner is asked for, values[0]; and what it says at the end of its watch over the
 * counter's word in its window. Times are CLOCK_MONOTONIC. */
enum { PROBE_WATCH = 1 };
enum {
    PROBE_WATCH_AT_END,         /* the word when the watch was told of the end */
    PROBE_WATCH_LATER,          /* and a second later */
    PROBE_WATCH_LAST_NS,        /* the first look that saw the word as it stayed */
    PROBE_WATCH_LAST_GAP_NS,    /* how long before it the look before was */
    PROBE_WATCH_LONGEST_GAP_NS, /* between any two looks */
    PROBE_WATCH_SAMPLES,
};

/* When the kernel first showed each sign of a process's end; 0: it did not. CLOCK_MONOTONIC. */
typedef struct probe_marks {
    uint64_t kill_ns;
    uint64_t vsize0_ns; /* /proc/<pid>/stat: no memory any more */
    uint64_t zombie_ns; /* and its state Z or X */
    uint64_t pidfd_ns;  /* pidfd readable: the last thread has ended */
} probe_marks;

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
/* The same, looking at /proc and the pidfd in turn without a pause. */
int64_t probe_child_kill_marked(probe_child *child, probe_marks *marks_out);

int probe_send(int socket, const probe_message *message);
/* The next message; 0, or -1 with a text and EEP_ERR_TIMEOUT or EEP_ERR_UNREACHABLE in it. */
int probe_receive(int socket, uint64_t timeout_ms, probe_message *message_out);
/* Let time pass that a probe is about; never a way to wait for another process. */
void probe_pause_ms(uint32_t ms);

/* probe_roles.c: be that child; the exit status. */
int probe_role_run(const probe_how *how, int socket);
#endif
