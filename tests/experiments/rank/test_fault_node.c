/* SPDX-License-Identifier: Apache-2.0 */
/* A process of two ranks, whose rank 0 kills it at each place of each chain of a step. Rank 1's
 * window, which is also mapped here and survives, shows how far rank 0 had got.
 *
 * Both ranks' first step is with tokens. Rank 1 halts behind its own unpack of the victim's layer
 * and chain, so that nothing in that chain's combine rows of its window is its own. */
#include "experiments/rank/fault_node.h"
#include "membership/context/context.h"
#include "membership/process/seat_file.h"
#include "membership/step/capture.h"
#include "tests/lib/context_fixture.h"
#include "transport/holder/holder.h"
#include "tests/lib/window_fixture.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first one: what the windows hold is its rows, and no other layer's. */
enum { VICTIM_LAYER = 0 };

/* What the child tells before its ranks step. */
typedef struct hello {
    char directory[64], store[96]; /* what it leaves behind */
    eepi_window_descriptor window; /* of the last rank */
    eepk_shape shape;
} hello;

typedef struct victim {
    pid_t pid;
    int from, to; /* pipes */
    hello hello;
    eep_device *device;
    eepi_window *window;
    uint8_t *bytes; /* what kernels see of the window, copied after the end */
    uint32_t chain; /* in which it died */
} victim;

static fault_node node; /* of the child's rank 0 */

/* ---------------------------------------------------------------- the child */

static void halt(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
    for (;;) {
        pause();
    }
}

static const eep_kernel halt_kernel = EEP_KERNEL("halt", halt, NULL, NULL, 0);

static eep_status halt_after_unpack(void *user, eep_stream *stream, eepi_kernel_id id,
                                    const void *args, bool is_behind)
{
    const eepk_dispatch_node_args *unpack = args;
    if (!is_behind || id != EEPI_KERNEL_unpack || unpack->layer != VICTIM_LAYER ||
        unpack->chain != *(const uint32_t *)user) {
        return EEP_OK;
    }
    return eep_launch(stream, &halt_kernel, 1, 1, NULL, 0);
}

static void add_node(rank *r)
{
    cr_assert_eq(fault_node_init(&node, r->context, r->device, 2 * VICTIM_LAYER + 1, NULL, NULL),
                 EEP_OK);
}

static uint32_t victim_chain; /* of the child */

static void add_halt(rank *r)
{
    eepi_capture_watch(r->context, halt_after_unpack, &victim_chain);
}

static void say(int fd, const void *bytes, size_t size)
{
    cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
}

static void say_hello(int to, const world *w)
{
    const rank *last = &w->ranks[w->config.num_ranks - 1];
    hello message = {.shape = last->context->shape};
    memcpy(message.directory, w->directory, sizeof message.directory);
    memcpy(message.store, w->path, sizeof message.store);
    eepi_window_describe(last->context->window, &message.window);
    say(to, &message, sizeof message);
}

static void two_ranks(int from, int to, int place)
{
    static world w;
    char go;
    world_open(&w, 2, 2);
    w.config.num_chains = 2;
    victim_chain = (uint32_t)(place / NUM_PLACES_OF_CHAIN);
    w.ranks[0].opened = add_node;
    w.ranks[1].opened = add_halt;
    for (int32_t seat = 0; seat < 2; seat++) {
        w.ranks[seat].mode = RANK_WORK;
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
    }
    cr_assert_eq(fault_node_arm(&node, (verb_place)place, false), EEP_OK);
    say_hello(to, &w);
    cr_assert_eq(read(from, &go, 1), 1);
    rank_run(&w.ranks[0]);
    rank_run(&w.ranks[1]);
    for (;;) {
        pause();
    }
}

/* An abort of one step may reach the peer in the next. */
static void step_until_ok(rank *r)
{
    eep_status status = EEP_ERR_ABORTED;
    while (status == EEP_ERR_ABORTED) {
        status = rank_step(r, WORLD_TOKENS);
    }
    cr_assert_eq(status, EEP_OK, "%s", r->text);
}

/* Rank 0 is stepped by hand: unarmed, then armed in a step that is aborted before it begins, then
 * disarmed, each of which says one letter; then armed. Rank 1 follows. */
static void by_hand(int from, int to, int place)
{
    static world w;
    rank *r = &w.ranks[0];
    eep_step step;
    (void)from;
    world_open(&w, 2, 2);
    w.config.num_chains = 2;
    r->opened = add_node;
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
    }
    say_hello(to, &w);
    rank_run(&w.ranks[1]);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    for (int i = 0; i < 3; i++) {
        step_until_ok(r);
    }
    say(to, "u", 1);
    cr_assert_eq(fault_node_arm(&node, (verb_place)place, false), EEP_OK);
    rank_fill(r, WORLD_TOKENS, BAD_NONE);
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, EEP_SIZED(&step)), EEP_OK);
    eep_step_abort(r->context);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    cr_assert_eq(eep_step_end(r->context), EEP_ERR_ABORTED);
    say(to, "a", 1);
    fault_node_disarm(&node);
    step_until_ok(r);
    cr_assert_eq(r->wrong, 0);
    cr_assert_eq(eep_device_captures(r->device), 1);
    say(to, "d", 1);
    cr_assert_eq(fault_node_arm(&node, (verb_place)place, false), EEP_OK);
    step_until_ok(r);
    say(to, "x", 1); /* it should not live to say that */
    _exit(1);
}

/* ---------------------------------------------------------------- the parent */

/* The pipe ends when the process has, so both are waited for in bounded time. */
static int hear(const victim *v, void *bytes, size_t size)
{
    size_t got = 0;
    while (got < size) {
        struct pollfd set = {.fd = v->from, .events = POLLIN};
        cr_assert_eq(poll(&set, 1, WORLD_WAIT_MS), 1, "the rank neither ends nor says anything");
        ssize_t bytes_read = read(v->from, (char *)bytes + got, size - got);
        if (bytes_read <= 0) {
            return 0;
        }
        got += (size_t)bytes_read;
    }
    return 1;
}

static void start(victim *v, void (*child)(int from, int to, int place), int place)
{
    int down[2], up[2];
    cr_assert_eq(pipe(down), 0);
    cr_assert_eq(pipe(up), 0);
    v->pid = fork();
    cr_assert_geq(v->pid, 0);
    if (v->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(down[1]);
        close(up[0]);
        child(down[0], up[1], place);
        _exit(1);
    }
    close(down[0]);
    close(up[1]);
    v->from = up[0];
    v->to = down[1];
    cr_assert(hear(v, &v->hello, sizeof v->hello), "the ranks did not open");
}

static void expect_killed(victim *v)
{
    char more;
    int status;
    cr_assert_not(hear(v, &more, 1), "the rank lives after its place: it says %c", more);
    cr_assert_eq(waitpid(v->pid, &status, 0), v->pid);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "wait status %d", status);
    close(v->from);
    close(v->to);
    char holder_path[EEPI_HOLDER_PATH_BYTES];
    eepi_holder_path(v->hello.store, holder_path);
    cr_expect_eq(unlink(v->hello.store), 0);
    cr_expect_eq(unlink(holder_path), 0);
    eepi_seats_remove(v->hello.store, 2);
    cr_expect_eq(rmdir(v->hello.directory), 0);
}

static void copy_window(victim *v, size_t bytes)
{
    eep_stream *stream;
    void *pinned;
    cr_assert_eq(eep_device_alloc(v->device, EEP_MEMORY_PINNED, bytes, &pinned), EEP_OK);
    cr_assert_eq(eep_stream_open(v->device, &stream), EEP_OK);
    cr_assert_eq(eep_copy_async(stream, pinned, window_memory(v->window), bytes), EEP_OK);
    cr_assert_eq(eep_stream_synchronize(stream, WORLD_PATIENT_US), EEP_OK);
    eep_stream_close(stream);
    v->bytes = pinned;
}

static void run_to_death(victim *v, int place)
{
    start(v, two_ranks, place);
    v->chain = (uint32_t)(place / NUM_PLACES_OF_CHAIN);
    eepi_window_spec spec = eepi_window_spec_of(&v->hello.shape, 1, 1);
    char why[256] = "";
    const char *name = getenv("EEP_TEST_DEVICE"); /* as the fixture */
    cr_assert_eq(eep_device_open(name ? name : "host", 0, &v->device), EEP_OK);
    cr_assert_eq(window_map_whole(v->device, &v->hello.window, &spec, why, sizeof why, &v->window),
                 EEP_OK, "%s", why);
    cr_assert_eq(write(v->to, "g", 1), 1);
    expect_killed(v);
    copy_window(v, spec.bytes);
}

static void close_window(victim *v)
{
    eep_device_free(v->device, EEP_MEMORY_PINNED, v->bytes);
    eepi_window_close(v->window);
    eep_device_close(v->device);
}

static uint64_t tag(const victim *v, uint32_t phase)
{
    return *eepk_phase_tag(&v->hello.shape, v->bytes, phase, v->chain, 0);
}

static int is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return 0;
        }
    }
    return 1;
}

/* Rows of tokens in rank 1's window that rank 0 dispatched in the victim's layer. */
static int count_dispatched(const victim *v)
{
    uint8_t *window = v->bytes;
    int rows = 0;
    for (uint32_t token = 0; token < WORLD_TOKENS; token++) {
        rows += !is_zero(eepk_dispatch_row(&v->hello.shape, window, v->chain, 0, token),
                         v->hello.shape.row_bytes);
    }
    return rows;
}

static int count_combined(const victim *v)
{
    uint8_t *window = v->bytes;
    int rows = 0;
    for (uint32_t pair = 0; pair < WORLD_TOKENS * WORLD_TOPK; pair++) {
        const uint8_t *row = eepk_combine_row(&v->hello.shape, window, v->chain, pair / WORLD_TOPK,
                                              pair % WORLD_TOPK);
        rows += !is_zero(row, v->hello.shape.row_bytes);
    }
    return rows;
}

/* It died in the first step. */
static void expect_dispatched(const victim *v)
{
    const eepk_exchange_at at = {VICTIM_LAYER, (uint32_t)v->chain, EEPK_PHASE_DISPATCH, 0};
    cr_expect_eq(eepk_tag_exchange(tag(v, EEPK_PHASE_DISPATCH)),
                 eepk_exchange_number(&v->hello.shape, 0, at));
}

/* Each at a place of chain 0, and at the same one of chain 1. */

Test(fault_node, dispatch_rows_are_sent_and_no_tag)
{
    for (int place = PLACE_DISPATCH; place < NUM_PLACES; place += NUM_PLACES_OF_CHAIN) {
        victim v;
        run_to_death(&v, place);
        uint8_t *window = v.bytes;
        cr_expect_eq(eepk_header(&v.hello.shape, window, v.chain, 0)->num_tokens, WORLD_TOKENS);
        cr_expect_gt(count_dispatched(&v), 0);
        cr_expect_eq(tag(&v, EEPK_PHASE_DISPATCH), 0, "the tag is there");
        close_window(&v);
    }
}

Test(fault_node, experts_have_their_rows_and_send_nothing)
{
    for (int place = PLACE_EXPERTS; place < NUM_PLACES; place += NUM_PLACES_OF_CHAIN) {
        victim v;
        run_to_death(&v, place);
        expect_dispatched(&v);
        cr_expect_eq(count_combined(&v), 0);
        cr_expect_eq(tag(&v, EEPK_PHASE_COMBINE), 0);
        close_window(&v);
    }
}

Test(fault_node, combine_rows_are_sent_and_no_tag)
{
    for (int place = PLACE_COMBINE; place < NUM_PLACES; place += NUM_PLACES_OF_CHAIN) {
        victim v;
        run_to_death(&v, place);
        expect_dispatched(&v);
        cr_expect_gt(count_combined(&v), 0);
        cr_expect_eq(tag(&v, EEPK_PHASE_COMBINE), 0, "the tag is there");
        close_window(&v);
    }
}

Test(fault_node, halts_only_when_armed_and_not_in_an_aborted_step)
{
    for (int place = 0; place < NUM_PLACES; place++) {
        victim v;
        char said[4] = "";
        start(&v, by_hand, place);
        cr_expect(hear(&v, said, 3), "place %d: it died early", place);
        cr_expect_str_eq(said, "uad", "place %d", place);
        expect_killed(&v);
    }
}
