/* SPDX-License-Identifier: Apache-2.0 */
/* Placing into memory that the host cannot touch: on the guarded device, and on CUDA over the fake
 * GPU (EEP_TEST_DEVICE=cuda). What the device is given is seen here, and may be held back. */
#include "transport/proxy/bounce.h"
#include "transport/proxy/placer_batch.h"

#include "graphs/device/device_internal.h"
#include "graphs/device/tables.h"
#include "graphs/kernels/kernels.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SELF = 1, SOURCE = 2, GENERATION = 5, OWN = 9, ROW = 64, POISON = 0xee };
enum { LONG_US = 20000000, SHORT_US = 20000, MAX_BATCHES = 32 };
#define OK(call) cr_assert_eq((call), EEP_OK)

static const uint32_t members[4] = {1, OWN, GENERATION, 3};

/* ---------------------------------------------------------------- what the device is given */

typedef struct seen_batch {
    uint32_t num, has_word;
} seen_batch;

static struct {
    eepi_device_ops ops;
    const eepi_device_ops *own;
    seen_batch batches[MAX_BATCHES];
    uint32_t num;
    int fails;
    int holds; /* 1: the next batch waits; 2: it does; atomic */
    void *stream;
    eep_kernel kernel;
    eepk_place_args args;
} given;

/* Is this thread one whose calls spoil no capture? */
static _Thread_local bool is_exempt;

static eep_status thread_begin(void *device, int *before_out)
{
    is_exempt = true;
    return given.own->thread_begin ? given.own->thread_begin(device, before_out) : EEP_OK;
}

static void thread_end(void *device, int before)
{
    is_exempt = false;
    if (given.own->thread_end) {
        given.own->thread_end(device, before);
    }
}

static eep_status launch(void *stream, const eep_kernel *kernel, uint32_t num_blocks,
                         uint32_t num_threads, const void *args, size_t args_bytes)
{
    const eepk_placing *p = ((const eepk_place_args *)args)->placing;

    cr_assert_str_eq(kernel->name, "place");
    cr_assert(is_exempt, "a capture of another thread is spoilt");
    cr_assert(num_blocks == 1 && num_threads == EEPI_PLACE_THREADS);
    cr_assert_lt(given.num, MAX_BATCHES);
    given.batches[given.num++] = (seen_batch){p->num, p->has_word};
    if (given.fails) {
        return EEP_ERR_DEVICE;
    }
    if (__atomic_load_n(&given.holds, __ATOMIC_ACQUIRE) == 1) {
        given.stream = stream;
        given.kernel = *kernel;
        memcpy(&given.args, args, sizeof given.args);
        __atomic_store_n(&given.holds, 2, __ATOMIC_RELEASE);
        return EEP_OK;
    }
    return given.own->launch(stream, kernel, num_blocks, num_threads, args, args_bytes);
}

static eep_status await_word(void *stream, const uint64_t *word, uint64_t value,
                             uint64_t timeout_us)
{
    while (__atomic_load_n(&given.holds, __ATOMIC_ACQUIRE) == 2) {
        usleep(100);
    }
    return given.own->stream_await_word
               ? given.own->stream_await_word(stream, word, value, timeout_us)
               : given.own->stream_synchronize(stream, timeout_us);
}

static void let_go(void)
{
    OK(given.own->launch(given.stream, &given.kernel, 1, EEPI_PLACE_THREADS, &given.args,
                         sizeof given.args));
    __atomic_store_n(&given.holds, 0, __ATOMIC_RELEASE);
}

/* ---------------------------------------------------------------- a window of the device */

typedef struct bounce_fixture {
    eep_device *device;
    eep_stream *stream;
    eepk_shape shape;
    uint8_t *window, *seen; /* the device's, and a pinned copy of it */
    eepi_bounce *bounce;
    eepi_placer *placer;
} bounce_fixture;

static void move_to(bounce_fixture *f, uint64_t step, bool lets_in)
{
    const eepi_gate_stand to = {3, step, lets_in, OWN, members};

    OK(eepi_placer_move(f->placer, &to, LONG_US));
}

static void open_shape(eepk_shape *shape_out)
{
    const eep_config config = {.struct_bytes = sizeof config,
                               .rank = SELF,
                               .num_ranks = 4,
                               .max_ranks = 4,
                               .num_layers = 3,
                               .num_experts = 8,
                               .num_slots = 3,
                               .top_k = 2,
                               .hidden = 16,
                               .num_max_tokens_per_rank = 4,
                               .dtype = EEP_FP32};
    const char *why;

    cr_assert_eq(eepi_shape_make(&config, shape_out, &why), EEP_OK, "%s", why);
}

static void open_bounce(bounce_fixture *f)
{
    const char *name = getenv("EEP_TEST_DEVICE");

    memset(f, 0, sizeof *f);
    memset(&given, 0, sizeof given);
    open_shape(&f->shape);
    OK(eep_device_open(name ? name : "guarded", 0, &f->device));
    OK(eep_stream_open(f->device, &f->stream));
    OK(eep_device_alloc(f->device, EEP_MEMORY_DEVICE, f->shape.window_bytes, (void **)&f->window));
    OK(eep_device_alloc(f->device, EEP_MEMORY_PINNED, f->shape.window_bytes, (void **)&f->seen));
    memset(f->seen + sizeof(eepk_window_header), POISON,
           f->shape.window_bytes - sizeof(eepk_window_header));
    OK(eep_copy_async(f->stream, f->window, f->seen, f->shape.window_bytes));
    OK(eep_stream_synchronize(f->stream, LONG_US));
    OK(eepi_bounce_open(f->device, f->shape.window_bytes, &f->bounce));
    eepi_bounce_set_window(f->bounce, f->window);
    f->placer = eepi_placer_open(&f->shape, OWN, &eepi_placer_bounce_ops, f->bounce);
    cr_assert_not_null(f->placer);
    given.own = f->device->ops;
    given.ops = *f->device->ops;
    given.ops.launch = launch;
    given.ops.stream_await_word = await_word;
    given.ops.thread_begin = thread_begin;
    given.ops.thread_end = thread_end;
    f->device->ops = &given.ops;
    move_to(f, 10, true);
}

static void close_bounce(bounce_fixture *f)
{
    f->device->ops = given.own;
    eepi_placer_close(f->placer);
    eepi_bounce_close(f->bounce);
    eep_device_free(f->device, EEP_MEMORY_PINNED, f->seen);
    eep_device_free(f->device, EEP_MEMORY_DEVICE, f->window);
    eep_stream_close(f->stream);
    eep_device_close(f->device);
}

static uint8_t *look(bounce_fixture *f, uint64_t offset)
{
    OK(eep_copy_async(f->stream, f->seen, f->window, f->shape.window_bytes));
    OK(eep_stream_synchronize(f->stream, LONG_US));
    return f->seen + offset;
}

/* ---------------------------------------------------------------- messages */

static eepk_put message(uint64_t step, uint32_t kind)
{
    return (eepk_put){.epoch = 3,
                      .step = step,
                      .phase = EEPK_PHASE_DISPATCH,
                      .kind = kind,
                      .source = SOURCE,
                      .target = SELF,
                      .source_generation = GENERATION,
                      .target_generation = OWN};
}

/* Piece and token are one number. */
static eepk_put row_of(const bounce_fixture *f, uint64_t step, uint32_t token)
{
    eepk_put put = message(step, EEPK_PUT_ROWS);

    put.pieces = token;
    put.bytes = ROW;
    put.offset = eepk_dispatch_row_offset(&f->shape, 0, SOURCE, token);
    return put;
}

static eepi_placed place_row(bounce_fixture *f, uint64_t step, uint32_t token, int content)
{
    const eepk_put put = row_of(f, step, token);
    uint8_t row[ROW];

    memset(row, content, sizeof row);
    return eepi_placer_place(f->placer, &put, row, GENERATION);
}

static uint64_t tag_offset(const bounce_fixture *f)
{
    return eepk_phase_tag_offset(&f->shape, EEPK_PHASE_DISPATCH, 0, SOURCE);
}

static eepi_placed place_tag(bounce_fixture *f, uint64_t step, uint32_t pieces)
{
    eepk_put put = message(step, EEPK_PUT_TAG);

    put.pieces = pieces;
    put.offset = tag_offset(f);
    put.value = eepk_tag(3, step, 0, EEPK_PHASE_DISPATCH);
    return eepi_placer_place(f->placer, &put, NULL, GENERATION);
}

static bool has_tag(bounce_fixture *f, uint64_t step)
{
    return *(uint64_t *)look(f, tag_offset(f)) == eepk_tag(3, step, 0, EEPK_PHASE_DISPATCH);
}

static bool has_row(bounce_fixture *f, uint32_t token, int content)
{
    const uint8_t *row = look(f, eepk_dispatch_row_offset(&f->shape, 0, SOURCE, token));

    for (int i = 0; i < ROW; i++) {
        if (row[i] != content) {
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- tests */

TestSuite(bounce, .timeout = 60);

Test(bounce, rows_and_words_reach_memory_that_the_host_cannot_touch)
{
    bounce_fixture f;
    eepk_put word = message(10, EEPK_PUT_ABORT);

    open_bounce(&f);
    cr_expect_eq(place_row(&f, 10, 0, 1), EEPI_PLACED);
    cr_expect_eq(place_row(&f, 10, 1, 2), EEPI_PLACED);
    cr_expect(!has_tag(&f, 10));
    cr_expect(!is_exempt, "the captures of a thread of the engine's are its own matter");
    cr_expect_eq(place_tag(&f, 10, 2), EEPI_PLACED);
    cr_expect(has_tag(&f, 10) && has_row(&f, 0, 1) && has_row(&f, 1, 2));
    cr_expect(has_row(&f, 2, POISON), "nothing else is written");
    word.offset = eepk_abort_offset(&f.shape, SOURCE);
    word.value = 77;
    cr_expect_eq(eepi_placer_place(f.placer, &word, NULL, GENERATION), EEPI_PLACED);
    cr_expect_eq(*(uint64_t *)look(&f, word.offset), 77);
    cr_expect_null(eepi_bounce_failure(f.bounce));
    close_bounce(&f);
}

/* A header and the stretches of a list begin and end anywhere. */
Test(bounce, a_stretch_need_not_be_aligned)
{
    bounce_fixture f;
    eepk_put put = message(10, EEPK_PUT_ROWS);
    const uint8_t bytes[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

    open_bounce(&f);
    put.offset = eepk_list_offset(&f.shape, 0, SOURCE, 0) + 4;
    put.bytes = sizeof bytes;
    cr_expect_eq(eepi_placer_place(f.placer, &put, bytes, GENERATION), EEPI_PLACED);
    cr_expect_arr_eq(look(&f, put.offset), bytes, sizeof bytes);
    cr_expect_eq(f.seen[put.offset - 1], POISON);
    cr_expect_eq(f.seen[put.offset + sizeof bytes], POISON);
    close_bounce(&f);
}

typedef struct late_row {
    bounce_fixture *f;
    uint32_t token;
    eepi_placed how;
    int is_over; /* atomic */
} late_row;

static void *place_late(void *user)
{
    late_row *row = user;

    row->how = place_row(row->f, 10, row->token, 3);
    __atomic_store_n(&row->is_over, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* The row is on its way to the device, which does not take it yet. */
static pthread_t hold_row(late_row *row)
{
    pthread_t thread;

    __atomic_store_n(&given.holds, 1, __ATOMIC_RELEASE);
    cr_assert_eq(pthread_create(&thread, NULL, place_late, row), 0);
    while (__atomic_load_n(&given.holds, __ATOMIC_ACQUIRE) != 2) {
        usleep(100);
    }
    return thread;
}

static void end_row(late_row *row, pthread_t thread)
{
    let_go();
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_expect_eq(row->how, EEPI_PLACED);
}

Test(bounce, N1_the_move_waits_for_a_row_on_its_way_to_the_device)
{
    const eepi_gate_stand shut = {3, 10, false, OWN, members};
    bounce_fixture f;
    late_row row = {.f = &f};
    pthread_t thread;

    open_bounce(&f);
    thread = hold_row(&row);
    cr_expect_eq(eepi_placer_move(f.placer, &shut, SHORT_US), EEP_ERR_TIMEOUT);
    cr_expect_eq(__atomic_load_n(&row.is_over, __ATOMIC_ACQUIRE), 0);
    cr_expect(has_row(&f, 0, POISON));
    end_row(&row, thread);
    cr_expect_eq(eepi_placer_move(f.placer, &shut, LONG_US), EEP_OK);
    cr_expect(has_row(&f, 0, 3));
    close_bounce(&f);
}

Test(bounce, N4_a_tag_is_stored_once_the_device_has_all_rows)
{
    bounce_fixture f;
    late_row row = {.f = &f, .token = 1};
    pthread_t thread;

    open_bounce(&f);
    cr_expect_eq(place_row(&f, 10, 0, 1), EEPI_PLACED);
    cr_expect_eq(place_tag(&f, 10, 2), EEPI_PLACED);
    thread = hold_row(&row);
    cr_expect(!has_tag(&f, 10));
    end_row(&row, thread);
    cr_expect(has_tag(&f, 10) && has_row(&f, 1, 3));
    cr_assert_eq(given.num, 3);
    cr_expect(given.batches[1].num == 1 && !given.batches[1].has_word, "the row is first");
    cr_expect(given.batches[2].num == 0 && given.batches[2].has_word, "then the tag");
    close_bounce(&f);
}

Test(bounce, N2_what_is_void_is_never_given_to_the_device)
{
    bounce_fixture f;
    eepk_put put;
    uint8_t bytes[ROW] = {0};

    open_bounce(&f);
    cr_expect_eq(place_row(&f, 9, 0, 1), EEPI_PLACED_OLDER);
    put = row_of(&f, 10, 0);
    put.epoch = 2;
    cr_expect_eq(eepi_placer_place(f.placer, &put, bytes, GENERATION), EEPI_PLACED_OLDER);
    put = row_of(&f, 10, 0);
    put.target_generation = OWN - 1;
    cr_expect_eq(eepi_placer_place(f.placer, &put, bytes, GENERATION), EEPI_PLACED_FOREIGN);
    put = row_of(&f, 10, 0);
    cr_expect_eq(eepi_placer_place(f.placer, &put, bytes, GENERATION + 1), EEPI_PLACED_FOREIGN,
                 "it has proven to be another process");
    cr_expect_eq(given.num, 0);
    cr_expect(has_row(&f, 0, POISON));
    close_bounce(&f);
}

static eepi_placed begin_row(bounce_fixture *f, const eepk_put *put, uint8_t **to_out)
{
    void *to;
    const eepi_placed how = eepi_placer_begin(f->placer, put, GENERATION, &to);

    *to_out = how == EEPI_PLACED ? to : NULL;
    return how;
}

Test(bounce, rows_may_come_in_parts_and_go_together)
{
    bounce_fixture f;
    eepk_put first, second;
    const eepk_put *both[2] = {&first, &second};
    uint8_t *to[2];

    open_bounce(&f);
    first = row_of(&f, 10, 0);
    second = row_of(&f, 10, 1);
    cr_assert_eq(begin_row(&f, &first, &to[0]), EEPI_PLACED);
    cr_assert_eq(begin_row(&f, &second, &to[1]), EEPI_PLACED);
    memset(to[0], 5, ROW);
    memset(to[1], 6, ROW / 2);
    eepi_placer_end(f.placer, both, 2, 1);
    cr_expect(has_row(&f, 0, 5) && has_row(&f, 1, POISON), "half a row is none");
    cr_assert_eq(begin_row(&f, &second, &to[1]), EEPI_PLACED);
    memset(to[1] + ROW / 2, 6, ROW / 2);
    eepi_placer_end(f.placer, both + 1, 1, 1);
    cr_expect(has_row(&f, 1, 6), "its first half was kept");
    cr_expect_eq(begin_row(&f, &second, &to[1]), EEPI_PLACED_DOUBLED);
    cr_expect_eq(given.num, 2);
    close_bounce(&f);
}

Test(bounce, rows_of_a_batch_go_together_and_before_the_tag)
{
    bounce_fixture f;
    eepi_placer_batch batch = {.num = 0};
    eepk_put put = message(10, EEPK_PUT_TAG);
    uint8_t row[ROW];

    open_bounce(&f);
    batch.placer = f.placer;
    for (uint32_t token = 0; token < 3; token++) {
        const eepk_put rows = row_of(&f, token == 1 ? 9 : 10, token);
        memset(row, (int)token, ROW);
        cr_expect_eq(eepi_placer_batch_add(&batch, &rows, row, GENERATION),
                     token == 1 ? EEPI_PLACED_OLDER : EEPI_PLACED);
    }
    cr_expect_eq(given.num, 1, "what is void ends a batch");
    put = row_of(&f, 10, 1);
    memset(row, 1, ROW);
    cr_expect_eq(eepi_placer_batch_add(&batch, &put, row, GENERATION), EEPI_PLACED);
    put = message(10, EEPK_PUT_TAG);
    put.pieces = 3;
    put.offset = tag_offset(&f);
    put.value = eepk_tag(3, 10, 0, EEPK_PHASE_DISPATCH);
    cr_expect_eq(eepi_placer_batch_add(&batch, &put, NULL, GENERATION), EEPI_PLACED);
    cr_expect(has_row(&f, 0, 0) && has_row(&f, 1, 1) && has_row(&f, 2, 2) && has_tag(&f, 10));
    cr_assert_eq(given.num, 3);
    cr_expect(given.batches[1].num == 2 && given.batches[2].has_word);
    eepi_placer_batch_end(&batch);
    move_to(&f, 10, false); /* nobody is inside */
    close_bounce(&f);
}

Test(bounce, what_came_before_its_step_is_placed_together_once_that_begins)
{
    bounce_fixture f;

    open_bounce(&f);
    for (uint32_t token = 0; token < 4; token++) {
        cr_expect_eq(place_row(&f, 11, token, 7), EEPI_PLACED_PARKED);
    }
    cr_expect_eq(place_tag(&f, 11, 4), EEPI_PLACED_PARKED);
    cr_expect_eq(given.num, 0);
    move_to(&f, 10, false);
    cr_expect_eq(given.num, 0);
    move_to(&f, 11, true);
    cr_expect(has_row(&f, 0, 7) && has_row(&f, 3, 7) && has_tag(&f, 11));
    cr_assert_eq(given.num, 2);
    cr_expect(given.batches[0].num == 4 && given.batches[1].has_word);
    close_bounce(&f);
}

Test(bounce, a_device_that_fails_gets_no_tag_and_is_asked_no_more)
{
    static eep_device *stays; /* with the memory that a kernel might still read, on purpose */
    bounce_fixture f;

    open_bounce(&f);
    stays = f.device;
    given.fails = 1;
    cr_expect_eq(place_tag(&f, 10, 1), EEPI_PLACED);
    cr_expect_eq(place_row(&f, 10, 0, 1), EEPI_PLACED_LOST);
    cr_assert_not_null(eepi_bounce_failure(f.bounce));
    given.fails = 0;
    cr_expect_eq(place_row(&f, 10, 0, 1), EEPI_PLACED_LOST);
    cr_expect_eq(given.num, 1);
    cr_expect(!has_tag(&f, 10));
    move_to(&f, 10, false); /* nobody is inside */
    close_bounce(&f);
    cr_expect_not_null(stays);
}
