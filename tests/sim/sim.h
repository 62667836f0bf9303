/* SPDX-License-Identifier: Apache-2.0 */
/* The product under virtual time. Each simulated process runs libeep's own threads (rank, service,
 * heartbeat, streams' workers) as fibers of one thread of this program; what they call of the
 * system (clock, locks, poll, store, bulk transport, windows, /proc) is simulated here, and every
 * choice comes from one seed. So whole histories replay to the byte.
 *
 * sim_fiber.c: fibers, virtual time, events
 * sim_process.c: chance, processes that stop or end, ports
 * sim_system.c: the wrapped system calls: locks, conditions, clocks, poll, memory
 * sim_store.c: the store (store_table.c), with its faults
 * sim_store_connection.c: each process's connection to it
 * sim_store_client.c: the product's interface over that
 * sim_parts.c: processes' ends, bulk copies between processes
 * parts/sim_windows.c: windows
 * parts/sim_areas.c: memory for collectives
 * parts/sim_collectives.c: an engine's control thread, and rule P13
 * parts/sim_holder.c: backups that outlive processes
 * parts/sim_hosts.c: several hosts, and what fails between them
 * parts/sim_agent.c: their agents, processes that end, stand still and are doubled
 * parts/sim_lines.c: connections between processes
 * parts/sim_descriptors.c: the system calls that agents need
 * parts/sim_leases.c: leases that lapse, and what may follow
 * parts/sim_network.c: a network to PROXY peers
 * parts/sim_rings.c: what it says of itself, and what room its rings have
 * talk/sim_talk.c: what hosts of ranks say beside their rows
 * sim_kernels.c: the product's kernel bodies, with a point to stop at between loads and stores
 * sim_rank.c: an engine: opens, loads, captures, steps
 * sim_client.c: gives it requests
 * sim_conformance.c: the store against the suite that every store must pass
 * sim_check.c: the properties S1-S13, M1-M10, L1-L7
 * sim_check_steps.c: those of steps
 * sim_faults.c: what goes wrong and when
 * sim_main.c: the program
 */
#ifndef SIM_H
#define SIM_H

#include "eep/eep.h"
#include "eep/shapes.h"
#include "eep/sink.h"
#include "membership/core/core.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "membership/store/store_client.h"
#include "membership/store/store_table.h"
#include "transport/bulk/bulk.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIM_MAX_SEATS = 64,
    SIM_MAX_PROCESSES = 512,
    SIM_MAX_EPOCHS = 2048,
    SIM_LAYERS = 3,
    SIM_EXPERTS = 16,
    SIM_SLOTS = 8,
    SIM_TOPK = 2,
    SIM_HIDDEN = 4,
    SIM_TOKENS = 4,
    SIM_CHAINS = 2,
    SIM_SHAPES = 2,
    SIM_CHUNKS = 2,           /* of shape 1 */
    SIM_TENSORS = 2,          /* of an expert */
    SIM_MAX_REQUESTS = 16384, /* all that come in one history */
    SIM_MAX_WORK = 1024,      /* in one rank's hands */
    SIM_BEGUN_KEPT = 256,
    SIM_PORTS = 2,
    SIM_MAX_HOSTS = 4,
    SIM_MAX_AGENTS = 128,  /* of one history */
    SIM_POLLERS = 8,       /* most threads of a process that poll */
    SIM_BEAT_US = 20000,   /* an agent's, with those of all its seats */
    SIM_STORES_US = 50000, /* most late kernels end so soon after their process */
};
#define SIM_NEVER UINT64_MAX

typedef enum sim_kind {
    SIM_CRASH,
    SIM_STOP,
    SIM_FREEZE, /* a stop between two stores of a kernel */
    SIM_SLOW,
    SIM_RESTART, /* a new process in a vacant seat */
    SIM_LEAVE,
    SIM_DELAY,      /* what the store tells one process takes long */
    SIM_BREAK,      /* a process loses its connection to the store */
    SIM_PARTITION,  /* and cannot have it back for a while */
    SIM_OUTAGE,     /* the store does not answer, or ends and comes back */
    SIM_AMNESIA,    /* the store comes back empty */
    SIM_RACE,       /* likewise, right after a commit, which perhaps nobody was told of */
    SIM_SKEW,       /* clocks differ: rate and offset */
    SIM_CORRUPT,    /* bulk copies arrive changed */
    SIM_ZOMBIE,     /* no kill fence */
    SIM_REQUEUE,    /* requests are taken from living ranks */
    SIM_STUCK,      /* an engine does not step, while libeep's threads live */
    SIM_UNKILLABLE, /* peers cannot kill: threads of one process, or other users' */
    SIM_LATE,       /* kernels go on storing after the end of their process (P8) */
    SIM_END,        /* the instance ends in order (M8), and new processes begin another one */
    SIM_PORT,       /* ports of a rank's NIC go down and come back */
    SIM_FILE,       /* no backups; all can read a checkpoint, which may prove bad */
    SIM_BELL,       /* bells ring while the threads of a dying process still run */
    SIM_WORD,       /* engines report others, and expel them (P11) */
    SIM_GROUP,      /* seats serve in groups, together or not at all */
    SIM_PROXY,      /* some ranks reach some others by a network alone, a bad one */
    SIM_MEMORY,     /* some processes cannot make more memory for their windows */
    SIM_KEEP,       /* the store never forgets, and its watches have a way of their own (N19) */
    SIM_HOSTS,      /* several hosts (rules N7 to N14) */
    SIM_AGENT,      /* with agents as processes (N11, N12) */
    SIM_NUM_KINDS,
    SIM_DRAWN_KINDS = SIM_LATE /* those before it are drawn one by one */
} sim_kind;
extern const char *const sim_kind_names[SIM_NUM_KINDS];

struct eepi_network_talk;
struct talker;

typedef struct sim_fiber sim_fiber;
typedef struct sim_process sim_process;
struct eepi_bell;

/* A request in the hands of a rank: its next position and the state that its tokens made. */
typedef struct sim_work {
    int32_t request;
    uint32_t position;
    uint64_t state;
} sim_work;

typedef struct sim_chain { /* a micro-batch */
    float *x, *middle, *out, *rows, *results, *topk_weights;
    int32_t *topk_idx, *num_tokens, *slot_begin;
    int32_t *chunk_tokens; /* [SIM_CHUNKS], of num_tokens */
} sim_chain;

typedef struct sim_rank {
    eep_context *context;
    eep_device *device;
    eep_stream *stream;
    eep_graph *graph[SIM_SHAPES];
    int num_mixed; /* steps in a row that ended since ranks had begun them with different shapes, */
    uint64_t mixed_epoch; /* under this view */
    sim_chain chain[SIM_CHAINS];
    const float **weights; /* [layers][slots] */
    sim_work work[SIM_MAX_WORK];
    int num_work, num_batch;
    int joined, leave_asked, end_asked;
} sim_rank;

struct sim_process {
    int index, seat, host, alive;
    uint32_t generation; /* 0: it has not taken its seat yet */
    uint32_t took;       /* the same, as soon as its host's file says so */
    int32_t pid;
    uint64_t gone_us;         /* its whole end, once it is not alive */
    uint64_t stores_until_us; /* what its kernels store comes until then; SIM_NEVER: for ever */
    int starts_kernels;       /* the next thread of it is a stream's */
    uint64_t stopped_until_us, slow_us;
    int freeze_in;      /* kernel points until it freezes; 0: it does not */
    uint64_t freeze_us; /* for so long */
    int64_t drift_ppm;  /* its clock against virtual time */
    uint64_t offset_us;
    uint64_t cut_until_us;                             /* no connection to the store before */
    int port_is_down[SIM_PORTS], port_events, port_fd; /* events: not read yet */
    uint32_t told_nic;                                 /* what its newest record says of its NIC */
    char poll_key;                                     /* what its threads that poll sleep on */
    eepi_store_client *store;
    eepi_bulk *bulk;
    struct eepi_bell *bell; /* where bells ring; NULL: it has none */
    int dies;               /* it has rung */
    sim_rank rank;
    /* what the checks remember of it */
    uint64_t promised, expelled_epoch, epoch, digest, step, highest_step, started_us, last_ok_us,
        first_ok_us;
    struct {
        uint64_t epoch, step;
    } begun[SIM_BEGUN_KEPT]; /* the newest ones, a ring */
    uint64_t num_begun, num_ok, num_aborted;
    int leaving, over;
    uint64_t order_period;   /* when it thought of an order last, */
    uint64_t word_period;    /* and of a word against another rank */
    uint64_t accused_us;     /* when the last word was said against it; 0: none was */
    uint64_t accusers;       /* a bit for each process that said one */
    int failed;              /* it said so itself */
    int ends_instance;       /* its engine is to ask for the end of the instance */
    uint64_t released_epoch; /* of the last view of an instance that ended in order with it (M8) */
    uint64_t last_ok_epoch;  /* of its last step that ended well */
    uint64_t idle_us;        /* when it last had nothing to do */
    uint64_t stuck_us;       /* its engine is to stay between two steps for so long */
    uint64_t tables_hash;    /* of the bank that its step has latched (S11) */
    int lost_power;          /* its connections say nothing of its end */
    int fenced;              /* it reaches nobody but through gates (N7) */
    int former;              /* of an instance that nobody remembers */
    int closes;              /* its engine is about to close its context */
    uint64_t collective;     /* the last that ended OK here; when */
    uint64_t collective_ok_us;
    int said_end;           /* that it stores nothing any more */
    uint64_t lease_us;      /* when the store had its lease last; 0: never */
    uint64_t lapsed_us;     /* when it had been gone for as long as lapses last (N21); 0: never */
    uint64_t lapsed_epoch;  /* of the view that ended its instance for that */
    int was_member;         /* a view had it */
    int no_memory;          /* for its window, */
    uint64_t lacks_from_us; /* which it was first told then */
    eep_status ended;
    uint64_t call_us;      /* when its rank thread entered the library */
    uint64_t disturbed_us; /* it was stopped, delayed or cut off until then */
};

typedef struct sim_options {
    uint64_t seed;
    int num_ranks; /* 0: by seed */
    uint32_t kinds;
    int trace;
    int windows_discrete; /* their host side is not what kernels store into */
} sim_options;

typedef struct sim_shape {
    int num_ranks, max_ranks, num_layers, num_experts, num_slots;
    int ranks_per_node, backup_copies, seats_per_group;
} sim_shape;

typedef struct sim_request {
    uint32_t length;
    uint64_t prompt;
    int32_t owner;  /* process index; -1: none */
    uint64_t state; /* after the accepted tokens */
    uint32_t accepted;
    uint64_t progress_us;
} sim_request;

typedef struct sim_world {
    sim_options options;
    sim_shape shape;
    uint32_t kinds; /* those this seed uses */
    uint64_t random, now_us;
    uint64_t heal_us, converged_us, committed_us, begun_us; /* begun: by the last first view */
    int healed, failed, stopping;
    bool store_keeps; /* it never forgets (N19) */
    int num_hosts;    /* 0: one, and nothing is said of it */
    int hosts_only;   /* hosts and ends of processes are all that fails */
    uint64_t cut_until_us[SIM_MAX_HOSTS][SIM_MAX_HOSTS]; /* from, to */
    uint64_t agent_back_us[SIM_MAX_HOSTS], host_disturbed_us[SIM_MAX_HOSTS];
    int has_agents; /* as processes; they are no ranks, and not among `process` */
    sim_process *agent[SIM_MAX_AGENTS];
    int num_agents;
    int joiners_only;           /* L4: in this history only joiners are disturbed */
    uint64_t survivors_from_us; /* and who has stepped by then must not notice much of it */
    eepi_seat_holder seat_file[SIM_MAX_HOSTS][SIM_MAX_SEATS]; /* they outlive the store */
    sim_process *process[SIM_MAX_PROCESSES];
    int num_processes;
    struct sim_retained *retained; /* by the holder */
    uint64_t retained_life, retained_sequence;
    uint64_t step_us; /* what experts take */
    int corrupt_of_1000, point_of_1000;
    /* what was committed, by epoch */
    eepi_view *committed[SIM_MAX_EPOCHS];
    uint64_t first_epoch; /* of committed[0] */
    eepi_view *newest;
    const eepi_view *in_register; /* NULL: the store has forgotten it */
    uint64_t views, tokens, expelled_alive, faults, steps_ok, steps_aborted, mixed_steps;
    uint64_t longest_pause_us, longest_join_pause_us, faults_in_recovery;
    uint64_t late_nodes;              /* that ran after the end of their process */
    uint64_t late_rows;               /* that were stored by those who do so for ever */
    uint64_t messages, late_messages; /* late: behind their source's end */
    uint64_t placed[8];               /* by eepi_placed */
    struct eepi_network *networks;
    struct talker *talkers;
    uint64_t talked;                              /* messages between hosts of ranks */
    uint64_t memories, renewals;                  /* of windows; colours that got other memory */
    uint64_t collectives_ok, collectives_aborted; /* calls */
    uint64_t ended_for_memory;                    /* ranks that took themselves out */
    uint64_t ends;                                /* instances that ended in order */
    uint64_t lapses, lapsed_alive;                /* and whose leases lapsed; ranks that lived */
    eep_sink *sink;
    sim_request request[SIM_MAX_REQUESTS];
    int num_requests, num_old_requests; /* old: asked for before the world healed */
    /* completed steps: [step % kept] */
    struct {
        uint64_t step, epoch;
        int32_t shape;
    } completed[1024];
} sim_world;

extern sim_world *sim; /* the one under way */

/* ---- sim_fiber.c */
void sim_world_open(const sim_options *options);
void sim_world_close(void);
uint64_t sim_random(uint64_t limit); /* 0 .. limit-1 */
/* A time between the two, mostly near the lower one. */
uint64_t sim_delay(uint64_t least_us, uint64_t most_us);
void sim_after(uint64_t delay_us, void (*fn)(void *user, uint64_t number), void *user,
               uint64_t number);
/* Run events until `until_us`, or until `done` says so; returns what it said. */
int sim_run(uint64_t until_us, int (*done)(void));
sim_process *sim_process_new(int seat);
void sim_process_end(sim_process *p, const char *why);
/* It is killed: its bell rings, then it ends. */
void sim_process_kill(sim_process *p, const char *why);
void sim_bell_ring(sim_process *p);
/* The nodes of their trees come from libc itself, which no wrapped call sees. */
void sim_process_forget(void);
void sim_process_stop(sim_process *p, uint64_t for_us);
/* It lives, or its kernels do. */
int sim_process_may_store(const sim_process *p);
sim_process *sim_self(void); /* NULL: outside fibers */
sim_fiber *sim_spawn(sim_process *p, void *(*fn)(void *), void *argument, size_t stack_bytes);
sim_fiber *sim_fiber_self(void);
int sim_fiber_is_over(const sim_fiber *fiber);
/* It runs kernels: it goes on for a while after the end of its process, where kernels do. */
void sim_fiber_runs_kernels(sim_fiber *fiber);
void sim_sleep(uint64_t us);
/* Sleep on a key until it is woken or until virtual time `until_us`; 0: woken. */
int sim_wait(const void *key, uint64_t until_us);
void sim_wake(const void *key, int most);
/* A place where another fiber may come in between. */
void sim_point(void);
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- sim_process.c */
/* The port goes down or comes up, and its NIC tells of it. */
void sim_port_set(sim_process *p, int port, int is_down);
/* What the record of that process is to say of its NIC; 0: it has none. */
uint32_t sim_nic_rate(const sim_process *p);

/* ---- sim_system.c */
uint64_t sim_local_us(const sim_process *p);                     /* its clock now */
uint64_t sim_global_us(const sim_process *p, uint64_t local_us); /* when its clock shows that */
typedef enum sim_fd_kind {
    SIM_FD_NONE,
    SIM_FD_EVENT,
    SIM_FD_PROCESS,
    SIM_FD_STORE,
    SIM_FD_BULK,
    SIM_FD_LINE,     /* a connection (parts/sim_lines.h) */
    SIM_FD_LISTENER, /* for such */
    SIM_FD_SET,      /* of descriptors */
    SIM_FD_MEMORY    /* shared */
} sim_fd_kind;
int sim_fd_new(sim_fd_kind kind, void *what);
sim_fd_kind sim_fd_kind_of(int fd);
int sim_fd_copy(int fd);
/* The first one is what the other one is. */
void sim_fd_become(int fd, int other);
/* -1: none is in it any more. */
void sim_fd_put_into_set(int set, int fd);
/* Close a real descriptor at the end of the history. */
void sim_file_keep(int fd);
void *sim_fd_what(int fd);
void sim_fds_reset(void);
void sim_memory_reset(void);
void sim_no_preemption(int off);

/* ---- sim_store.c */
void sim_store_open(uint64_t first_epoch, uint64_t first_step);
void sim_store_break(sim_process *p);
void sim_store_cut(eepi_store_client *client);
void sim_store_delay(sim_process *p, uint64_t by_us);
void sim_store_outage(uint64_t for_us, int ends, int forgets);
int sim_store_is_readable(eepi_store_client *client);
/* It reads, and refuses all writes (N14). */
void sim_store_refuse_writes(uint64_t for_us);
/* Some process's watch brings nothing for so long (N18). */
void sim_store_mute(uint64_t for_us);

/* ---- sim_parts.c */
int sim_bulk_is_readable(eepi_bulk *bulk);

/* ---- sim_rank.c */
void sim_rank_start(int seat);
float sim_expert_code(int layer, int expert);
/* A call's status: this process could make no memory for its window, and so its service is over. */
int sim_ended_for_memory(const sim_process *p, eep_status status);

/* ---- parts/sim_network.c */
/* Its kernels may have put something into rings. */
void sim_network_look(sim_process *p);
/* A lane of those that are in use, by chance. */
void sim_network_stall(uint64_t for_us);
/* A place where a thread that places messages may be descheduled. */
void sim_network_point(void);
/* What peers send to it under that epoch may still be placed. */
int sim_network_lets_in(const sim_process *p, uint64_t epoch);

/* ---- parts/sim_rings.c */
typedef struct sim_ring_room sim_ring_room;
struct eepi_ring_lane;
/* The network does what the rules allow; else what keeps up with steps. */
int sim_network_is_bad(void);
/* Of each ring; in bad times some of them are given back late. */
uint32_t sim_ring_slots(const eepk_shape *shape);
sim_ring_room *sim_ring_room_open(const eepk_shape *shape, struct eepi_ring_lane *lane);
/* The network has read that claim's slot. */
void sim_ring_complete(sim_ring_room *room, uint64_t claim);
/* The times may be better by now. */
void sim_ring_give_back(sim_ring_room *room);
/* ---- parts/sim_leases.c */
/* Before any process opens. */
void sim_leases_open(void);
/* In some histories all processes lose the store, and others come for their seats. */
void sim_leases_lose(void);
/* Whose leases the store has now. */
void sim_leases_note(const eepi_store_table *table);
/* That view ends an instance over processes whose end nobody has told. */
bool sim_leases_end(const eepi_view *before, const eepi_view *view);
/* N21: none of them had its lease of late. */
void sim_check_lapse(const eepi_view *before, const eepi_view *view, sim_process *p);
/* Once all is well, and a while later: who serves has a lease. */
void sim_check_leases(void);

/* ---- talk/sim_talk.c */
/* NULL: one host. */
struct talker *sim_talk_open(const struct eepi_network_talk *talk, uint32_t seat,
                             uint32_t generation);
void sim_talk_speak(struct talker *t, uint32_t seat, uint32_t generation);
void sim_talk_close(struct talker *t);

/* ---- parts/sim_hosts.c */
void sim_hosts_open(void);
void sim_hosts_heal(void);
/* Where a new process in that seat runs. */
int sim_host_for(int seat);
/* As documents name it. */
uint64_t sim_host_id(int host);
/* Nothing comes from one host to the other now. */
int sim_hosts_are_cut(int from, int to);
/* The other host has just heard a beat of that process. */
int sim_hosts_hear(const sim_process *from, int to);
/* Such a view puts it behind gates. */
int sim_hosts_fence(const eepi_view *before, const eepi_view *view, const sim_process *p);
void sim_check_hosts(const eepi_view *before, const eepi_view *view);

/* ---- parts/sim_agent.c */
void sim_agents_open(void);
/* Something happens to that host's agent. */
void sim_agent_fault(int host, uint64_t for_us);
void sim_agents_heal(void);

/* ---- parts/sim_lines.c, parts/sim_descriptors.c */
int sim_line_is_readable(const void *end);
int sim_listener_is_readable(const void *listener);
void sim_descriptors_open(void);

/* ---- parts/sim_step.c */
int sim_num_chains(void);
int sim_num_shapes(void);
uint64_t sim_longest_step_us(void);
int32_t sim_wanted_shape(const sim_rank *rank);
int sim_most_tokens(int32_t shape);
void sim_buffers_open(sim_rank *r);
/* The step's graph. */
eep_status sim_capture(sim_process *p);
/* Element h of an expert's output for a row. */
float sim_result_of(const float *row, const float *code, const float *salt, int h);

/* ---- parts/sim_collectives.c */
void sim_collectives_open(void);
/* The control thread of a process whose context is open. */
void sim_collectives_start(sim_process *p);

/* ---- sim_client.c */
void sim_client_open(void);
void sim_client_offer(sim_process *p, uint64_t epoch, int32_t request, uint32_t position,
                      uint64_t token, uint64_t delay_us);
int sim_client_is_done(void);
uint64_t sim_client_needs_us(void);
int32_t sim_route(uint64_t state, int layer, int k);
uint64_t sim_token(uint64_t state);
uint64_t sim_next_state(uint64_t state, uint64_t token);
void sim_expected(uint64_t state, float *out);

/* ---- sim_check.c, sim_check_steps.c */
/* That process has the seat in the view, as a member or not, and no namesake on another host. */
int sim_is_named(const eepi_view *view, const sim_process *p);
/* That process is a member of the view. */
int sim_is_in(const eepi_view *view, const sim_process *p);
void sim_fail(const char *property, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define SIM_MUST(condition, property, ...)                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            sim_fail(property, __VA_ARGS__);                                                       \
    } while (0)
/* A fault is about to happen. */
void sim_check_fault(void);
void sim_check_commit(const eepi_view *view);
void sim_check_open(const sim_process *p);
uint64_t sim_known_epoch(const sim_process *p, const char *key);
void sim_check_behind(const sim_process *p, uint64_t known, uint64_t in_register);
void sim_check_put(sim_process *p, const char *key, const void *bytes, size_t size);
void sim_check_begin(sim_process *p, const eep_step *step);
void sim_check_ok(sim_process *p, const eep_step *step, int32_t shape);
void sim_check_aborted(sim_process *p, const char *why);
void sim_check_kill(const sim_process *p);
void sim_check_call(sim_process *p, const char *name, uint64_t bound_us);
const eepi_view *sim_committed(uint64_t epoch);
sim_process *sim_process_of(int seat, uint32_t generation);
int sim_all_serve(void);
int sim_has_converged(void); /* and every request is complete */
void sim_print_ranks(void);

/* ---- sim_conformance.c: is this store as the product's? 0: it is not, and it is printed why. */
int sim_store_conforms(const sim_options *options);

/* ---- sim_main.c */
const char *sim_replay_options(void);

/* ---- sim_faults.c */
void sim_faults_open(void);
void sim_heal(void);
/* An instance has ended in order: new processes come. */
void sim_begin_again(uint64_t epoch);
/* Orders of placements: before the weights, and between steps. */
void sim_order_first(sim_process *p);
void sim_order_sometimes(sim_process *p);
void sim_check_orders(const eepi_view *before, const eepi_view *view);

/* ---- parts/sim_words.c */
/* Perhaps the engine of that rank says something against another one, between two steps. */
void sim_words_sometimes(sim_process *p);
void sim_check_words(const eepi_view *before, const eepi_view *view);
/* Another process of its group is dead, was disturbed, leaves or is accused. */
int sim_group_is_disturbed(const sim_process *p);
#endif
