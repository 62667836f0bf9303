/* SPDX-License-Identifier: Apache-2.0 */
/* The network of one rank: two threads, and a lane per ring.
 *
 *     rings -> sender thread -> a connection per peer -> the peer's receiver thread -> its placer
 *                    ^                                          |
 *                    +------------ acknowledgements ------------+
 *
 * A connection carries messages in one direction: eepk_put, then its bytes; or, without a key, the
 * puts of a batch and then the bytes of each, which one system call writes where they belong
 * (incoming_messages.c). In the other one the receiver says how many slots of that connection it
 * has placed. A slot is completed by that, so that what a broken connection has lost is sent again
 * on the next one (rule N4); what was placed then comes twice, which the placer takes.
 *
 * The sender thread never waits for one peer: a connection that takes nothing is passed over, and
 * the other queues go on (rule N16). */
#ifndef EEPI_NETWORK_STATE_H
#define EEPI_NETWORK_STATE_H

#include "transport/proxy/network.h"
#include "transport/proxy/ring_lane.h"
#include "transport/secure/secure_channel.h"

#include <pthread.h>
#include <sys/uio.h>

enum {
    EEPI_LANE_MAGIC = 0x45455052,
    EEPI_LANE_VERSION = 3,
    EEPI_LANE_BATCH = 64,                        /* messages of one system call */
    EEPI_LANE_BATCH_WORDS = 2 * EEPK_RING_WORDS, /* words among them */
    EEPI_LANE_SEALED_BYTES = 128 << 10, /* and about so many bytes under one code, with a key */
    EEPI_LANE_TALK_BYTES = sizeof(eepk_put) + EEPI_TALK_BYTES,
    EEPI_LANE_GREETING_US = 2000000, /* then a connection that has said nothing is closed */
    EEPI_LANE_FOREIGN_RETRY_US = 200000,
    EEPI_LANE_ROUND_US = 20000, /* a lane is looked at so often, whatever happens */
    EEPI_LANE_EPOLL_LINKS = INT32_MAX - 2 * EEPI_MAX_PATHS, /* in that tag: interfaces, */
    EEPI_LANE_EPOLL_WRITES = 1u << 31u, /* in the tag of a poll: a lane, and not a connection */
};

/* What the environment asks for. */
typedef enum eepi_network_kind {
    EEPI_NETWORK_OFF,
    EEPI_NETWORK_TCP,
    EEPI_NETWORK_UCX
} eepi_network_kind;
typedef struct eepi_network_interface {
    char name[48];   /* or address */
    char device[64]; /* its RDMA device; "": the one that the system names, if it has one */
} eepi_network_interface;
typedef struct eepi_network_choice {
    eepi_network_kind kind;
    bool all_peers; /* those of this host, too */
    int num_interfaces;
    eepi_network_interface interface[EEPI_MAX_PATHS];
} eepi_network_choice;

/* The first bytes of a connection, and the answer. */
typedef struct eepi_lane_hello {
    uint32_t magic, version;
    uint64_t instance;
    uint32_t source, source_generation;
    uint32_t target, target_generation;
    uint32_t slot_bytes, ring_slots; /* both ends have the same shape */
    uint64_t base;                   /* the oldest claim that this connection may carry */
} eepi_lane_hello;
static_assert(sizeof(eepi_lane_hello) == 48, "on the wire");

typedef enum eepi_lane_verdict {
    EEPI_LANE_WELCOME = 1,
    EEPI_LANE_OTHER,   /* another process, or another instance, has that address */
    EEPI_LANE_REFUSED, /* another version, or another shape */
} eepi_lane_verdict;

typedef struct eepi_lane_answer {
    uint32_t magic, verdict;
} eepi_lane_answer;

typedef enum eepi_lane_state {
    EEPI_LANE_TO_NOBODY,  /* what is put is thrown away */
    EEPI_LANE_DOWN,       /* until retry_at_us */
    EEPI_LANE_CONNECTING, /* the system call is under way */
    EEPI_LANE_SECURING,   /* with a key: both ends prove that they have it */
    EEPI_LANE_GREETING,   /* hello is sent */
    EEPI_LANE_UP,
} eepi_lane_state;

/* The messages of one system call, and how far they have left. With a key they are one message of
 * the channel, between its head and its tail. Without one, their puts come first and then their
 * bytes, so that a receiver knows where bytes belong before it reads them. */
typedef struct eepi_lane_batch {
    int num, at, num_words;
    size_t bytes;
    struct iovec part[2 * EEPI_LANE_BATCH + 2];
    eepk_put several; /* before them, without a key */
    uint8_t head[EEPI_SECURE_HEAD_BYTES], tail[EEPI_SECURE_TAIL_MAX];
    eepk_put word[EEPI_LANE_BATCH_WORDS]; /* their copies; slots are sent from the ring */
} eepi_lane_batch;

/* One ring and its way to a process. Of the sender thread, but for what is named. */
typedef struct eepi_lane {
    /* { under the network's lock */
    uint32_t wanted; /* generation of the target; 0: nobody */
    eepi_lane_address address;
    /* } */
    uint32_t events; /* atomic: of its connection, from the receiver thread, which */
    bool wants_wake; /* atomic: rings the doorbell then */
    bool has_talk;   /* atomic: there may be something to say */
    uint32_t number, seat, generation; /* its ring; the process that it serves now, */
    eepi_lane_path to;                 /* and where that is reached */
    /* { pairs of own and the peer's paths; lane_ways.c */
    uint32_t way, num_ways;
    bool leaves_way;      /* its connection broke or was not made */
    uint32_t num_overs;   /* to other ways, since something was acknowledged */
    uint32_t num_returns; /* tried without a sign, since the first way brought something */
    uint64_t way_since_us;
    /* } */
    eepi_ring_lane *ring_lane;
    uint8_t *ring;
    eepi_lane_state state;
    int fd;                      /* -1: none */
    eepi_secure_channel channel; /* with a key, while there is a connection */
    uint32_t num_failures;
    uint32_t num_unanswered; /* attempts to connect, in a row */
    uint64_t retry_at_us;
    /* claims: placed by the peer < base <= sent <= taken */
    uint64_t base, sent, taken;
    uint32_t num_slots;
    uint64_t *done;           /* [num_slots] bits: placed by the peer, though not all before it */
    uint64_t connection_base; /* of this connection's first slot */
    eepk_put word[EEPK_RING_WORDS]; /* the newest of each; kind 0: none */
    bool word_waits[EEPK_RING_WORDS];
    struct eepi_ucx_link *link; /* over UCX, while there is a connection */
    bool is_full;               /* the connection takes nothing now */
    bool is_anew;               /* nothing was said on this connection */
    uint64_t looked_us;         /* when acknowledgements were read last */
    uint8_t *talk; /* [EEPI_LANE_TALK_BYTES] of the batch; NULL until there is something to say */
    eepi_lane_batch batch;
    uint8_t answer[sizeof(uint64_t)]; /* part of an acknowledgement, or of the answer */
    size_t answer_bytes;
    uint64_t blocked_since_us; /* atomic: nothing of what was put is placed; 0: all is */
    uint64_t waits_since_us;   /* for the peer's next sign; 0: it owes none */
    uint64_t lacks_since_us;   /* this rank itself cannot connect; 0: it can */
    uint32_t num_refused;      /* in a row: nobody is there, */
    uint64_t refused_since_us, reset_told_us;
    bool is_heard, is_silent, is_reset; /* as the listener was told */
} eepi_lane;

struct eepi_incoming;
struct eepi_ucx;
struct eepi_links;

/* What carries messages: TCP (tcp_lane.c, incoming.c) or UCX (ucx_carrier.c,
 * ucx_lane.c, ucx_incoming.c). The
 * sender thread calls all but open, close, wake and receive. */
typedef struct eepi_carrier {
    /* Be reached at network->address, by each of its interfaces. `network` keeps what was opened so
     * far on failure. */
    eep_status (*open)(eepi_network *network, char *why, size_t why_bytes);
    void (*close)(eepi_network *network); /* its threads have ended */
    /* Of a lane that is down: begin a connection to lane->to. */
    void (*begin)(eepi_network *network, eepi_lane *lane, uint64_t now_us);
    void (*go_on)(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us);
    /* Of one that is up: hear what is placed, send what there is. True: something was moved. */
    bool (*carry)(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us,
                  uint64_t *next_us);
    /* Its connection, if there is one, is of no use any more. */
    void (*drop)(eepi_network *network, eepi_lane *lane);
    void *(*receive)(void *network);          /* the receiver thread */
    bool (*progress)(eepi_network *network);  /* before all turns; NULL: nothing is to be done */
    bool (*may_sleep)(eepi_network *network); /* behind them; NULL: always */
} eepi_carrier;
extern const eepi_carrier eepi_tcp_carrier, eepi_ucx_carrier;

/* One interface of this rank. */
typedef struct eepi_path {
    eepi_network_interface interface;
    int listener;         /* -1: none */
    bool is_down;         /* atomic */
    uint64_t up_since_us; /* atomic: again; 0: it was never down */
} eepi_path;

/* By which of this rank's paths a seat has connected last. */
typedef struct eepi_greeted {
    uint32_t path;  /* atomic */
    uint64_t at_us; /* atomic; 0: by none */
} eepi_greeted;

struct eepi_network {
    const eepi_carrier *carrier;
    eepi_network_config config; /* but for shape and ring */
    eepk_shape shape;
    eepi_lane_address address;
    uint32_t slot_bytes;
    bool has_key;
    eepi_secure_key key;
    pthread_mutex_t lock;
    pthread_t sender, receiver;
    bool is_sending, is_receiving; /* the threads run */
    bool stop;                     /* atomic */
    bool all_peers;                /* those of this host are reached by it, too */
    int epoll, wake_fd;
    eepi_path path[EEPI_MAX_PATHS]; /* [address.num_paths] */
    uint32_t *doorbell;
    struct eepi_links *links;       /* of the paths, if there are several */
    eepi_greeted *greeted;          /* [max_ranks] */
    struct eepi_incoming *incoming; /* over TCP */
    struct eepi_ucx *ucx;           /* over UCX */
    eepi_lane lane[];               /* [num_queues] */
};

/* network_choice.c */
EEP_MUST_CHECK eep_status eepi_network_choose(bool spans_hosts, eepi_network_choice *choice_out,
                                              char *why, size_t why_bytes);

/* lane_socket.c; sockets do not block. */
EEP_MUST_CHECK eep_status eepi_lane_listen(const char *interface, bool has_key, int *fd_out,
                                           eepi_lane_path *path_out, char *why, size_t why_bytes);
/* From one of this rank's paths, or from any (NULL), to one of a peer's. -1: errno says why. */
int eepi_lane_connect(const eepi_lane_path *from, const eepi_lane_path *to);
/* Begin a channel: to the lane's process, or, with NULL, to whoever has connected. */
EEP_MUST_CHECK eep_status eepi_lane_secure(const eepi_network *network, const eepi_lane *lane,
                                           eepi_secure_channel *channel_out);

/* lane_turn.c: one turn of a lane. True: something was moved. `next_us`: look again by then. */
bool eepi_lane_turn(eepi_network *network, eepi_lane *lane, uint64_t now_us, uint64_t *next_us);
/* Drop its connection, and give back what the ring lane has handed out. */
void eepi_lane_abandon(eepi_network *network, eepi_lane *lane);
/* The peer has placed it, or nobody is to have it. */
void eepi_lane_complete(eepi_lane *lane, uint64_t claim);
void eepi_lane_complete_below(eepi_lane *lane, uint64_t claim);
bool eepi_lane_is_done(const eepi_lane *lane, uint64_t claim);
eepi_lane_hello eepi_lane_hello_of(const eepi_network *network, const eepi_lane *lane);
eepi_lane_verdict eepi_lane_judge(const eepi_network *network, const eepi_lane_hello *hello);
/* Of one that is no welcome. */
const char *eepi_lane_answer_text(const eepi_lane_answer *answer);
static inline void eepi_lane_by(uint64_t *next_us, uint64_t at_us)
{
    *next_us = at_us < *next_us ? at_us : *next_us;
}

/* lane_ways.c: of the ways to its process, the one that it takes now. */
void eepi_lane_take_way(eepi_network *network, eepi_lane *lane, uint64_t now_us);
/* Go over to another way if there is reason to. True: its connection is dropped, and is to be made
 * again at once. */
bool eepi_lane_look_at_way(eepi_network *network, eepi_lane *lane, uint64_t now_us,
                           uint64_t *next_us);
/* The receiver thread, or before it runs. With one interface they do nothing. `tag`: in the epoll,
 * for what is told of interfaces, which eepi_ways_look takes. */
EEP_MUST_CHECK eep_status eepi_ways_open(eepi_network *network, uint64_t tag);
void eepi_ways_close(eepi_network *network);
void eepi_ways_look(eepi_network *network);
void eepi_ways_note_greeting(eepi_network *network, uint32_t seat, uint32_t path);
const eepi_lane_path *eepi_lane_own_path(const eepi_network *network, const eepi_lane *lane);

/* lane_signs.c: what the listener hears of a lane's peer. */
__attribute__((format(printf, 3, 4))) void
eepi_lane_note(const eepi_network *network, const eepi_lane *lane, const char *format, ...);
void eepi_lane_tell_reset(const eepi_network *network, eepi_lane *lane, uint64_t now_us);
/* The peer has greeted, or (`is_receipt`) says what it has placed; perhaps it owes more. */
void eepi_lane_hear(const eepi_network *network, eepi_lane *lane, bool is_receipt, uint64_t now_us);
void eepi_lane_look_at_silence(const eepi_network *network, eepi_lane *lane, uint64_t now_us,
                               uint64_t *next_us);
/* The sender thread did not run for so long. */
void eepi_lane_forgive(eepi_lane *lane, uint64_t gap_us);
/* Its connection broke or was not made: another one is made soon. */
void eepi_lane_fail(eepi_network *network, eepi_lane *lane, uint64_t now_us);
/* The same, told once it has lasted: that nobody is there, if that is what it says. */
void eepi_lane_fail_again(eepi_network *network, eepi_lane *lane, const char *why, bool is_nobody,
                          uint64_t now_us);
/* Somebody answers who is not the one that is wanted. */
void eepi_lane_fail_foreign(eepi_network *network, eepi_lane *lane, const char *why,
                            uint64_t now_us);
/* No connection could be begun for want of this rank's own descriptors, memory, ports or address
 * (errno): that says nothing of the peer. It is tried again; meanwhile no silence is counted. */
bool eepi_lane_is_own_lack(int error);
void eepi_lane_lack(eepi_network *network, eepi_lane *lane, int error, uint64_t now_us);
void eepi_lane_lack_ends(eepi_lane *lane, uint64_t now_us);

/* lane_send.c: take the next word or slot out of the ring; false: there is none. */
bool eepi_lane_take(eepi_lane *lane);
/* Send what there is; false: the connection is broken. */
bool eepi_lane_send(eepi_network *network, eepi_lane *lane, bool *any_out);
/* Ask what is to be said to the lane's process: a whole message, in lane->talk. 0:
 * nothing. */
size_t eepi_lane_take_talk(const eepi_network *network, eepi_lane *lane);
/* What was sent on a connection that broke is sent again. */
void eepi_lane_rewind(eepi_lane *lane);

/* network.c: what a message says of its length can be. */
bool eepi_lane_has_room(const eepi_network *network, const eepk_put *put);
/* A process has said that. False: no rank says that. */
bool eepi_lane_hear_talk(const eepi_network *network, uint32_t source, uint32_t generation,
                         const eepk_put *put, const void *bytes);
/* sender.c */
void *eepi_sender_run(void *network);
/* incoming.c: the receiver thread. */
struct eepi_incoming *eepi_incoming_open(const eepi_network *network);
void eepi_incoming_close(struct eepi_incoming *incoming);
void *eepi_receiver_run(void *network);
#endif
