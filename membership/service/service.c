/* SPDX-License-Identifier: Apache-2.0 */
/* The service thread of a context: it turns what arrives (store, processes, transfers, the other
 * threads' mail, time) into inputs of the core. It is the only thread that touches the core. */
#include "membership/service/service.h"

#include "graphs/base/descriptors.h"
#include "graphs/base/thread.h"
#include "graphs/device/device_ops.h"
#include "membership/agent/rank_agent.h"
#include "membership/backup/backups.h"
#include "membership/collective/collective.h"
#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/control/accusations.h"
#include "membership/loads/gather.h"
#include "membership/order/order.h"
#include "membership/service/feed.h"
#include "membership/service/fence.h"
#include "membership/service/filling.h"
#include "membership/service/peers.h"
#include "membership/service/store_replies.h"
#include "membership/service/store_session.h"
#include "membership/service/tell.h"
#include "membership/step/arrivals.h"
#include "membership/step/proxies.h"
#include "membership/weights/weights.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    IDLE_POLL_MS = 100,
    EVENTS_PER_ROUND = 64,
    FAILED_PAUSE_NS = 5000000,
    ENDS_PERIOD_US = 4000, /* the first time from one look for ends to the next, and the longest */
    LONGEST_ENDS_PERIOD_US = 32000,
    FEW_MEMBERS = 8, /* with more, the first such time is as much longer */
    BUSY_PERIOD_US = 20000,
    BACKUPS_LATER_US = 50000, /* longest time that agreement keeps them waiting */
    EXITS_PERIOD_US = 10000,  /* from one poll of all processes to the next, for so many seats: */
    FEW_EXITS = 16,
    LONGEST_EXITS_PERIOD_US = 100000,
    OWN_FDS = 5, /* wake, store, bulk copies, backups, agent */
};

struct eepi_service {
    pthread_t thread;
    bool runs, stop;      /* stop: under the context's lock */
    bool poll_has_failed; /* and that was logged */
    bool has_told;        /* this rank's record says that it is ready */
    bool copies_wait;     /* bulk copies had more to do: their descriptor is not armed */
    bool awaits_ends;     /* when they were last looked for: */
    uint64_t ends_looked_us, ends_period_us;
    uint64_t busy_looked_us, backups_after_us;
    uint64_t exits_polled_us; /* of all processes */
    int *seats;               /* [max_ranks] of the processes in fds */
    struct pollfd fds[];      /* [OWN_FDS + max_ranks + EEPI_PORTS_MAX_DEVICES] */
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* All survivors look at processes that end, and in the time in which they agree on the next view.
 */
static uint64_t first_ends_period_us(const eep_context *context)
{
    const uint64_t groups = ((uint64_t)context->config.max_ranks + FEW_MEMBERS - 1) / FEW_MEMBERS;

    return least(ENDS_PERIOD_US * groups, LONGEST_ENDS_PERIOD_US);
}

/* ------------------------------------------------------------------ mail from other threads */

static void feed_evidence(eep_context *context)
{
    const eepi_sign *signs;
    const int num = eepi_evidence_take(context->evidence, &signs);

    for (int i = 0; i < num; i++) {
        const eepi_suspect *of = &signs[i].suspect;
        const eepi_input input = {.kind = signs[i].kind,
                                  .suspect = *of,
                                  .end = {of->seat, of->generation, EEPI_END_STORES}};
        if (signs[i].kind == EEPI_INPUT_ENDED) { /* so its host's agent says */
            eepi_arrival_end(context, of->seat, of->generation);
            eepi_forget_behind_gates(context, of->seat, of->generation);
        }
        eepi_feed(context, &input);
        if (of->kind == EEP_FAULT_EXIT) { /* it has only begun to end: no look at once */
            context->service->ends_looked_us = eepi_now_us();
            context->service->ends_period_us = first_ends_period_us(context);
            context->service->awaits_ends = true;
        }
    }
}

static void feed_step_mail(eep_context *context, eepi_step_mail *mail)
{
    eepi_input input;

    if (mail->flipped) {
        eepi_log(context, EEP_LOG_DEBUG, "flipped: a step under epoch %llu has ended here",
                 (unsigned long long)mail->flipped_epoch);
        input = (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = mail->flipped_digest};
        eepi_feed(context, &input);
    }
    if (mail->met_newer) { /* N18: a watch may bring nothing for a while */
        eepi_store_read_view(context);
    }
    if (mail->accused) {
        eepi_spare_busy(context, mail->accused_seats);
        input = (eepi_input){
            .kind = EEPI_INPUT_ACCUSED, .seats = mail->accused_seats, .step = mail->accused_step};
        eepi_feed(context, &input);
    }
    if (mail->drained) {
        eepi_feed_blocked(context);
        input = (eepi_input){.kind = EEPI_INPUT_DRAINED, .step = mail->drained_step};
        input.collective = eepi_collectives_last(context, &input.held);
        eepi_feed(context, &input);
    }
}

/* Tell the core that this rank has asked to be let in, whatever happens to the store. The record is
 * on its way before: peers that read a view which follows from it need the record. */
static void feed_own_record(eep_context *context)
{
    const eepi_member own = eepi_store_own_member(context);
    const eepi_input input = {.kind = EEPI_INPUT_MEMBER, .member = &own};

    eepi_feed(context, &input);
}

/* A placement that the engine has given goes to this rank's core, and to the others. */
static void feed_order(eep_context *context)
{
    eepi_input input = {.kind = EEPI_INPUT_ORDER};

    /* two where one was given before eep_join and another one right behind it */
    while ((input.order = eepi_ordered_next(context, context->service->has_told, &input.won))) {
        eepi_feed(context, &input);
    }
    if (eepi_store_may_put(context)) {
        eepi_ordered_put(context, eepi_core_view(context->core), false);
    }
}

static void feed_mail(eep_context *context)
{
    eepi_mailbox mail;
    eepi_step_mail steps;
    eepi_input leave = {.kind = EEPI_INPUT_LEAVE};

    pthread_mutex_lock(&context->lock);
    mail = context->mailbox;
    memset(&context->mailbox, 0, sizeof context->mailbox);
    (void)eepi_stepper_take_mail(&context->stepper, &steps);
    pthread_mutex_unlock(&context->lock);
    if (eepi_proxies_hear(context)) { /* N18 */
        eepi_store_read_view(context);
    }
    if (mail.ready) {
        eepi_store_note_ready(context);
    }
    eepi_store_note_leaving(context, mail.leave);
    feed_evidence(context);
    eepi_feed_words(context);
    if (mail.ready) {
        context->service->has_told = true;
        feed_order(context);
        eepi_store_put_record(context);
        feed_own_record(context);
        eepi_tell_without_view(context);
        eepi_event(context, EEP_EVENT_READY, context->config.rank, context->generation, 0, 0);
    }
    feed_step_mail(context, &steps);
    eepi_fill_steps(context, &steps);
    leave.step = (uint64_t)mail.leave;
    if (mail.leave) {
        eepi_feed(context, &leave);
    }
}

/* ------------------------------------------------------------------ the loop */

static void feed_exits(eep_context *context, const struct pollfd *fds, const int *seats, int n)
{
    for (int i = 0; i < n; i++) {
        eepi_input input = {.kind = EEPI_INPUT_ENDED, .suspect = {seats[i], 0, EEP_FAULT_EXIT}};
        if (fds[i].revents &&
            eepi_peer_exited(context, seats[i], fds[i].fd, &input.suspect.generation)) {
            eepi_arrival_end(context, seats[i], input.suspect.generation);
            eepi_feed(context, &input);
        }
    }
}

/* Look at the processes of whose end the first sign is known. What a second fault waits for may be
 * that they have lost their memory (rule P8). Each look comes twice as late as the one before: all
 * survivors look, and take the processor from those that are to end. */
static void look_for_ends(eep_context *context)
{
    struct eepi_service *service = context->service;
    uint64_t now = eepi_now_us();

    if (now - service->ends_looked_us < service->ends_period_us) {
        return;
    }
    service->ends_looked_us = now;
    service->ends_period_us = least(2 * service->ends_period_us, LONGEST_ENDS_PERIOD_US);
    service->awaits_ends = false;
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        eepi_input end;
        if (!eepi_peer_look_for_end(context, seat, &end)) {
            continue;
        }
        service->awaits_ends = true;
        if (end.kind != EEPI_INPUT_TICK) {
            eepi_feed(context, &end);
        }
    }
    if (!service->awaits_ends) { /* the next one that is awaited is looked at soon */
        service->ends_period_us = first_ends_period_us(context);
    }
}

/* The core waits for the promises of all ranks that stay: for a busy one as long as it is busy. */
static void feed_busy(eep_context *context)
{
    const uint64_t now = eepi_now_us();

    if (now - context->service->busy_looked_us < BUSY_PERIOD_US) {
        return;
    }
    context->service->busy_looked_us = now;
    for (int seat = 0; eepi_core_is_wedged(context->core) && seat < context->config.max_ranks;
         seat++) {
        (void)eepi_post_busy(context, seat);
        eepi_feed_posted(context);
    }
}

static void kill_warned(eep_context *context)
{
    for (int seat = 0; eepi_num_warned(context) > 0 && seat < context->config.max_ranks; seat++) {
        eepi_kill_warned(context, seat);
        eepi_feed_posted(context);
    }
}

static void feed_loads(eep_context *context)
{
    eepi_input input = {.kind = EEPI_INPUT_LOADS};

    if (eepi_gather_go_on(context, eepi_peer_copier, &input.loads)) {
        if (input.loads && eepi_core_plans(context->core)) {
            eepi_store_put_loads(context, input.loads);
        }
        eepi_feed(context, &input);
    }
}

/* ------------------------------------------------------------------ this rank's links */

/* A port that goes down is evidence for people and a cost for planners, and no fault of a rank: its
 * bytes may have other ways (docs/PROTOCOL.md, "Links"). */
static void tell_port(eep_context *context, const eepi_port_change *change)
{
    const eepi_port *port = change->port;
    const bool is_worse =
        !port->is_active || (change->was_active && port->gbit_per_s < change->gbit_per_s_before);
    uint32_t rate;
    int num_ports;
    const int active = eepi_own_links_active(eepi_store_own_links(context), &num_ports, &rate);

    eepi_log(
        context, is_worse ? EEP_LOG_WARN : EEP_LOG_INFO,
        "port %d of %s is %s at %.0f Gbit/s: %d of %d ports of this rank's NICs are active and "
        "carry %u MB/s%s",
        port->port, port->device, port->state, port->gbit_per_s, active, num_ports, rate,
        active ? "" : ": repairs go other ways where there are any");
    eepi_event(context, is_worse ? EEP_EVENT_PORT_DOWN : EEP_EVENT_PORT_UP, context->config.rank,
               context->generation, 0, rate);
}

/* Its record says that it is ready, and it has not left: a record that comes later could fall into
 * another instance. */
static bool is_in_service(eep_context *context)
{
    bool has_ended;

    pthread_mutex_lock(&context->lock);
    has_ended = context->outcome.ended != EEP_OK;
    pthread_mutex_unlock(&context->lock);
    return context->service->has_told && !has_ended;
}

static void look_at_links(eep_context *context)
{
    eepi_own_links *links = eepi_store_own_links(context);
    eepi_port_change change;

    while (eepi_own_links_next_port(links, &change)) {
        tell_port(context, &change);
    }
    if (eepi_own_links_tell(links, eepi_now_us()) && is_in_service(context)) {
        eepi_store_put_record(context);
        feed_own_record(context);
    }
}

static void run_retries(eep_context *context)
{
    for (eepi_retry_kind kind = 0; kind < EEPI_NUM_RETRIES; kind++) {
        eepi_retry_run_due(context, &context->retries, kind, eepi_now_us());
        eepi_feed_posted(context);
    }
}

/* They are the rank thread's until it has joined. */
static bool has_backups(const eep_context *context)
{
    return eepi_weights_node(context) && __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);
}

/* While the members agree on the next view, what the node has newly put there has time: nobody
 * reads it before that view. */
static bool leaves_backups(eep_context *context)
{
    struct eepi_service *service = context->service;
    const eepi_view *view = eepi_core_view(context->core);

    if (!eepi_core_is_wedged(context->core) || view->phase == EEPI_VIEW_REPAIRING) {
        service->backups_after_us = 0;
        return false;
    }
    if (service->backups_after_us == 0) {
        service->backups_after_us = eepi_now_us() + BACKUPS_LATER_US;
    }
    return eepi_now_us() < service->backups_after_us;
}

static void look_at_backups(eep_context *context)
{
    if (leaves_backups(context)) {
        return;
    }
    for (int i = 0; i < EVENTS_PER_ROUND && has_backups(context); i++) {
        if (!eepi_backups_progress(eepi_weights_node(context))) {
            break;
        }
    }
    if (has_backups(context) && eepi_core_view(context->core) &&
        eepi_backups_take_news(eepi_weights_node(context)) &&
        eepi_weights_claim_backups(context, eepi_core_view(context->core))) {
        eepi_store_put_record(context);
        feed_own_record(context);
    }
}

static uint64_t exits_period_us(const eep_context *context)
{
    return least((uint64_t)EXITS_PERIOD_US * (uint64_t)context->config.max_ranks / FEW_EXITS,
                 LONGEST_EXITS_PERIOD_US);
}

/* There is one descriptor for each rank, and to poll many costs more than most rounds. They have
 * time: bells and hearts tell more, and sooner. */
static bool leaves_exits(const eep_context *context)
{
    return context->config.max_ranks > FEW_EXITS &&
           eepi_now_us() - context->service->exits_polled_us < exits_period_us(context);
}

static int poll_timeout_ms(eep_context *context)
{
    uint64_t wake = eepi_core_wake_us(context->core), now = eepi_core_now_us(context);
    uint64_t longest_us = IDLE_POLL_MS * 1000u, real_us = eepi_now_us();
    uint64_t resume_us = least(eepi_fill_wake_us(context), eepi_retries_wake_us(&context->retries));

    if (context->service->copies_wait) {
        return 0;
    }
    if (resume_us < real_us + longest_us) {
        longest_us = resume_us > real_us ? resume_us - real_us : 0;
    }
    longest_us = least(longest_us, eepi_warned_poll_us(context));
    resume_us = eepi_rank_agent_wake_us(context);
    longest_us = resume_us > real_us ? least(longest_us, resume_us - real_us) : 0;
    if (has_backups(context)) {
        resume_us = eepi_backups_wake_us(eepi_weights_node(context));
        if (leaves_backups(context) && resume_us < context->service->backups_after_us) {
            resume_us = context->service->backups_after_us;
        }
        longest_us = least(longest_us, resume_us > real_us ? resume_us - real_us : 0);
    }
    if (eepi_core_is_wedged(context->core)) {
        longest_us =
            least(longest_us, context->service->awaits_ends ? context->service->ends_period_us
                                                            : EEPI_PROBE_PERIOD_US);
    }
    if (leaves_exits(context)) {
        const uint64_t polled_us = context->service->exits_polled_us + exits_period_us(context);
        longest_us = least(longest_us, polled_us > real_us ? polled_us - real_us : 0);
    }
    if (!eepi_store_answers(context, real_us)) {
        longest_us = least(longest_us, EEPI_PROBE_PERIOD_US);
    }
    if (!eepi_store_answers(context, real_us) || wake > now + longest_us) {
        return (int)((longest_us + 999u) / 1000u);
    }
    return wake <= now ? 0 : (int)((wake - now + 999u) / 1000u);
}

/* A poll that fails would be repeated at once, for ever. It fails where the program has lowered its
 * limit of descriptors below the number that it has open. Then each descriptor is polled by itself.
 */
static void wait_for_input(eep_context *context, struct pollfd *fds, int n)
{
    const struct timespec pause = {.tv_nsec = FAILED_PAUSE_NS};
    char why[EEPI_ERROR_BYTES / 2];

    if (poll(fds, (nfds_t)n, poll_timeout_ms(context)) >= 0 || errno == EINTR) {
        return;
    }
    if (!context->service->poll_has_failed) {
        eepi_log(context, EEP_LOG_ERROR,
                 "poll of %d descriptors: %s: is RLIMIT_NOFILE below that? From now on each is "
                 "asked by itself, every %d ms",
                 n, eepi_descriptors_error(errno, why, sizeof why), FAILED_PAUSE_NS / 1000000);
    }
    context->service->poll_has_failed = true;
    nanosleep(&pause, NULL);
    for (int i = 0; i < n; i++) {
        (void)poll(&fds[i], 1, 0);
    }
}

static int watch_ports(eep_context *context, struct pollfd *fds)
{
    int ports[EEPI_PORTS_MAX_DEVICES];
    const int num = eepi_own_links_fds(eepi_store_own_links(context), ports);

    for (int i = 0; i < num; i++) {
        fds[i] = (struct pollfd){.fd = ports[i], .events = POLLIN};
    }
    return num;
}

/* By the rank thread. */
static uint64_t step_begun(eep_context *context)
{
    uint64_t step;

    pthread_mutex_lock(&context->lock);
    step = context->stepper.step;
    pthread_mutex_unlock(&context->lock);
    return step;
}

static void serve_round(eep_context *context)
{
    struct pollfd *fds = context->service->fds;
    eepi_input tick = {.kind = EEPI_INPUT_TICK};
    eepi_store_reply reply;
    int n = 0;

    fds[0] = (struct pollfd){.fd = context->wake.service_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = eepi_store_client_fd(context->store), .events = POLLIN};
    if (eepi_store_client_wants_write(context->store)) {
        fds[1].events |= POLLOUT;
    }
    fds[2] = (struct pollfd){.fd = eepi_bulk_fd(context->bulk), .events = POLLIN};
    fds[3] = (struct pollfd){.fd = -1};
    fds[4] = (struct pollfd){.fd = eepi_rank_agent_fd(context), .events = POLLIN};
    if (has_backups(context) && !leaves_backups(context)) {
        fds[3] =
            (struct pollfd){.fd = eepi_backups_fd(eepi_weights_node(context)), .events = POLLIN};
    }
    if (leaves_exits(context)) {
        wait_for_input(context, fds, OWN_FDS);
    } else {
        n = eepi_peers_watched(context, fds + OWN_FDS, context->service->seats);
        wait_for_input(context, fds, n + OWN_FDS + watch_ports(context, fds + OWN_FDS + n));
        context->service->exits_polled_us = eepi_now_us();
    }
    if (fds[0].revents) {
        eepi_service_woke(context);
    }
    feed_exits(context, fds + OWN_FDS, context->service->seats, n);
    feed_mail(context);
    while (eepi_store_client_next(context->store, &reply) == EEP_OK) {
        eepi_store_reply_handle(context, &reply);
    }
    context->service->copies_wait = true;
    for (int i = 0; i < EVENTS_PER_ROUND && context->service->copies_wait; i++) {
        context->service->copies_wait = eepi_bulk_progress(context->bulk) != 0;
        eepi_feed_posted(context);
    }
    look_at_backups(context);
    if (eepi_rank_agent_progress(context)) {
        eepi_peers_watch_remote(context);
        eepi_kill_behind_gates(context);
    }
    look_for_ends(context);
    feed_busy(context);
    eepi_tell_wait(context);
    kill_warned(context);
    look_at_links(context);
    eepi_look_at_arrivals(context);
    feed_loads(context);
    feed_order(context);
    eepi_store_put_own_end(context);
    run_retries(context);
    eepi_fill_go_on(context);
    tick.step = step_begun(context);
    eepi_feed(context, &tick);
    eepi_store_probe(context);
}

static void *run(void *argument)
{
    eep_context *context = argument;
    bool stop = false;
    int before;

    if (eepi_device_thread_begin(context->config.device, &before) != EEP_OK) {
        eepi_log(context, EEP_LOG_WARN,
                 "the service thread cannot leave captures of other threads alone: %s",
                 eepi_device_failure(context->config.device));
    }
    if (context->topology) {
        (void)!eepi_topology_bind(context->topology, EEPI_THREAD_SERVICE, context->config.rank,
                                  context->config.num_ranks);
    }
    while (!stop) {
        serve_round(context);
        pthread_mutex_lock(&context->lock);
        stop = context->service->stop;
        pthread_mutex_unlock(&context->lock);
    }
    return NULL;
}

eep_status eepi_service_start(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;
    struct eepi_service *service = calloc(
        1, sizeof *service + (seats + OWN_FDS + EEPI_PORTS_MAX_DEVICES) * sizeof(struct pollfd));

    context->service = service;
    if (!service) {
        return EEP_ERR_NO_MEMORY;
    }
    service->ends_period_us = first_ends_period_us(context);
    service->seats = calloc(seats, sizeof *service->seats);
    if (!service->seats || eepi_store_session_start(context) != EEP_OK) {
        return EEP_ERR_NO_MEMORY;
    }
    if (eepi_thread_start(&service->thread, "eep-service", EEPI_STACK_BYTES, run, context) !=
        EEP_OK) {
        return EEP_ERR_SYSTEM;
    }
    service->runs = true;
    return EEP_OK;
}

void eepi_service_stop(eep_context *context)
{
    struct eepi_service *service = context->service;

    if (service && service->runs) {
        pthread_mutex_lock(&context->lock);
        service->stop = true;
        pthread_mutex_unlock(&context->lock);
        eepi_service_wake(context);
        pthread_join(service->thread, NULL);
    }
    if (service) {
        free(service->seats);
    }
    free(service);
}
