/* SPDX-License-Identifier: Apache-2.0 */
/* eep-wire: a wire between two network interfaces, with delay, jitter, rate and loss. For kernels
 * without the netem queue. */
#include "experiments/base/args.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/output.h"
#include "experiments/netlab/delay_line.h"

#include <errno.h>
#include <net/if.h>
#include <net/ethernet.h>
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SIDES = 2,
    BURST = 64,               /* frames of one side in a row */
    FRAME_BYTES = 128 * 1024, /* with the header of the socket; segments are merged up to 64 KiB */
    QUEUE_BYTES = 16 << 20,
    RULES_BYTES = 64 * 1024,
};

typedef struct wire_options {
    const char *side[SIDES];
    const char *rules;
    uint64_t seed;
    args_given given;
} wire_options;

#define AT(field) ARGS_AT(wire_options, field)
static const args_row rows[] = {
    {"--first", ARGS_TEXT, AT(side[0]), 0, 0, NULL, "NAME", NULL, "one interface", NULL, 'a'},
    {"--second", ARGS_TEXT, AT(side[1]), 0, 0, NULL, "NAME", NULL, "the other one", NULL, 'b'},
    {"--rules", ARGS_TEXT, AT(rules), 0, 0, NULL, "FILE", NULL,
     "rules, one a line; read and removed at the start and at each SIGHUP", NULL, 'r'},
    {"--seed", ARGS_WHOLE, AT(seed), 1, 1e15, NULL, "N", "1", "decides losses and jitter", NULL, 0},
};
static const args_table table = {
    .program = "eep-wire",
    .synopsis = "--first NAME --second NAME --rules FILE",
    .about =
        "Carry each frame that arrives at one interface to the other, by rules.\n"
        "A rule is a line: '> MAC [NAME=VALUE]...'. '>' stands for first to second, '<' for\n"
        "the way back. MAC is the end on the second side, or *. The first rule that fits a\n"
        "frame counts; a frame without a rule passes at once.\n"
        "Names: delay_us, jitter_us, bytes_per_s, limit_bytes (what waits for the rate), loss\n"
        "(a share from 0 to 1).\n"
        "It prints one line when it is ready, and ends with SIGTERM or SIGINT.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "Exit status: 0 ended by a signal; 1 an interface cannot be used, or is gone; 2 wrong "
             "usage.",
    .given = offsetof(wire_options, given),
};

typedef struct wire {
    const wire_options *options;
    int socket[SIDES];
    unsigned int index[SIDES];
    int signals;
    delay_line line;
    unsigned char frame[FRAME_BYTES];
} wire;

static int open_side(const char *name, unsigned int *index_out)
{
    const int on = 1, queue = QUEUE_BYTES;
    unsigned int index = if_nametoindex(name);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    struct packet_mreq all = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
    int fd = index ? socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &queue, sizeof queue);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &queue, sizeof queue);
    /* With the header, merged segments and open checksums pass as they are. */
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    *index_out = index;
    return fd;
}

/* 0: the rules are in force, and the file is gone. */
static int take_rules(wire *self)
{
    static char text[RULES_BYTES];
    const char *path = self->options->rules;
    FILE *file = fopen(path, "re");
    size_t size;
    int line = 0;
    if (!file) {
        fprintf(stderr, "eep-wire: %s: %s\n", path, strerror(errno));
        return -1;
    }
    size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    if (size == sizeof text - 1 || strlen(text) != size ||
        delay_line_set_rules(&self->line, text, &line) != EEP_OK) {
        fprintf(stderr, "eep-wire: %s: line %d is no rule\n", path, line);
        return -1;
    }
    return unlink(path);
}

/* What the far side does not take is lost, as on a wire. */
static void emit(wire *self, int direction, const void *frame, size_t size)
{
    ssize_t sent = send(self->socket[1 - direction], frame, size, 0);
    (void)sent;
}

/* -1: the interface is gone. */
static int carry(wire *self, int side)
{
    for (int i = 0; i < BURST; i++) {
        const unsigned char *ethernet = self->frame + sizeof(struct virtio_net_hdr);
        ssize_t size = recv(self->socket[side], self->frame, sizeof self->frame, MSG_TRUNC);
        delay_frame *kept;
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        if (size < 0) { /* it is down, which may pass, or gone */
            return if_nametoindex(self->options->side[side]) == self->index[side] ? 0 : -1;
        }
        if ((size_t)size > sizeof self->frame ||
            (size_t)size < sizeof(struct virtio_net_hdr) + sizeof(struct ether_header)) {
            continue;
        }
        if (delay_line_passes(&self->line, side, ethernet)) {
            emit(self, side, self->frame, (size_t)size);
            continue;
        }
        kept = delay_line_add(&self->line, side, ethernet, (size_t)size, now_ns());
        if (kept) {
            memcpy(kept->bytes, self->frame, (size_t)size);
        }
    }
    return 0;
}

static void emit_due(wire *self)
{
    delay_frame *frame;
    while ((frame = delay_line_take(&self->line, now_ns()))) {
        emit(self, frame->direction, frame->bytes, frame->size);
        free(frame);
    }
}

static int run(wire *self)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = self->socket[0], .events = POLLIN},
                               {.fd = self->socket[1], .events = POLLIN},
                               {.fd = self->signals, .events = POLLIN}};
        const uint64_t next = delay_line_next_ns(&self->line), now = now_ns();
        const uint64_t wait = next > now ? next - now : 0;
        const struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000),
                                         .tv_nsec = (long)(wait % 1000000000)};
        struct signalfd_siginfo info;
        (void)ppoll(fds, 3, next == UINT64_MAX ? NULL : &timeout, NULL);
        while (read(self->signals, &info, sizeof info) == (ssize_t)sizeof info) {
            if (info.ssi_signo != SIGHUP) {
                return 0;
            }
            (void)take_rules(self); /* it has said why not; the present ones stay */
        }
        emit_due(self);
        for (int side = 0; side < SIDES; side++) {
            if (carry(self, side) != 0) {
                return 1;
            }
        }
    }
}

int main(int argc, char **argv)
{
    static wire self;
    wire_options options = {0};
    sigset_t set;
    int code = 0;
    output_begin();
    if (!args_begin(&table, &options, argc, argv, &code)) {
        return code;
    }
    if (!options.side[0] || !options.side[1] || !options.rules) {
        fputs("eep-wire: --first, --second and --rules are needed\n", stderr);
        return ARGS_EXIT_USAGE;
    }
    self.options = &options;
    delay_line_init(&self.line, options.seed);
    (void)setpriority(PRIO_PROCESS, 0, -10); /* a frame's time is to be kept on a busy machine */
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    self.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    for (int side = 0; side < SIDES; side++) {
        self.socket[side] = open_side(options.side[side], &self.index[side]);
        if (self.socket[side] < 0) {
            fprintf(stderr, "eep-wire: %s: %s\n", options.side[side], strerror(errno));
            return 1;
        }
    }
    if (self.signals < 0 || take_rules(&self) != 0) {
        return 1;
    }
    printf("eep-wire: ready between %s and %s\n", options.side[0], options.side[1]);
    fflush(stdout);
    code = run(&self);
    delay_line_destroy(&self.line);
    return code;
}
