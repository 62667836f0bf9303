/* The service thread of a context: it turns what arrives (store, processes, transfers, the other
 * threads' mail, time) into inputs of the core and carries out the actions. It is the only thread
 * that touches the core. */
#include "graphs/device/device_ops.h"
#include "graphs/base/thread.h"
#include "membership/context/context.h"
#include "membership/context/wake.h"
#include "membership/process/process.h"
#include "graphs/base/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    IDLE_POLL_MS = 100,
    EVENTS_PER_ROUND = 64,
    CLOCK_STRIDE_US = 100000, /* most that the core's time goes on at once */
    PROBE_PERIOD_US = 20000,
    FAILED_PAUSE_NS = 5000000,
    PROBE_GRACE_US = 100000, /* a store that does not answer for so long is away */
};

static int store_answers(const eep_context *context, uint64_t now_us)
{
    return !context->store_lost &&
           (context->probe_id == 0 || now_us - context->probe_us < PROBE_GRACE_US);
}

/* The core's time. What it waits for comes through the store, so time in which the store is away
 * does not count: else each rank would take all others for silent and kill them. Nor does time in
 * which we were not scheduled: what came meanwhile is not read yet. */
static uint64_t core_now_us(eep_context *context)
{
    uint64_t now = eepi_now_us(), gap = now - context->clock_seen_us;

    context->clock_seen_us = now;
    if (store_answers(context, now)) {
        context->clock_us += gap < CLOCK_STRIDE_US ? gap : CLOCK_STRIDE_US;
    }
    return context->clock_us;
}

/* While others are waited for, make sure that the store is there to tell of them. */
static void probe_store(eep_context *context)
{
    uint64_t now = eepi_now_us();

    if (!eepi_core_is_wedged(context->core) || context->probe_id != 0 ||
        now - context->probe_us < PROBE_PERIOD_US) {
        return;
    }
    context->probe_id = eepi_store_get(context->store, EEPI_KEY_PROBE);
    context->probe_us = now;
}

static void handle(eep_context *context, eepi_input input)
{
    const eepi_action *actions;
    int n;

    input.now_us = core_now_us(context);
    actions = eepi_core_handle(context->core, &input, &n);
    eepi_tell_known(context);
    for (int i = 0; i < n; i++) {
        eepi_perform(context, &actions[i]);
    }
    eepi_tell_view(context);
    eepi_tell_drain(context);
}

/* Handle what was posted, and what is posted meanwhile. */
static void drain_inbox(eep_context *context)
{
    eepi_input input;

    while (eepi_inbox_take(context->inbox, &input)) {
        handle(context, input);
    }
}

/* Handle an input, which may point to the caller's memory, behind those that were posted. */
static void feed(eep_context *context, const eepi_input *input)
{
    drain_inbox(context);
    handle(context, *input);
    drain_inbox(context);
}

/* ------------------------------------------------------------------ store */

/* A document from the store, aligned and checked; NULL: none of this instance. The caller frees it.
 */
static eepi_view *copy_document(const eep_context *context, const eepi_store_reply *reply,
                                const char **why_out)
{
    eepi_view *copy = reply->size ? malloc(reply->size) : NULL;

    *why_out = "out of memory";
    if (!copy) {
        return NULL;
    }
    memcpy(copy, reply->value, reply->size);
    *why_out = "it has another shape";
    if (eepi_view_check(copy, reply->size, why_out) == EEP_OK &&
        memcmp(&copy->shape, &context->view_shape, sizeof context->view_shape) == 0) {
        return copy;
    }
    free(copy);
    return NULL;
}

static void take_view(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_VIEW, .revision = reply->revision};
    const char *why;
    eepi_view *view;

    if (reply->size == 0) {
        input.kind = EEPI_INPUT_VIEW_MISSING;
        feed(context, &input);
        return;
    }
    view = copy_document(context, reply, &why);
    input.view = view;
    if (view) {
        feed(context, &input);
    } else {
        eepi_log(context, EEP_LOG_ERROR, "the register holds no view of this instance: %s", why);
    }
    free(view);
}

static void take_plan(eep_context *context, const eepi_store_reply *reply)
{
    const char *why;
    eepi_view *plan = copy_document(context, reply, &why);
    eepi_input input = {.kind = EEPI_INPUT_PLAN, .view = plan};

    if (plan) {
        feed(context, &input);
    }
    free(plan);
}

static int has_prefix(const char *key, const char *prefix)
{
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

static void take_small(eep_context *context, const eepi_store_reply *reply)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_ack) + sizeof(eepi_end)];
    int32_t seats = context->config.max_ranks;
    eepi_input input = {.kind = EEPI_INPUT_ACK};
    eepi_ack ack;

    if (reply->size > sizeof bytes) {
        return;
    }
    memcpy(bytes, reply->value, reply->size);
    if (has_prefix(reply->key, EEPI_KEY_ACK)) {
        if (eepi_ack_decode(bytes, reply->size, seats, &ack) != EEP_OK) {
            return;
        }
        eepi_tell_ack(context, &ack);
        input.ack = &ack;
    } else {
        input.kind = EEPI_INPUT_EXIT;
        if (eepi_end_decode(bytes, reply->size, seats, &input.end) != EEP_OK) {
            return;
        }
        eepi_arrival_end(context, input.end.seat, input.end.generation);
    }
    feed(context, &input);
}

static void take_report(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_REPORT};
    eepi_report report;
    void *copy = malloc(reply->size ? reply->size : 1);

    if (!copy) {
        return;
    }
    memcpy(copy, reply->value, reply->size);
    input.report = &report;
    if (eepi_report_decode(copy, reply->size, context->config.max_ranks, &report) == EEP_OK) {
        eepi_tell_report(context, &report);
        feed(context, &input);
    }
    free(copy);
}

static void take_refusal(eep_context *context, const eepi_store_reply *reply)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_refusal)];
    eepi_refusal refusal;

    if (reply->size > sizeof bytes) {
        return;
    }
    memcpy(bytes, reply->value, reply->size);
    if (eepi_refusal_decode(bytes, reply->size, context->config.max_ranks, &refusal) != EEP_OK) {
        return;
    }
    eepi_arrival_refused(context, &refusal);
    eepi_arrivals_look(context); /* now: the end of the refused one may come with the next reply */
    if (refusal.seat == context->config.rank && refusal.generation == context->generation) {
        eepi_refused(context, refusal.why);
    }
}

static void take_record(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_member *member = eepi_peer_take_record(context, reply->value, reply->size);
    const eepi_input input = {.kind = EEPI_INPUT_MEMBER, .member = member};

    if (member) {
        feed(context, &input);
    }
}

static bool has_no_view(const eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    return !view || eepi_view_num_active(view) == 0;
}

/* Another instance's numbers, while no view of ours is there: it looked for holders of seats before
 * this rank took its own, and began. */
static void take_instance(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_instance own = eepi_instance_of(&context->config);
    char difference[EEPI_INSTANCE_TEXT_BYTES];

    if (!has_no_view(context)) {
        return; /* its members put their own numbers back */
    }
    if (eepi_instance_differs(&own, reply->value, reply->size, difference)) {
        eepi_replaced(context, difference);
    }
}

/* A key's present value, from the watch. */
static void take_entry(eep_context *context, const eepi_store_reply *reply)
{
    if (strcmp(reply->key, EEPI_KEY_VIEW) == 0) {
        take_view(context, reply);
    } else if (reply->size == 0) {
        return;
    } else if (strcmp(reply->key, EEPI_KEY_INSTANCE) == 0) {
        take_instance(context, reply);
    } else if (strcmp(reply->key, EEPI_KEY_PLAN) == 0) {
        take_plan(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_MEMBER)) {
        take_record(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_REPORT)) {
        take_report(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_REFUSED)) {
        take_refusal(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_ACK) || has_prefix(reply->key, EEPI_KEY_EXIT)) {
        take_small(context, reply);
    }
}

/* The store may have lost its memory with its process. The register first: where it is empty or old
 * the core writes our document back, and only behind that, in the same connection's order, do our
 * record and the rest come. So nobody who reads the store sees all ranks ready and no view, and
 * forms a second first view (S2). */
static void come_back(eep_context *context)
{
    if (context->store_lost) {
        eepi_log(context, EEP_LOG_INFO, "the store is back");
        eepi_event(context, EEP_EVENT_STORE_BACK, -1, 0, 0, 0);
    }
    context->store_lost = 0;
    context->back = 1;
    context->read_id = eepi_store_get(context->store, EEPI_KEY_VIEW);
}

/* Once the register has our document or a newer one; before, others might take what we say for the
 * word of somebody who knows no newer one than theirs. */
static void say_behind_register(eep_context *context)
{
    eepi_instance own = eepi_instance_of(&context->config);

    if (!context->back || context->cas_id != 0) {
        return;
    }
    context->back = 0;
    if (has_no_view(context)) { /* whoever is first; two that put theirs back would both give up */
        (void)eepi_store_cas(context->store, EEPI_KEY_INSTANCE, 0, &own, sizeof own);
    } else {
        (void)eepi_store_put(context->store, EEPI_KEY_INSTANCE, &own, sizeof own, 0);
    }
    eepi_peer_publish(context);
    eepi_say_again(context);
}

static void take_cas(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_CAS_DONE, .revision = reply->revision};

    context->cas_id = 0;
    if (reply->status == EEP_OK || reply->status == EEP_ERR_CONFLICT) {
        eepi_tell_proposed(context, reply->status == EEP_OK);
    }
    if (reply->status == EEP_ERR_CONFLICT) {
        take_view(context, reply);
        say_behind_register(context);
        return;
    }
    if (reply->status == EEP_OK) {
        input.won = 1;
    } else {
        input.kind = EEPI_INPUT_CAS_UNKNOWN;
    }
    if (input.won && !context->back) {
        eepi_say_again(context); /* about the document that is in now, if we said anything before */
    }
    if (input.won) {
        eepi_event(context, EEP_EVENT_PROPOSED, -1, 0, context->cas_epoch, context->cas_phase);
    }
    feed(context, &input);
    if (input.won) {
        say_behind_register(context);
    }
}

static void take_read(eep_context *context, const eepi_store_reply *reply)
{
    context->read_id = 0;
    if (reply->status != EEP_OK && reply->status != EEP_ERR_NOT_FOUND) {
        return; /* the connection broke again: the next one reads again */
    }
    take_view(context, reply);
    say_behind_register(context);
}

static void take_reply(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_input lost = {.kind = EEPI_INPUT_STORE_LOST};

    switch (reply->kind) {
    case EEPI_STORE_ENTRY:
    case EEPI_STORE_CHANGED:
        take_entry(context, reply);
        break;
    case EEPI_STORE_REPLY:
        if (reply->id == context->probe_id) {
            context->probe_id = 0;
        } else if (reply->id == context->cas_id) {
            take_cas(context, reply);
        } else if (reply->id == context->read_id) {
            take_read(context, reply);
        }
        break;
    case EEPI_STORE_DISCONNECTED:
        if (!context->store_lost) {
            eepi_log(context, EEP_LOG_INFO,
                     "the store does not answer: serving goes on, and no view changes until it is "
                     "back");
            eepi_event(context, EEP_EVENT_STORE_LOST, -1, 0, 0, 0);
        }
        context->store_lost = 1;
        for (int seat = 0; seat < context->config.max_ranks; seat++) {
            context->peers[seat].is_heard = 0;
        }
        feed(context, &lost);
        break;
    case EEPI_STORE_RECONNECTED:
        come_back(context);
        break;
    }
}

/* ------------------------------------------------------------------ mail from other threads */

static void take_evidence_mail(eep_context *context, const eepi_suspect *suspect)
{
    eepi_input input = {.kind = EEPI_INPUT_EVIDENCE, .suspect = *suspect};

    if (suspect->kind < 0) {
        input.kind = EEPI_INPUT_ALIVE;
    }
    feed(context, &input);
}

static void take_all_evidence(eep_context *context)
{
    eepi_suspect suspects[EEPI_MAILBOX_EVIDENCE];
    int num;

    pthread_mutex_lock(&context->evidence.lock);
    num = context->evidence.num;
    memcpy(suspects, context->evidence.suspects, (size_t)num * sizeof *suspects);
    context->evidence.num = 0;
    pthread_mutex_unlock(&context->evidence.lock);
    for (int i = 0; i < num; i++) {
        take_evidence_mail(context, &suspects[i]);
    }
}

static void take_step_mail(eep_context *context, eepi_step_mail *mail)
{
    eepi_input input;

    if (mail->flipped) {
        eepi_log(context, EEP_LOG_DEBUG, "flipped: a step under epoch %llu has ended here",
                 (unsigned long long)mail->flipped_epoch);
        input = (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = mail->flipped_digest};
        feed(context, &input);
    }
    if (mail->accused) {
        eepi_spare_busy(context, mail->accused_seats);
        input = (eepi_input){
            .kind = EEPI_INPUT_ACCUSED, .seats = mail->accused_seats, .step = mail->accused_step};
        feed(context, &input);
    }
    if (mail->drained) {
        input = (eepi_input){.kind = EEPI_INPUT_DRAINED, .step = mail->drained_step};
        feed(context, &input);
    }
}

/* The core knows that this rank has asked to be let in, whatever becomes of the store; after the
 * record is on its way, since a view that follows from it is read by peers who need the record. */
static void give_own_record(eep_context *context)
{
    const eepi_member own = {context->config.rank,         context->generation,  1,
                             (uint8_t)context->leave_told, context->experts,     context->checksums,
                             context->backup_bits,         context->tensor_bytes};
    const eepi_input input = {.kind = EEPI_INPUT_MEMBER, .member = &own};

    feed(context, &input);
}

static void take_mail(eep_context *context)
{
    eepi_mailbox mail;
    eepi_step_mail steps;
    eepi_input leave = {.kind = EEPI_INPUT_LEAVE};

    pthread_mutex_lock(&context->lock);
    mail = context->mailbox;
    memset(&context->mailbox, 0, sizeof context->mailbox);
    (void)eepi_stepper_take_mail(&context->stepper, &steps);
    pthread_mutex_unlock(&context->lock);
    context->ready_told |= mail.ready;
    context->leave_told |= mail.leave;
    take_all_evidence(context);
    if (mail.ready) {
        eepi_peer_publish(context);
        give_own_record(context);
        eepi_tell_without_view(context);
        eepi_event(context, EEP_EVENT_READY, context->config.rank, context->generation, 0, 0);
    }
    take_step_mail(context, &steps);
    leave.step = (uint64_t)mail.leave;
    if (mail.leave) {
        feed(context, &leave);
    }
}

/* ------------------------------------------------------------------ the loop */

static int watched_processes(eep_context *context, struct pollfd *fds, int *seats)
{
    int n = 0;

    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        if (context->peers[seat].pidfd < 0) {
            continue;
        }
        fds[n] = (struct pollfd){.fd = context->peers[seat].pidfd, .events = POLLIN};
        seats[n++] = seat;
    }
    return n;
}

static void take_exits(eep_context *context, const struct pollfd *fds, const int *seats, int n)
{
    for (int i = 0; i < n; i++) {
        eepi_peer *peer = &context->peers[seats[i]];
        eepi_input input = {.kind = EEPI_INPUT_ENDED,
                            .suspect = {seats[i], peer->pidfd_generation, EEP_FAULT_EXIT}};
        if (!fds[i].revents || peer->pidfd != fds[i].fd) {
            continue;
        }
        close(peer->pidfd);
        peer->pidfd = -1;
        eepi_arrival_end(context, seats[i], peer->pidfd_generation);
        feed(context, &input);
    }
}

/* A process that no descriptor could be had for is looked at, once the first sign of its end is
 * known: its whole end frees what its device may store into (rule P8). */
static void look_for_ends(eep_context *context)
{
    uint64_t now = eepi_now_us();

    if (now - context->ends_looked_us < PROBE_PERIOD_US) {
        return;
    }
    context->ends_looked_us = now;
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        const eepi_peer *peer = &context->peers[seat];
        uint32_t generation = peer->record_bytes ? peer->record.member.generation : 0;
        const eepi_input gone = {.kind = EEPI_INPUT_ENDED,
                                 .suspect = {seat, generation, EEP_FAULT_EXIT}};
        if (peer->pidfd < 0 && eepi_core_awaits_end(context->core, seat, generation) &&
            eepi_process_look(peer->record.pid, peer->record.pid_start) == EEPI_PROCESS_GONE) {
            feed(context, &gone);
        }
    }
}

/* The core waits for the promises of all who stay: for those of a busy one as long as it is. */
static void feed_busy(eep_context *context)
{
    for (int seat = 0; eepi_core_is_wedged(context->core) && seat < context->config.max_ranks;
         seat++) {
        (void)eepi_post_busy(context, seat);
        drain_inbox(context);
    }
}

static void kill_warned(eep_context *context)
{
    for (int seat = 0; context->num_warned > 0 && seat < context->config.max_ranks; seat++) {
        eepi_kill_warned(context, seat);
        drain_inbox(context);
    }
}

static int poll_timeout_ms(eep_context *context)
{
    const eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);
    uint64_t wake = eepi_core_wake_us(context->core), now = core_now_us(context);
    uint64_t longest_us = IDLE_POLL_MS * 1000u, real_us = eepi_now_us();
    uint64_t resume_us = executor ? eepi_executor_wake_us(executor) : UINT64_MAX;

    if (context->begin_again_us && context->begin_again_us < resume_us) {
        resume_us = context->begin_again_us;
    }
    if (context->stage_again_us > real_us && context->stage_again_us < resume_us) {
        resume_us = context->stage_again_us; /* one that is past waits for something else */
    }
    if (resume_us < real_us + longest_us) {
        longest_us = resume_us > real_us ? resume_us - real_us : 0;
    }

    if (eepi_warned_poll_us(context) < longest_us) {
        longest_us = eepi_warned_poll_us(context);
    }
    if ((eepi_core_is_wedged(context->core) || !store_answers(context, real_us)) &&
        longest_us > PROBE_PERIOD_US) {
        longest_us = PROBE_PERIOD_US;
    }
    if (!store_answers(context, real_us) || wake > now + longest_us) {
        return (int)((longest_us + 999u) / 1000u);
    }
    return wake <= now ? 0 : (int)((wake - now + 999u) / 1000u);
}

/* A poll that fails would be asked again at once, for ever. It fails where the program has lowered
 * its limit of descriptors below what it has open: then each is looked at by itself. */
static void wait_for_input(eep_context *context, struct pollfd *fds, int n)
{
    const struct timespec pause = {.tv_nsec = FAILED_PAUSE_NS};
    char why[EEPI_ERROR_BYTES / 2];

    if (poll(fds, (nfds_t)n, poll_timeout_ms(context)) >= 0 || errno == EINTR) {
        return;
    }
    if (!context->poll_has_failed) {
        eepi_log(context, EEP_LOG_ERROR,
                 "poll of %d descriptors: %s: is RLIMIT_NOFILE below that? From now on each is "
                 "asked by itself, every %d ms",
                 n, eepi_descriptors_error(errno, why, sizeof why), FAILED_PAUSE_NS / 1000000);
    }
    context->poll_has_failed = true;
    nanosleep(&pause, NULL);
    for (int i = 0; i < n; i++) {
        (void)poll(&fds[i], 1, 0);
    }
}

static void serve_round(eep_context *context)
{
    struct pollfd *fds = context->poll_fds;
    eepi_input tick = {.kind = EEPI_INPUT_TICK};
    eepi_store_reply reply;
    uint64_t count;
    ssize_t got;
    int n;

    fds[0] = (struct pollfd){.fd = context->wake_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = eepi_store_client_fd(context->store), .events = POLLIN};
    if (eepi_store_client_wants_write(context->store)) {
        fds[1].events |= POLLOUT;
    }
    fds[2] = (struct pollfd){.fd = eepi_bulk_fd(context->bulk), .events = POLLIN};
    n = watched_processes(context, fds + 3, context->poll_seats);
    wait_for_input(context, fds, n + 3);
    if (fds[0].revents) {
        got = read(context->wake_fd, &count, sizeof count);
        (void)got;
    }
    take_exits(context, fds + 3, context->poll_seats, n);
    take_mail(context);
    while (eepi_store_client_next(context->store, &reply) == EEP_OK) {
        take_reply(context, &reply);
    }
    for (int i = 0; i < EVENTS_PER_ROUND && eepi_bulk_progress(context->bulk); i++) {
        drain_inbox(context);
    }
    look_for_ends(context);
    feed_busy(context);
    eepi_tell_wait(context);
    kill_warned(context);
    eepi_arrivals_look(context);
    eepi_say_own_end(context);
    eepi_begin_again(context);
    drain_inbox(context);
    eepi_install_again(context);
    eepi_stage_held(context);
    drain_inbox(context);
    eepi_fill_again(context);
    drain_inbox(context);
    eepi_fill_go_on(context);
    feed(context, &tick);
    probe_store(context);
}

static void *run(void *argument)
{
    eep_context *context = argument;
    int stop = 0;

    if (eepi_device_thread_begin(context->config.device) != EEP_OK) {
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
        stop = context->stop;
        pthread_mutex_unlock(&context->lock);
    }
    return NULL;
}

eep_status eepi_service_start(eep_context *context)
{
    size_t seats = (size_t)context->config.max_ranks;

    context->clock_us = context->clock_seen_us = eepi_now_us();
    context->poll_fds = calloc(seats + 3, sizeof *context->poll_fds);
    context->poll_seats = calloc(seats, sizeof *context->poll_seats);
    if (!context->poll_fds || !context->poll_seats || eepi_store_watch(context->store, "") == 0) {
        return EEP_ERR_NO_MEMORY;
    }
    context->read_id = eepi_store_get(context->store, EEPI_KEY_VIEW); /* there may be none */
    if (eepi_thread_start(&context->service, "eep-service", EEPI_STACK_BYTES, run, context) !=
        EEP_OK) {
        return EEP_ERR_SYSTEM;
    }
    context->service_runs = 1;
    return EEP_OK;
}

void eepi_service_stop(eep_context *context)
{
    if (!context->service_runs) {
        return;
    }
    pthread_mutex_lock(&context->lock);
    context->stop = 1;
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
    pthread_join(context->service, NULL);
    context->service_runs = 0;
}
