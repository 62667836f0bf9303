/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts with a checkpoint: where experts lie in it, what is refused by name, and repairs that
 * have no other source. */
#include "eep/checkpoint.h"
#include "tests/lib/context_checks.h"
#include "tests/lib/context_fixture.h"
#include "tests/lib/tensor_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROW_BYTES = WORLD_HIDDEN * sizeof(float), FIRST_LAYER = 3, STEPS = 5 };

/* model.safetensors with a scale per expert ("...layers.L.experts.E.scale"), and one shift per
 * layer for all experts ("...layers.L.shift", [experts, hidden]); layers count from FIRST_LAYER. */
static void write_world(tensor_folder *folder)
{
    static char header[8192];
    const size_t row = ROW_BYTES, bytes = 2 * WORLD_LAYERS * WORLD_EXPERTS * row;
    float *data = malloc(bytes);
    size_t used = (size_t)sprintf(header, "{\"__metadata__\":{}"), end = 0;
    float shift[WORLD_HIDDEN], scale[WORLD_HIDDEN];

    for (int layer = 0; layer < WORLD_LAYERS; layer++) {
        for (int expert = 0; expert < WORLD_EXPERTS; expert++, end += row) {
            world_expert(layer, expert, (float *)((char *)data + end), shift);
            used += (size_t)sprintf(header + used,
                                    ",\"model.layers.%d.experts.%d.scale\":{\"dtype\":\"F32\","
                                    "\"shape\":[%d],\"data_offsets\":[%zu,%zu]}",
                                    FIRST_LAYER + layer, expert, WORLD_HIDDEN, end, end + row);
        }
        used += (size_t)sprintf(header + used,
                                ",\"model.layers.%d.shift\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                                "\"data_offsets\":[%zu,%zu]}",
                                FIRST_LAYER + layer, WORLD_EXPERTS, WORLD_HIDDEN, end,
                                end + WORLD_EXPERTS * row);
        for (int expert = 0; expert < WORLD_EXPERTS; expert++, end += row) {
            world_expert(layer, expert, scale, (float *)((char *)data + end));
        }
    }
    used += (size_t)sprintf(header + used, "}");
    cr_assert_lt(used, sizeof header);
    tensor_file_write_raw(folder, "model.safetensors", used, header, used, (uint8_t *)data, bytes);
    free(data);
}

static const char *const names[WORLD_TENSORS] = {"model.layers.{layer}.experts.{expert}.scale",
                                                 "model.layers.{layer}.shift"};

static eep_status place_expert(void *user, int32_t layer, int32_t expert, int32_t tensor,
                               eep_checkpoint_place *place_out)
{
    const char *dtype = user;
    if (tensor == 0) {
        snprintf(place_out->name, sizeof place_out->name, "model.layers.%d.experts.%d.scale",
                 FIRST_LAYER + layer, expert);
    } else {
        snprintf(place_out->name, sizeof place_out->name, "model.layers.%d.shift",
                 FIRST_LAYER + layer);
        place_out->offset = (uint64_t)expert * ROW_BYTES;
        place_out->bytes = ROW_BYTES;
    }
    snprintf(place_out->dtype, sizeof place_out->dtype, "%s", dtype);
    return EEP_OK;
}

static void expect_weights(eep_context *context, int32_t layer, int32_t expert)
{
    float scale[WORLD_HIDDEN], shift[WORLD_HIDDEN], want[2][WORLD_HIDDEN];
    eep_tensor tensors[] = {{scale, sizeof scale}, {shift, sizeof shift}};
    cr_assert_eq(eep_checkpoint_load(context, layer, expert, tensors, 2), EEP_OK, "%s",
                 eep_last_error(context));
    world_expert(layer, expert, want[0], want[1]);
    cr_expect(memcmp(scale, want[0], sizeof scale) == 0 &&
                  memcmp(shift, want[1], sizeof scale) == 0,
              "layer %d expert %d", layer, expert);
}

/* An open rank 0, not joined, and a checkpoint. */
typedef struct scene {
    world w;
    tensor_folder folder;
    eep_checkpoint *checkpoint;
    eep_context *context;
} scene;

static void begin(scene *s)
{
    char error[256];
    world_open(&s->w, 1, 1);
    tensor_folder_open(&s->folder);
    write_world(&s->folder);
    cr_assert_eq(eep_checkpoint_open(s->folder.path, error, sizeof error, &s->checkpoint), EEP_OK,
                 "%s", error);
    s->w.config.num_slots = WORLD_EXPERTS < WORLD_SLOTS ? WORLD_EXPERTS : WORLD_SLOTS;
    s->w.config.num_experts = WORLD_SLOTS;
    cr_assert_eq(rank_open(&s->w, 0), EEP_OK, "%s", s->w.ranks[0].error);
    s->context = s->w.ranks[0].context;
}

static void end(scene *s)
{
    eep_checkpoint_close(s->checkpoint);
    rank_close(&s->w.ranks[0]);
    world_close(&s->w);
    tensor_folder_close(&s->folder);
}

static void expect_text(scene *s, eep_status status, eep_status wanted, const char *word)
{
    cr_expect_eq(status, wanted, "%s: %s", word, eep_strerror(status));
    cr_expect(strstr(eep_last_error(s->context), word), "'%s' is not in: %s", word,
              eep_last_error(s->context));
}

Test(context_checkpoint, experts_are_found_by_a_function_and_read)
{
    scene s;
    begin(&s);
    cr_assert_eq(eep_checkpoint_set(s.context, s.checkpoint, 2, place_expert, "F32"), EEP_OK, "%s",
                 eep_last_error(s.context));
    eep_checkpoint_close(s.checkpoint); /* the context still uses it */
    s.checkpoint = NULL;
    for (int32_t layer = 0; layer < WORLD_LAYERS; layer++) {
        for (int32_t expert = 0; expert < WORLD_SLOTS; expert++) {
            expect_weights(s.context, layer, expert);
        }
    }
    end(&s);
}

Test(context_checkpoint, a_place_that_is_not_there_is_refused_by_name)
{
    float row[WORLD_HIDDEN];
    eep_tensor short_one[] = {{row, sizeof row}, {row, sizeof row - 4}};
    const char *const odd[] = {"model.layers.{layer}.experts.{expert}.scale", "model.{expert}"};
    const char *const few[] = {"model.layers.{layer}.shift"};
    static char longest[600];
    const char *const too_long[] = {longest};
    scene s;

    begin(&s);
    expect_text(&s, eep_checkpoint_load(s.context, 0, 0, short_one, 2), EEP_ERR_STATE,
                "names a checkpoint first");
    expect_text(&s, eep_checkpoint_set(s.context, s.checkpoint, 2, place_expert, "BF16"),
                EEP_ERR_INVALID, "model.layers.3.experts.0.scale is F32, and BF16 is needed");
    expect_text(&s, eep_checkpoint_set(s.context, s.checkpoint, 9, place_expert, "F32"),
                EEP_ERR_INVALID, "num_tensors is 9");
    expect_text(&s, eep_checkpoint_set_names(s.context, s.checkpoint, 2, odd, FIRST_LAYER),
                EEP_ERR_NOT_FOUND, "layer 0 expert 0: the checkpoint has no tensor model.0");
    expect_text(&s, eep_checkpoint_set_names(s.context, s.checkpoint, 1, odd, FIRST_LAYER + 1),
                EEP_ERR_NOT_FOUND, "no tensor model.layers.5.experts.0.scale");
    /* all experts in one tensor: of as many as there are */
    expect_text(&s, eep_checkpoint_set_names(s.context, s.checkpoint, 1, few, FIRST_LAYER),
                EEP_ERR_INVALID, "tensor model.layers.3.shift has no first dimension of 5 experts");
    memset(longest, 'x', sizeof longest - 1);
    expect_text(&s, eep_checkpoint_set_names(s.context, s.checkpoint, 1, too_long, 0),
                EEP_ERR_INVALID, "longer than 511 bytes");
    expect_text(&s, eep_checkpoint_set_names(s.context, s.checkpoint, 1, few, -1), EEP_ERR_INVALID,
                "first_layer is -1");
    cr_assert_eq(eep_checkpoint_set(s.context, s.checkpoint, 2, place_expert, ""), EEP_OK);
    expect_text(&s, eep_checkpoint_load(s.context, 0, 0, short_one, 2), EEP_ERR_INVALID,
                "tensor 1 has 60 bytes, and 64 in the checkpoint");
    expect_text(&s, eep_checkpoint_load(s.context, 2, 0, short_one, 2), EEP_ERR_INVALID, "layer 2");
    expect_text(&s, eep_checkpoint_load(s.context, 0, 5, short_one, 2), EEP_ERR_INVALID,
                "expert 5");
    cr_assert_eq(truncate(s.folder.file, 100), 0);
    short_one[1].bytes = sizeof row;
    expect_text(&s, eep_checkpoint_load(s.context, 1, 4, short_one, 2), EEP_ERR_PROTOCOL,
                "layer 1 expert 4: ");
    end(&s);
}

Test(context_checkpoint, other_sizes_than_the_slots_are_refused_by_join)
{
    const char *const one[] = {"model.layers.{layer}.experts.{expert}.scale"};
    scene s;

    begin(&s);
    cr_assert_eq(eep_checkpoint_set_names(s.context, s.checkpoint, 1, one, FIRST_LAYER), EEP_OK,
                 "%s", eep_last_error(s.context));
    expect_text(&s, eep_join(s.context), EEP_ERR_INVALID,
                "1 tensors in the checkpoint, and 2 in a slot");
    cr_assert_eq(eep_checkpoint_set(s.context, s.checkpoint, 2, place_expert, "F32"), EEP_OK);
    cr_expect_eq(eep_join(s.context), EEP_OK, "%s", eep_last_error(s.context));
    expect_text(&s, eep_checkpoint_set(s.context, s.checkpoint, 2, place_expert, "F32"),
                EEP_ERR_STATE, "before eep_join");
    end(&s);
}

Test(context_checkpoint, names_with_braces_find_single_and_fused_tensors)
{
    char error[256];
    scene s;

    world_open(&s.w, 2, 2); /* 8 experts */
    tensor_folder_open(&s.folder);
    write_world(&s.folder);
    cr_assert_eq(eep_checkpoint_open(s.folder.path, error, sizeof error, &s.checkpoint), EEP_OK,
                 "%s", error);
    cr_assert_eq(rank_open(&s.w, 0), EEP_OK, "%s", s.w.ranks[0].error);
    s.context = s.w.ranks[0].context;
    cr_assert_eq(eep_checkpoint_set_names(s.context, s.checkpoint, 2, names, FIRST_LAYER), EEP_OK,
                 "%s", eep_last_error(s.context));
    expect_weights(s.context, 0, 0);
    expect_weights(s.context, 1, 7);
    end(&s);
}

/* ---------------------------------------------------------------- repairs */

static eep_checkpoint *shared; /* by all ranks of a test, as of one process */

static void name_checkpoint(rank *r)
{
    cr_assert_eq(eep_checkpoint_set_names(r->context, shared, WORLD_TENSORS, names, FIRST_LAYER),
                 EEP_OK, "%s", eep_last_error(r->context));
}

/* What the fixture's event function and this one get: the log's lines that matter here. */
static char said[2048];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_line(void *user, eep_log_level level, const char *line)
{
    (void)user;
    pthread_mutex_lock(&said_lock);
    if (level <= EEP_LOG_WARN) {
        snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", line);
    }
    pthread_mutex_unlock(&said_lock);
}

static bool was_said(const char *text)
{
    pthread_mutex_lock(&said_lock);
    bool found = strstr(said, text) != NULL;
    pthread_mutex_unlock(&said_lock);
    return found;
}

/* Three ranks without backups, of which `first` to 2 read the file. */
static void open_three(world *w, tensor_folder *folder, int32_t first)
{
    char error[256];
    world_open(w, 3, 3);
    w->config.log = keep_line;
    w->config.log_level = EEP_LOG_WARN;
    tensor_folder_open(folder);
    write_world(folder);
    cr_assert_eq(eep_checkpoint_open(folder->path, error, sizeof error, &shared), EEP_OK, "%s",
                 error);
    for (int32_t seat = first; seat < 3; seat++) {
        w->ranks[seat].opened = name_checkpoint;
    }
}

static void start_three(world *w)
{
    world_start(w);
    world_set_modes(w, 0, 2, RANK_WORK);
    world_advance(w, 0, 2, STEPS);
}

static void serve_three(world *w, tensor_folder *folder, int32_t first)
{
    open_three(w, folder, first);
    start_three(w);
}

static void end_three(world *w, tensor_folder *folder)
{
    world_close(w);
    eep_checkpoint_close(shared);
    tensor_folder_close(folder);
}

/* Rank 2 alone has an expert of each layer: only the file has them then. */
Test(context_checkpoint, an_expert_that_nobody_has_is_repaired_from_the_file)
{
    world w;
    tensor_folder folder;
    uint64_t moved = 0;

    serve_three(&w, &folder, 0);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
    world_advance(&w, 0, 1, STEPS);
    world_rest(&w);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 2; seat++) {
        moved += rank_counters(&w.ranks[seat]).weights_bytes_in_pause;
    }
    cr_expect_eq(moved, WORLD_LAYERS * WORLD_TENSORS * ROW_BYTES, "%llu bytes",
                 (unsigned long long)moved);
    end_three(&w, &folder);
}

Test(context_checkpoint, only_a_rank_that_named_the_file_repairs_from_it)
{
    world w;
    tensor_folder folder;

    serve_three(&w, &folder, 1);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
    world_advance(&w, 0, 1, STEPS);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(rank_counters(&w.ranks[0]).weights_bytes_in_pause, 0);
    cr_expect_eq(rank_counters(&w.ranks[1]).weights_bytes_in_pause,
                 WORLD_LAYERS * WORLD_TENSORS * ROW_BYTES);
    end_three(&w, &folder);
}

static void cut(tensor_folder *folder)
{
    cr_assert_eq(truncate(folder->file, 100), 0);
}

static void change(tensor_folder *folder)
{
    FILE *file = fopen(folder->file, "r+b");
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    const long bytes = ftell(file);
    for (long at = bytes - 2 * WORLD_LAYERS * WORLD_EXPERTS * ROW_BYTES; at < bytes; at += 4) {
        cr_assert_eq(fseek(file, at, SEEK_SET), 0);
        cr_assert_eq(fputc(0x55, file), 0x55);
    }
    cr_assert_eq(fclose(file), 0);
}

static eep_checkpoint *changed; /* a file with other bytes, of rank 0 alone */

static void name_changed(rank *r)
{
    cr_assert_eq(eep_checkpoint_set_names(r->context, changed, WORLD_TENSORS, names, FIRST_LAYER),
                 EEP_OK, "%s", eep_last_error(r->context));
}

/* Rank 0 finds its own file bad, and rank 1 reads its own for it. */
Test(context_checkpoint, R2_a_rank_with_a_bad_file_is_filled_from_that_of_another)
{
    world w;
    tensor_folder folder, other;
    char error[256];

    tensor_folder_open(&other);
    write_world(&other);
    change(&other);
    cr_assert_eq(eep_checkpoint_open(other.path, error, sizeof error, &changed), EEP_OK, "%s",
                 error);
    open_three(&w, &folder, 1);
    w.ranks[0].opened = name_changed;
    start_three(&w);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
    world_advance(&w, 0, 1, STEPS);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_geq(rank_counters(&w.ranks[0]).fills_file, 1);
    cr_expect_eq(rank_counters(&w.ranks[0]).fills_file + rank_counters(&w.ranks[1]).fills_file,
                 WORLD_LAYERS);
    cr_expect(was_said("the copy of the checkpoint is corrupted"), "%s", said);
    end_three(&w, &folder);
    eep_checkpoint_close(changed);
    tensor_folder_close(&other);
}

/* The file is cut off, or has other bytes, while ranks serve: nobody serves on wrong weights, the
 * log names file or source, and a process that brings the expert heals the instance. */
static void heal_after(void (*damage)(tensor_folder *folder), const char *text)
{
    world w;
    tensor_folder folder;

    serve_three(&w, &folder, 0);
    damage(&folder);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, was_said(text));
    w.ranks[2].opened = NULL;
    world_let_in(&w, 2, 0, 2, STEPS);
    world_rest(&w);
    world_check_right(&w);
    end_three(&w, &folder);
}

Test(context_checkpoint, a_file_that_is_cut_off_is_named_and_a_rank_heals)
{
    heal_after(cut, "cut it off");
}

Test(context_checkpoint, a_file_with_other_bytes_is_named_and_a_rank_heals)
{
    heal_after(change, "the checkpoint");
}

/* ---------------------------------------------------------------- files of others */

/* Rank 2 alone has expert 7, and rank 1 keeps its slots: rank 0, which has no file, must take it.
 */
static void order_pins(rank *r)
{
    static const int32_t row[3 * WORLD_SLOTS] = {0, 1, 2, 3, 4, 0, 4, 5, 6, 1, 7, 0, 1, 2, 3};
    int32_t experts[WORLD_LAYERS * 3 * WORLD_SLOTS];
    uint8_t pinned[WORLD_LAYERS * 3 * WORLD_SLOTS];
    eep_placement placement = {
        .struct_bytes = sizeof placement, .number = 1, .experts = experts, .pinned = pinned};

    for (int i = 0; i < WORLD_LAYERS * 3 * WORLD_SLOTS; i++) {
        experts[i] = row[i % (3 * WORLD_SLOTS)];
        pinned[i] = i / WORLD_SLOTS % 3 == 1;
    }
    cr_assert_eq(eep_placement_set(r->context, &placement), EEP_OK, "%s", eep_error_text());
}

/* Only rank 1 has a file, and nothing to fill. */
static void serve_beside_reader(world *w, tensor_folder *folder)
{
    open_three(w, folder, 1);
    w->ranks[2].opened = NULL;
    for (int seat = 0; seat < 3; seat++) {
        w->ranks[seat].ordered = order_pins;
    }
    start_three(w);
}

Test(context_checkpoint, R2_a_rank_without_a_file_is_filled_from_that_of_another)
{
    world w;
    tensor_folder folder;

    serve_beside_reader(&w, &folder);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
    world_advance(&w, 0, 1, STEPS);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(rank_counters(&w.ranks[0]).fills_file, WORLD_LAYERS);
    cr_expect_eq(rank_counters(&w.ranks[0]).weights_bytes_file,
                 WORLD_LAYERS * WORLD_TENSORS * ROW_BYTES);
    cr_expect_eq(rank_counters(&w.ranks[1]).weights_bytes_in_pause, 0);
    end_three(&w, &folder);
}

/* Rank 1 reads it for others alone: it takes its claim back, nobody serves, and a rank heals. */
static void reader_heals_after(void (*damage)(tensor_folder *folder), const char *text)
{
    world w;
    tensor_folder folder;

    serve_beside_reader(&w, &folder);
    damage(&folder);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, was_said("the checkpoint is read no more"));
    cr_expect(was_said(text), "%s", said);
    world_let_in(&w, 2, 0, 2, STEPS);
    world_rest(&w);
    world_check_right(&w);
    end_three(&w, &folder);
}

Test(context_checkpoint, R2_a_reader_whose_file_is_cut_off_says_so)
{
    reader_heals_after(cut, "cut it off");
}

Test(context_checkpoint, R2_a_reader_whose_file_has_other_bytes_says_so)
{
    reader_heals_after(change, "its bytes have not the checksum of the view");
}
