/* What the files of a context share.
 *
 * Threads. The rank thread is the caller's. The service thread alone drives the core, the store
 * client, the bulk transport and the executor, and stages banks. The heartbeat thread only beats
 * and listens. They meet in two places: `lock` guards the fields between the braces below, and the
 * mailbox carries what the other threads have to say to the service thread. */
#ifndef EEPI_CONTEXT_H
#define EEPI_CONTEXT_H

#include "eep/eep.h"
#include "graphs/base/clock.h"
#include "graphs/device/tables.h"
#include "membership/core/core.h"
#include "membership/process/detector.h"
#include "membership/context/inbox.h"
#include "membership/context/outcome.h"
#include "membership/context/records.h"
#include "membership/context/sequence.h"
#include "graphs/kernels/compiler_macros.h"
#include "membership/core/stepper.h"
#include "membership/store/store_client.h"
#include "repair/executor.h"
#include "transport/bulk/bulk.h"
#include "transport/topology.h"
#include "transport/window/window.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>

enum {
    EEPI_ERROR_BYTES = 512,
    EEPI_LINE_BYTES = 900,                 /* of the log */
    EEPI_MAILBOX_EVIDENCE = EEP_MAX_RANKS, /* what is told once must fit */
    EEPI_FAULT_QUEUE = 256,
    EEPI_SERVING_BUFFERS = 2,
};

/* Pinned copies of slots that are being sent; nothing on the host backend. Service thread. */
typedef struct eepi_serving {
    eep_stream *stream; /* the device's auxiliary one; NULL: slots are sent as they are */
    void *buffer[EEPI_SERVING_BUFFERS];
    int busy[EEPI_SERVING_BUFFERS];
} eepi_serving;

/* Called behind each node that libeep puts into a stream; may put nodes of its own behind it. */
typedef eep_status (*eepi_after_node)(void *user, eep_stream *stream, eepi_kernel_id id);

/* What the log was told of a seat; service thread. */
typedef struct eepi_peer_told {
    eepi_view_seat seat; /* of the last document that was told */
    int32_t cause;       /* 1 + the eep_fault_kind it is expelled for; 0: none is known; */
    int32_t ended;       /* and then its process ended, or was killed */
    uint64_t silent_ms;  /* its heart has not beaten for so long by then */
    uint32_t report_generation;
    uint64_t report_epoch;               /* newest report */
    uint64_t acks[EEPI_ACK_FLIPPED + 1]; /* digests, by kind */
} eepi_peer_told;

/* What the log was told of the views; service thread. */
typedef struct eepi_told {
    uint64_t digest;     /* of the last document; 0: none */
    uint64_t without_us; /* since when this rank has no view to serve under; 0: it has one, or did
                          * not ask for one */
    uint64_t pause_us;   /* how long it had none, until the last install; 0: that was told */
    uint64_t bytes;      /* of weights that it has copied since */
    int had_view, first; /* first: pause_us is the time from eep_join on */
    int drain_waits;     /* that this rank cannot leave, since it asked to */
    int wait_said;       /* whom this rank waits for since it stopped for a fault */
} eepi_told;

/* What is known of the process in a seat; service thread. */
typedef struct eepi_peer {
    void *record_bytes; /* NULL: none */
    eepi_record record; /* points into them */
    int is_heard;       /* it came on this connection to the store */
    int pidfd;          /* -1: not watched */
    uint32_t pidfd_generation;
    eepi_window *window, *retired_window;
    uint32_t window_generation;
    int32_t window_pid; /* whose window it is */
    uint64_t window_pid_start;
    eepi_end end_said;    /* what we told the others of its end; generation 0: nothing */
    eepi_suspect to_kill; /* it was warned, and is killed */
    uint64_t kill_at_us;  /* then at the latest; 0: it is not */
    eepi_peer_told told;
} eepi_peer;

/* What is known of a seat's process before it is in a view; under the context's lock. */
typedef struct eepi_arrival {
    uint32_t generation;           /* 0: nobody has opened it, or whoever did has ended */
    int ready;                     /* it has asked to be let in */
    uint32_t refused;              /* generation that was told that its weights differ; */
    char why[EEPI_CORE_WHY_BYTES]; /* and how */
} eepi_arrival;

/* From the heartbeat thread, which must not wait for what others do under the context's lock. */
typedef struct eepi_evidence_mail {
    pthread_mutex_t lock;
    eepi_suspect suspects[EEPI_MAILBOX_EVIDENCE];
    int num;
} eepi_evidence_mail;

typedef struct eepi_mailbox { /* under `lock` */
    int leave, ready;
} eepi_mailbox;

struct eep_context {
    eep_config config;
    int32_t opened_by; /* the process */
    int holds_device;
    uint32_t generation;
    eepi_instance
        instance; /* what the store says that all ranks have; set when the seat is taken */
    eepi_view_shape view_shape;
    eepk_shape shape;
    uint64_t pid_start, home;  /* of this process: eepi_process_home */
    int seat_lock_fd;          /* keeps the lock of the seat's file while has_seat */
    char store_path[PATH_MAX]; /* eepi_store_socket_resolve: the seats' files lie beside it */
    eepi_topology *topology;   /* NULL: not bound */

    /* made at open, fixed afterwards */
    eepi_window *window;
    eepi_tables *tables;
    eepi_core *core;
    eepi_store_client *store;
    eepi_bulk *bulk;
    eepi_detector *detector;
    eepi_executor *executor;
    eepi_serving serving;
    eepi_peer *peers;
    pthread_t service;
    int service_runs, wake_fd;
    int has_seat, claimed; /* the seat is ours by its file; in the store, too */

    /* service thread */
    uint64_t cas_id, read_id; /* requests under way; 0: none */
    uint64_t cas_epoch;       /* what the compare-and-swap under way would commit, */
    uint8_t cas_phase;        /* and its phase */
    int num_warned;           /* peers with a kill_at_us */
    eepi_view *held_plan;     /* to be staged once the idle bank is idle; NULL: none */
    int held_for_record;      /* it could not be staged: not before a peer's record has come, */
    uint64_t stage_again_us;  /* or this time; so for install_again_digest */
    uint64_t stage_pause_us;  /* how long after the last failure that is */
    uint64_t clock_us, clock_seen_us; /* the core's time, and ours when it was set */
    uint64_t probe_id, probe_us;      /* is the store there? 0: not asked */
    uint64_t late_calls_at_open;      /* eepi_device_late_calls */
    int is_waiter;                    /* eepi_device_take_waiter was granted */
    int store_lost, ready_told, leave_told;
    bool poll_has_failed;    /* and that was logged */
    uint64_t ends_looked_us; /* when ends were looked for that no descriptor tells of */
    int back;                /* reconnected, and our keys are not said again yet; service thread */
    struct pollfd *poll_fds;
    int *poll_seats;
    eepi_inbox *inbox; /* of the core */
    void *said_report; /* what was put last, to be said again to a store that forgot */
    size_t said_report_bytes;
    uint64_t said_report_epoch;
    eepi_ack said_acks[EEPI_ACK_FLIPPED + 1];
    uint64_t install_again_digest; /* of a view that could not be staged; 0: none */
    uint64_t begin_again_us;       /* when to look whether an instance may begin; 0: not */
    uint64_t fill_again_us;        /* when to try a repair again that failed; 0: none did */
    uint64_t fill_again_digest;    /* of that document only */
    eepi_told told;
    uint64_t known_epoch; /* of the newest document, for texts; 0: none; atomic */

    /* weights, rank thread until eep_join, then read only (the executor writes slots and
     * physical_to_logical while the rank is wedged) */
    int32_t num_tensors;
    uint64_t tensor_bytes[EEP_MAX_TENSORS];
    eep_tensor *slots;            /* [num_layers][num_slots][EEP_MAX_TENSORS] */
    eep_tensor *backups;          /* [num_layers][num_experts][EEP_MAX_TENSORS] */
    int32_t *experts;             /* [num_layers][num_slots] */
    int32_t *physical_to_logical; /* the same, device memory */
    uint64_t *checksums;          /* [num_layers][num_slots] */
    uint64_t *backup_bits;        /* [num_layers][words]: those it has */
    uint64_t *backup_wanted;      /* the same: those it is meant to have */
    void **owned;                 /* slots that eep_slot_alloc allocated */
    int32_t num_owned;
    void *given; /* the tensors in slots and backups, by address; given_memory.c */

    const char *call; /* that a thread is in, of those for one thread at a time; NULL; atomic */
    pthread_t caller; /* the thread of the last such call; atomic */
    int cancel_state; /* that it had before */
    int closing;      /* eep_close was called: all such calls end; atomic */

    /* capture, rank thread */
    eep_stream *stream;
    struct eepi_owner *owner;   /* of that stream, and of graphs that hold our steps */
    eepi_sequence sequence;     /* what was put of a step */
    const int32_t **slot_begin; /* [num_layers], from dispatch to combine */
    eepi_after_node after_node; /* NULL: nobody watches */
    void *after_node_user;
    int64_t captures_at_join;
    eep_bad_input bad; /* of the last step that had one; step 0: none did; rank thread */

    eepi_evidence_mail evidence;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* { under `lock` */
    eepi_mailbox mailbox; /* with what the stepper has to say in its own */
    eepi_stepper stepper;
    int joined_once, stop;
    int elsewhere;         /* the step's graph runs where libeep does not look; rank thread */
    int queued;            /* it may begin there yet, and then stores nothing; rank thread */
    int waits_to_join;     /* eep_join ran out of time; rank thread */
    int closed_by_weights; /* that is since a first rank has other weights; service thread */
    eepi_outcome outcome;
    eep_counters counters;
    eep_fault faults[EEPI_FAULT_QUEUE];
    int num_faults;
    eep_seat *seats;                     /* of the newest view */
    eepi_arrival *arrivals;              /* [max_ranks] */
    char waits_for[EEPI_CORE_WHY_BYTES]; /* why it is not let in by those who serve */
    eepk_window_header **peer_headers;   /* host sides that are apart; NULL: none is mapped */
    int begin_waits_for; /* 1 + the seat whose process keeps an instance from beginning; 0: none */
    uint64_t seats_epoch;
    /* } */
    char error[EEPI_ERROR_BYTES];
};

/* What every public function on a context begins with: NULL, and another process's context, are
 * refused. Of the first a text is left for eep_error_text only; any thread. */
EEP_MUST_CHECK eep_status eepi_check_context(const char *call, const eep_context *context);
/* The same, for eep_last_error, too; rank thread. EEP_ERR_STATE in a callback. */
EEP_MUST_CHECK eep_status eepi_check_own(const char *call, eep_context *context);
/* calls.c: eepi_check_own; and EEP_ERR_STATE while another thread is in such a call, which names
 * both. After EEP_OK eepi_call_end follows; until then the thread is not cancelled. */
EEP_MUST_CHECK eep_status eepi_call_begin(eep_context *context, const char *call);
/* The call's status: EEP_ERR_STATE if eep_close was called meanwhile. The context may be gone then.
 */
EEP_MUST_CHECK eep_status eepi_call_end(eep_context *context, eep_status status);
/* eep_close was called by another thread: a call that waits ends with eepi_fail_closing. */
int eepi_call_is_closed(const eep_context *context);
eep_status eepi_fail_closing(eep_context *context, const char *call);
/* End the call that another thread is in, and let no other begin. 0: it did not end in time, and a
 * line in the log names it: the context is in use yet. */
int eepi_calls_close(eep_context *context);
/* EEP_ERR_INVALID, and the text, if an argument of that name is NULL; rank thread. */
EEP_MUST_CHECK eep_status eepi_check_argument(eep_context *context, const char *call,
                                              const char *name, const void *argument);
/* The stream that steps are replayed in, NULL: none; it is held until another one takes its place.
 * EEP_ERR_STATE, with a text: it is another context's. */
EEP_MUST_CHECK eep_status eepi_set_stream(eep_context *context, const char *call,
                                          eep_stream *stream);

#define EEPI_NO_STREAM_TEXT                                                                        \
    "it is not known in which stream steps run: capture the step's graph (eep_step_latch), or "    \
    "name the stream with eep_step_stream if nothing is captured"

/* Set the last error (rank thread) and return the status. */
eep_status eepi_fail(eep_context *context, eep_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void eepi_log(const eep_context *context, eep_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void eepi_event(const eep_context *context, eep_event_kind kind, int32_t seat, uint32_t generation,
                uint64_t epoch, uint64_t value);

/* tell.c, service thread: log lines about views. A new document is known: before its actions; after
 * them it is told, once. */
void eepi_tell_known(eep_context *context);
void eepi_tell_view(eep_context *context);
/* This rank retires, and the others have no room for what only it holds: once. */
void eepi_tell_drain(eep_context *context);
/* Why somebody is expelled, before eepi_tell_view. */
void eepi_tell_cause(eep_context *context, const eepi_suspect *suspect);
/* From now on this rank waits for a view; one is installed. */
void eepi_tell_without_view(eep_context *context);
/* For whom this rank waits since it stopped for a fault, if that takes long: once. */
void eepi_tell_wait(eep_context *context);
void eepi_tell_installed(eep_context *context, const eepi_view *view);
/* The steps of agreement. */
void eepi_tell_suspected(eep_context *context, const eepi_suspect *suspect);
void eepi_tell_promise(eep_context *context, const eepi_report *report);
void eepi_tell_report(eep_context *context, const eepi_report *report);
void eepi_tell_ack(eep_context *context, const eepi_ack *ack);
void eepi_tell_proposal(eep_context *context, const eepi_view *view);
void eepi_tell_proposed(eep_context *context, int won);

EEP_MUST_CHECK eep_status eepi_service_start(eep_context *context);
void eepi_service_stop(eep_context *context);

/* actions.c: carry out what the core asks for; service thread. */
void eepi_perform(eep_context *context, const eepi_action *action);
/* The planner refused to let this process in: its service is over. */
void eepi_refused(eep_context *context, const char *why);
/* An instance with another configuration has begun, and this rank is in no view: its service is
 * over, and its seat is free. */
void eepi_replaced(eep_context *context, const char *difference);
/* Try to install a view again that could not be staged. */
void eepi_install_again(eep_context *context);
/* Stage the plan that had to wait for the rank thread's flip. */
void eepi_stage_held(eep_context *context);
/* Say again what the store may have forgotten or never got. */
void eepi_say_again(eep_context *context);
/* Once this rank has left the view and its last step has ended, it stores nothing any more: tell
 * all so (rule M7), though its process may live on. */
void eepi_say_own_end(eep_context *context);
/* Look again whether an instance may begin, once that is due. */
void eepi_begin_again(eep_context *context);

/* elsewhere.c: the stream of the step is empty. If the step has not ended it is aborted, and its
 * end waited for. 1: its end came from another stream. Sets `elsewhere` and `queued`; rank thread.
 */
int eepi_elsewhere_end(eep_context *context);
typedef enum eepi_left {
    EEPI_LEFT_NOTHING,
    EEPI_LEFT_MEMORY, /* a graph may begin yet: it stores nothing and uses the context's memory */
    EEPI_LEFT_ALL,    /* a graph still runs, and may store */
} eepi_left;
/* What a context that closes leaves running; a step in flight is aborted and waited for. */
eepi_left eepi_elsewhere_left(eep_context *context, uint64_t bound_us);

/* arrivals.c: note a record, an end, a refusal; service thread. */
void eepi_arrival_note(eep_context *context, const eepi_member *member);
void eepi_arrival_end(eep_context *context, int seat, uint32_t generation);
void eepi_arrival_refused(eep_context *context, const eepi_refusal *refusal);
/* No view can be formed, since somebody has other weights: nobody waits for a timeout. */
void eepi_arrivals_look(eep_context *context);
/* Who is waited for, and why; the lock is held. Any thread. */
void eepi_arrivals_say(const eep_context *context, char *text_out, size_t text_bytes);
/* fence.c: whoever of these seats is busy by its own word is taken out. */
void eepi_spare_busy(const eep_context *context, uint64_t *seats);
/* Tell the core, through the inbox, if that member is busy by its own word. */
bool eepi_post_busy(eep_context *context, int seat);
/* Kill the process of a suspect; one whose heart beats is warned first, and killed as soon as it
 * has heard that, or its time is up: eepi_kill_warned, within eepi_warned_poll_us. */
void eepi_kill_suspect(eep_context *context, const eepi_suspect *suspect);
void eepi_kill_warned(eep_context *context, int seat);
uint64_t eepi_warned_poll_us(const eep_context *context);
/* Try a failed repair again once that is due. */
void eepi_fill_again(eep_context *context);
/* Go on with a fill that is held back for the sake of its rate. */
void eepi_fill_go_on(eep_context *context);

/* claim.c: take the seat with a new generation, and learn what to load; before the service thread.
 */
EEP_MUST_CHECK eep_status eepi_claim_seat(eep_context *context);
/* Tell the store of the end of that generation, and with it of all older ones (rule M7). */
EEP_MUST_CHECK eep_status eepi_claim_end(eep_context *context, const eepi_end *end,
                                         uint64_t bound_us);
/* The seat is free for another context, of this process as well; */
void eepi_claim_give_back(eep_context *context);
/* and the end of ours is told. */
void eepi_claim_release(eep_context *context, uint64_t bound_us);

/* capture.c: eepi_check_own; and EEP_ERR_STATE, with a text, while this thread or anybody captures
 * the step's stream. */
EEP_MUST_CHECK eep_status eepi_refuse_in_capture(eep_context *context, const char *call);
/* EEP_ERR_STATE, with a text, if a step was begun in a stream and not finished; it is dropped. */
EEP_MUST_CHECK eep_status eepi_check_sequence(eep_context *context, const char *call);

/* peers.c: records, windows, processes of the peers; service thread. The process in a seat, as the
 * record in the store says: it is to be told to the core, behind what was posted. NULL: no news. */
const eepi_member *eepi_peer_take_record(eep_context *context, const void *bytes, size_t size);
EEP_MUST_CHECK eep_status eepi_peers_map(eep_context *context, const eepi_view *view,
                                         void **windows_out);
void eepi_peers_close(eep_context *context);
/* Put our own record into the store. */
void eepi_peer_publish(eep_context *context);

/* serve.c: what this rank gives to repairs of others; open in eep_join, before the executor. */
EEP_MUST_CHECK eep_status eepi_serving_open(eep_context *context);
void eepi_serving_close(eep_context *context);
int eepi_serve(void *context, const eepi_blob *blob, eepi_bulk_part *parts_out);
void eepi_served(void *context, const eepi_bulk_part *parts, int num_parts);

/* capture.c: from now on `after` sees every node that is captured, so that a laboratory can put its
 * own between those of one eep_dispatch. Before the capture, rank thread; NULL ends it. */
void eepi_capture_watch(eep_context *context, eepi_after_node after, void *user);

/* given_memory.c: put the caller's tensors into their place in slots or backups, EEP_MAX_TENSORS
 * there; EEP_ERR_INVALID, with a text, if a byte of them was given already. A place that is given
 * again forgets what it had; a refusal changes nothing. */
EEP_MUST_CHECK eep_status eepi_memory_give(eep_context *context, const char *call,
                                           eep_tensor *place, const eep_tensor *tensors,
                                           int32_t num_tensors);
void eepi_memory_give_back(eep_context *context);
/* The part of it that needs no device: what was given is not noted any more. */
void eepi_memory_forget(eep_context *context);

/* weights.c */
EEP_MUST_CHECK eep_status eepi_weights_open(eep_context *context);
void eepi_weights_close(eep_context *context);
/* Check that all slots have memory, compute their checksums. */
EEP_MUST_CHECK eep_status eepi_weights_seal(eep_context *context);
const eep_tensor *eepi_weights_slot(void *context, int32_t layer, int32_t slot);
const eep_tensor *eepi_weights_backup(void *context, int32_t layer, int32_t expert);
/* physical_to_logical follows a view. */
void eepi_weights_follow(eep_context *context, const eepi_view *view);
#endif
