/* SPDX-License-Identifier: Apache-2.0 */
/* The last look before a kill: a victim that was warned and speaks since is not killed. One context
 * made by hand, its core, and a child process as the victim. */
#include "membership/context/context.h"
#include "membership/process/process.h"
#include "membership/service/fence.h"
#include "membership/service/peer.h"
#include "tests/lib/window_fixture.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(fence, .timeout = 30);

enum { RANKS = 3, VICTIM = 1, GENERATION = 1, BYTES = 3 * 4096 + 128, HOST_BYTES = 4096 - 128 };

static eep_context *context;
static eepk_window_header *header; /* of the victim */
static pid_t victim;
static eep_device *device;

static int give_core(eepi_input input, eepi_action_kind wanted)
{
    const eepi_action *actions;
    int n, num = 0;
    input.now_us = 1000;
    actions = eepi_core_handle(context->core, &input, &n);
    for (int i = 0; i < n; i++) {
        num += actions[i].kind == wanted;
    }
    return num;
}

static eepi_suspect suspected_of(eep_fault_kind kind)
{
    return (eepi_suspect){VICTIM, GENERATION, kind};
}

/* Evidence against the victim; 1: its process is to be killed. */
static int suspect(eep_fault_kind kind)
{
    return give_core((eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = suspected_of(kind)},
                     EEPI_ACTION_KILL);
}

/* What the fence told the core meanwhile goes into it. */
static int num_told(eepi_input_kind kind)
{
    int num = 0;
    eepi_input input;
    while (eepi_inbox_take(context->inbox, &input)) {
        num += input.kind == kind;
        (void)give_core(input, EEPI_ACTION_KILL);
    }
    return num;
}

/* Three ranks serve; the core of rank 0 has stopped for a fault and has heard rank 2. */
static void open_core(void)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    const eepi_core_config config = {.generation = GENERATION,
                                     .num_ranks = RANKS,
                                     .drain_bound_us = 1000000,
                                     .kill_fence = 1,
                                     .shape = {RANKS, 1, 2, 2}};
    cr_assert_eq(eepi_core_open(&config, &context->core), EEP_OK);
    (void)give_core((eepi_input){.kind = EEPI_INPUT_VIEW_MISSING}, EEPI_ACTION_CAS);
    for (int seat = 0; seat < RANKS; seat++) {
        const eepi_member record = {seat, GENERATION, 1, 0, experts, sums, &backup};
        (void)give_core((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record},
                        EEPI_ACTION_CAS);
    }
    (void)give_core((eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = 1},
                    EEPI_ACTION_CAS);
    (void)give_core((eepi_input){.kind = EEPI_INPUT_LISTENS}, EEPI_ACTION_CAS);
    cr_assert_eq(eepi_view_num_active(eepi_core_view(context->core)), RANKS);
}

static void stop_core(eep_fault_kind kind)
{
    const eepi_report report = {2, GENERATION, eepi_core_view(context->core)->epoch, 7, 0, NULL};
    (void)suspect(kind);
    (void)give_core((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7}, EEPI_ACTION_KILL);
    (void)give_core((eepi_input){.kind = EEPI_INPUT_REPORTED, .step = report.epoch},
                    EEPI_ACTION_KILL);
    (void)give_core((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report}, EEPI_ACTION_KILL);
    cr_assert_eq(give_core((eepi_input){.kind = EEPI_INPUT_LISTENS}, EEPI_ACTION_KILL), 1,
                 "the victim is to be killed (N13: the reports were read again)");
}

static void open_context(void)
{
    static eep_context one;
    static eepi_peer peers[RANKS];
    static const eepi_window_spec spec = {VICTIM, GENERATION, BYTES, HOST_BYTES};
    char why[256] = "";
    victim = fork();
    cr_assert_geq(victim, 0);
    if (victim == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    while (victim == 0) {
        pause();
    }
    context = &one;
    one.config = (eep_config){
        .struct_bytes = sizeof one.config, .max_ranks = RANKS, .heartbeat_period_us = 1000000};
    one.generation = GENERATION;
    one.peers = peers;
    cr_assert_eq(eepi_fence_open(&one), EEP_OK);
    one.inbox = eepi_inbox_open(RANKS);
    cr_assert_not_null(one.inbox);
    cr_assert_eq(eep_device_open("host", 0, &device), EEP_OK);
    cr_assert_eq(window_make(device, &spec, why, sizeof why, &peers[VICTIM].window), EEP_OK, "%s",
                 why);
    header = eepi_window_header(peers[VICTIM].window);
    peers[VICTIM].window_generation = peers[VICTIM].pidfd_generation = GENERATION;
    peers[VICTIM].pidfd = eepi_process_watch(victim, eepi_process_start(victim));
    cr_assert_geq(peers[VICTIM].pidfd, 0);
    open_core();
}

static void beat(void)
{
    __atomic_store_n(&header->heartbeat_ns, eepi_now_ns(), __ATOMIC_RELEASE);
}

static void hear(void)
{
    __atomic_store_n(&header->warning_heard, header->warning, __ATOMIC_RELEASE);
}

/* 1 if the victim was killed. */
static int is_killed(void)
{
    int status = 0;
    return waitpid(victim, &status, WNOHANG) == victim && WIFSIGNALED(status);
}

static void wait_for_kill(void)
{
    for (int i = 0; i < 20000; i++) {
        if (is_killed()) {
            return;
        }
        usleep(1000);
    }
    cr_assert(0, "the victim lives");
}

static void close_context(void)
{
    kill(victim, SIGKILL);
    eepi_core_close(context->core);
    eepi_inbox_close(context->inbox);
    eepi_fence_close(context);
    eepi_window_close(context->peers[VICTIM].window);
    close(context->peers[VICTIM].pidfd);
    eep_device_close(device);
}

/* As eepi_perform does for the core. */
static void kill_for(eep_fault_kind kind)
{
    const eepi_suspect it = suspected_of(kind);
    eepi_kill_suspect(context, &it);
}

Test(fence, M5_one_that_heard_its_warning_and_is_silent_about_it_is_killed)
{
    open_context();
    stop_core(EEP_FAULT_DEADLINE);
    beat();
    kill_for(EEP_FAULT_DEADLINE);
    cr_expect_eq(eepi_num_warned(context), 1);
    eepi_kill_warned(context, VICTIM);
    cr_expect_eq(eepi_num_warned(context), 1, "it has not heard yet");
    hear();
    eepi_kill_warned(context, VICTIM);
    cr_expect_eq(eepi_num_warned(context), 0);
    wait_for_kill();
    close_context();
}

/* The core asks again while a warned one has not heard yet: it counts once. */
Test(fence, one_that_is_warned_twice_counts_once)
{
    open_context();
    stop_core(EEP_FAULT_DEADLINE);
    beat();
    kill_for(EEP_FAULT_DEADLINE);
    kill_for(EEP_FAULT_DEADLINE);
    cr_expect_eq(eepi_num_warned(context), 1);
    hear();
    eepi_kill_warned(context, VICTIM);
    cr_expect_eq(eepi_warned_poll_us(context), UINT64_MAX, "nobody is left to look for");
    wait_for_kill();
    close_context();
}

/* eep_busy between the warning and the kill. */
Test(fence, M5_one_that_is_warned_and_says_that_it_is_busy_is_spared)
{
    open_context();
    stop_core(EEP_FAULT_DEADLINE);
    beat();
    kill_for(EEP_FAULT_DEADLINE);
    __atomic_store_n(&header->busy_until_ns, eepi_now_ns() + 60000000000u, __ATOMIC_RELEASE);
    hear();
    eepi_kill_warned(context, VICTIM);
    cr_expect_eq(eepi_num_warned(context), 0);
    cr_expect_eq(header->warning, 0, "it is taken back");
    cr_expect_eq(num_told(EEPI_INPUT_BUSY), 1);
    cr_expect(!eepi_core_wants_killed(context->core, VICTIM, GENERATION));
    cr_expect_not(is_killed());
    close_context();
}

/* And before the warning. */
Test(fence, M5_one_that_is_busy_is_not_even_warned)
{
    open_context();
    stop_core(EEP_FAULT_DEADLINE);
    __atomic_store_n(&header->busy_until_ns, eepi_now_ns() + 60000000000u, __ATOMIC_RELEASE);
    kill_for(EEP_FAULT_DEADLINE);
    cr_expect_eq(num_told(EEPI_INPUT_BUSY), 1);
    cr_expect_eq(header->warning, 0);
    cr_expect_not(is_killed());
    close_context();
}

/* A heart that was silent beats again before its process is killed: silence was all there was. When
 * it is silent once more the core asks for a kill once more. */
Test(fence, M5_a_heart_that_beats_again_is_spared_and_its_next_silence_is_not)
{
    open_context();
    stop_core(EEP_FAULT_SILENT);
    beat();
    kill_for(EEP_FAULT_SILENT);
    eepi_kill_warned(context, VICTIM);
    cr_expect_eq(num_told(EEPI_INPUT_ALIVE), 1);
    cr_expect_not(is_killed());
    __atomic_store_n(&header->heartbeat_ns, 1, __ATOMIC_RELEASE);
    cr_assert_eq(suspect(EEP_FAULT_SILENT), 1);
    kill_for(EEP_FAULT_SILENT);
    wait_for_kill();
    close_context();
}

/* The core asks for one kill per process. As many answers find room. */
Test(fence, the_inbox_has_room_for_an_answer_per_seat)
{
    eepi_inbox *inbox = eepi_inbox_open(EEP_MAX_RANKS);
    eepi_input got;

    cr_assert_not_null(inbox);
    for (int round = 0; round < 2; round++) {
        for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
            const eepi_input spoke = {.kind = EEPI_INPUT_ALIVE, .suspect = {seat, GENERATION, 0}};
            eepi_inbox_post(inbox, &spoke);
        }
        for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
            cr_assert(eepi_inbox_take(inbox, &got));
            cr_expect_eq(got.suspect.seat, seat, "in the order in which they were posted");
        }
        cr_expect_not(eepi_inbox_take(inbox, &got));
    }
    eepi_inbox_close(inbox);
}

/* The promise that was missing comes after the warning. */
Test(fence, M2_one_whose_late_report_comes_after_the_warning_is_spared)
{
    const eepi_report late = {VICTIM, GENERATION, 1, 7, 0, NULL};
    open_context();
    stop_core(EEP_FAULT_LEFT_OUT);
    beat();
    kill_for(EEP_FAULT_LEFT_OUT);
    (void)give_core((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &late}, EEPI_ACTION_KILL);
    hear();
    eepi_kill_warned(context, VICTIM);
    cr_expect_eq(eepi_num_warned(context), 0);
    cr_expect_not(is_killed());
    close_context();
}

/* ---------------------------------------------------------------- silence behind its own word */

static uint64_t silent_since_us; /* when the detector told of it; atomic */

static void note_silence(void *user, int32_t seat, uint32_t generation, eep_fault_kind kind)
{
    (void)user, (void)seat, (void)generation;
    if (kind == EEP_FAULT_SILENT) {
        __atomic_store_n(&silent_since_us, eepi_now_us(), __ATOMIC_SEQ_CST);
    }
}

/* A process that was stopped for all of its busy time has as long for its next beat as any other.
 */
Test(fence, M5_silence_counts_from_the_end_of_the_busy_time)
{
    enum { BUSY_US = 150000, EXPEL_US = 100000, PERIOD_US = 5000, SUSPECT_US = 20000 };
    static eepk_window_header own, peer;
    const eepi_detector_config config = {
        .period_us = PERIOD_US, .suspect_us = SUSPECT_US, .max_ranks = 1, .suspect = note_silence};
    const struct timespec nap = {0, 1000000};
    eepi_detector *detector;
    uint64_t busy_until_us, until_us;

    cr_assert_eq(eepi_detector_open(&config, &own, &detector), EEP_OK);
    eepi_detector_set_expel_us(detector, EXPEL_US);
    busy_until_us = eepi_now_us() + BUSY_US;
    until_us = busy_until_us + 10000000;
    peer.busy_until_ns = busy_until_us * 1000u;
    eepi_detector_watch(detector, 0, 1, getpid(), eepi_process_start(getpid()), &peer);
    while (!__atomic_load_n(&silent_since_us, __ATOMIC_SEQ_CST) && eepi_now_us() < until_us) {
        nanosleep(&nap, NULL);
    }
    eepi_detector_close(detector, false);
    cr_assert_neq(silent_since_us, 0, "never told");
    cr_expect_geq(silent_since_us, busy_until_us + EXPEL_US / 2);
}

/* A rank of another host says so by its agent, whose board this rank reads (rule N11). */
Test(fence, M5_one_on_another_host_that_is_busy_is_spared)
{
    enum { FAR = 2, HOST = 77, PERIOD_US = 5000, BUSY_US = 5000000 };
    static eepk_window_header own;
    static eepi_board board;
    const eepi_detector_config config = {
        .period_us = PERIOD_US, .suspect_us = 20000, .max_ranks = RANKS, .suspect = note_silence};
    const eepi_board_seat busy = {
        .who = eepi_board_who(GENERATION, 0, EEPI_SEAT_RUNS), .beats = 1, .busy_us = BUSY_US};
    const struct timespec nap = {0, 1000000};
    const uint64_t until_us = eepi_now_us() + 10000000;
    eepi_peer *peer;
    uint64_t seats[EEP_MAX_RANKS / 64] = {1u << FAR};

    open_context();
    peer = &context->peers[FAR];
    peer->record_bytes = malloc(1);
    peer->record.member = (eepi_member){.seat = FAR, .generation = GENERATION, .host = HOST};
    context->process.host = HOST + 1;
    cr_assert_eq(eepi_detector_open(&config, &own, &context->detector), EEP_OK);
    eepi_detector_watch_remote(context->detector, FAR, GENERATION, HOST);
    eepi_spare_busy(context, seats);
    cr_assert_eq(seats[0], 1u << FAR, "it has said nothing");
    cr_expect_not(eepi_post_busy(context, FAR));
    board.hosts[0].host = HOST;
    eepi_board_write(&board.seats[FAR], &busy);
    eepi_detector_set_boards(context->detector, &board, NULL);
    while (seats[0] && eepi_now_us() < until_us) {
        __atomic_fetch_add(&board.rounds, 1, __ATOMIC_RELEASE);
        __atomic_fetch_add(&board.hosts[0].signs, 1, __ATOMIC_RELEASE);
        nanosleep(&nap, NULL);
        eepi_spare_busy(context, seats);
    }
    cr_expect_eq(seats[0], 0, "a deadline that it misses is no evidence");
    cr_expect(eepi_post_busy(context, FAR), "and its promise is waited for");
    cr_expect_eq(num_told(EEPI_INPUT_BUSY), 1);
    eepi_detector_close(context->detector, false);
    context->detector = NULL;
    free(peer->record_bytes);
    peer->record_bytes = NULL;
    close_context();
}
