/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in the wrong order, and steps that are not whole, are refused: each by what is missing. The
 * suite is that of test_context_refused.c. */
#include "graphs/device/device_share.h"
#include "tests/lib/context_checks.h"
#include "tests/lib/put_nodes.h"

#include <string.h>

Test(context_refused, calls_in_the_wrong_order_are_refused)
{
    world w;
    eep_step step = {.struct_bytes = sizeof step};
    eep_tensor tensors[WORLD_TENSORS] = {{&w, WORLD_HIDDEN * sizeof(float)},
                                         {&w, WORLD_HIDDEN * sizeof(float)}};
    world_open(&w, 1, 1);
    w.config.num_slots = WORLD_EXPERTS;
    rank *r = &w.ranks[0];
    eep_config config = w.config;
    cr_assert_eq(eep_device_open("host", 0, &r->device), EEP_OK);
    cr_assert_eq(eep_stream_open(r->device, &r->stream), EEP_OK);
    config.rank = 0;
    config.device = r->device;
    cr_assert_eq(eep_open(&config, r->error, sizeof r->error, &r->context), EEP_OK, "%s", r->error);
    rank_expect_state(r, eep_join(r->context), "join without a graph");
    rank_expect_state(r, eep_step_begin(r->context, 0, &step), "begin before join");
    rank_expect_state(r, eep_step_end(r->context), "end before join");
    rank_expect_state(r, eep_step_wait(r->context, 0), "wait before join");
    rank_expect_state(r, eep_drain(r->context), "drain before join");
    int32_t number = 0;
    _Alignas(16) float row[WORLD_HIDDEN];
    eep_combine_args combine = {.struct_bytes = sizeof combine,
                                .rows = row,
                                .topk_weights = row,
                                .num_tokens = &number,
                                .out = row};
    rank_expect_state(r, eep_combine(r->context, 0, r->stream, &combine),
                      "combine before dispatch");
    cr_expect_eq(eep_combine(r->context, WORLD_LAYERS, r->stream, &combine), EEP_ERR_INVALID);
    eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                  .x = row,
                                  .num_tokens = &number,
                                  .rows = row,
                                  .slot_begin = &number};
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    dispatch.topk_idx = &number;
    dispatch.row_scales = row;
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "without fp8_dispatch"), "%s",
              eep_last_error(r->context));
    dispatch.row_scales = NULL;
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(eep_step_latch(r->context, r->stream), EEP_OK);
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "eep_memory_register"), "%s",
              eep_last_error(r->context));
    cr_expect_eq(eep_capture_end(r->stream, &r->graph), EEP_ERR_INVALID);
    dispatch.rows = (uint8_t *)row + 4;
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "16 bytes"), "%s", eep_last_error(r->context));
    cr_expect_eq(eep_slot_set(r->context, 0, WORLD_EXPERTS, tensors, 2), EEP_ERR_INVALID);
    cr_expect_eq(eep_slot_set(r->context, 0, 0, tensors, EEP_MAX_TENSORS + 1), EEP_ERR_INVALID);
    rank_expect_state(r, eep_join(r->context), "join behind a node that failed");
    cr_expect(strstr(eep_last_error(r->context), "broken off"), "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_stream(r->context, r->stream), EEP_OK);
    rank_expect_state(r, eep_join(r->context), "join without weights");
    cr_expect(strstr(eep_last_error(r->context), "layer 0 slot 0"), "%s",
              eep_last_error(r->context));
    world_close(&w);
}

/* A graph must be one whole step: what else comes is refused, by names. */
Test(context_refused, a_part_of_a_step_is_no_graph)
{
    static const struct {
        const char *nodes, *says;
    } refused[] = {
        {"D0", "eep_dispatch of layer 0 came where eep_step_latch was expected"},
        {"F", "eep_step_finish came where eep_step_latch was expected"},
        {"L C0", "eep_combine of layer 0 came where eep_dispatch of layer 0 was expected"},
        {"L D1", "eep_dispatch of layer 1 came where eep_dispatch of layer 0 was expected"},
        {"L F", "eep_step_finish came where eep_dispatch of layer 0 was expected"},
        {"L D0 D0", "eep_dispatch of layer 0 came where eep_combine of layer 0 was expected"},
        {"L D0 D1", "eep_dispatch of layer 1 came where eep_combine of layer 0 was expected"},
        {"L D0 C0 D0", "eep_dispatch of layer 0 came where eep_dispatch of layer 1 was expected"},
        {"L D0 C0 C0", "eep_combine of layer 0 came where eep_dispatch of layer 1 was expected"},
        {"L D0 C0 F", "eep_step_finish came where eep_dispatch of layer 1 was expected"},
        {"L D0 L", "second eep_step_latch came in one capture"},
        {"L D0 C0 D1 C1 F F", "eep_step_finish came where eep_step_latch was expected"},
        {"L D0 C0 D1 C1 F L", "second eep_step_latch came in one capture"},
    };
    static const char *const cut[] = {"L", "L D0", "L D0 C0", "L D0 C0 D1 C1"};
    world w;
    eep_stream *other;
    eep_graph *graph;
    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_stream_open(r->device, &other), EEP_OK);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int is_whole = strstr(refused[i].nodes, "F") && strlen(refused[i].nodes) > 10;
        cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
        rank_expect_state(r, step_put_nodes(r, refused[i].nodes, r->stream), refused[i].nodes);
        cr_expect(strstr(eep_last_error(r->context), refused[i].says), "%s: %s", refused[i].nodes,
                  eep_last_error(r->context));
        eep_status status = eep_capture_end(r->stream, &graph);
        int is_empty = refused[i].nodes[0] != 'L'; /* nothing of a step is in it */
        cr_expect_eq(status, is_whole || is_empty ? EEP_OK : EEP_ERR_INVALID, "%s: %s",
                     refused[i].nodes, eep_strerror(status));
        if (status == EEP_OK) {
            eep_graph_close(graph);
        }
    }
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
        cr_assert_eq(step_put_nodes(r, cut[i], r->stream), EEP_OK, "%s",
                     eep_last_error(r->context));
        cr_expect_eq(eep_capture_end(r->stream, &graph), EEP_ERR_INVALID, "%s", cut[i]);
        cr_expect(strstr(eep_device_error_text(), "lacks what follows"), "%s",
                  eep_device_error_text());
    }
    rank_expect_state(r, eep_join(r->context), "join with a part of a step");
    cr_expect(strstr(eep_last_error(r->context), "eep_step_finish"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(step_put_nodes(r, "L", r->stream), EEP_OK);
    rank_expect_state(r, step_put_node(r, 'D', 0, other), "a node in another stream");
    cr_expect(strstr(eep_last_error(r->context), "another stream"), "%s",
              eep_last_error(r->context));
    cr_expect_eq(eep_capture_end(r->stream, &graph), EEP_ERR_INVALID);
    cr_assert_eq(eep_join(r->context), EEP_ERR_STATE);
    graph = rank_capture(r); /* and a whole one is as good as ever */
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_expect_eq(rank_step(r, 2), EEP_OK, "%s", r->text);
    eep_graph_close(graph);
    eep_stream_close(other);
    world_close(&w);
}

/* Steps without a graph: the nodes are put while the step runs. */
Test(context_refused, a_step_that_is_put_without_a_graph_must_be_whole)
{
    world w;
    eep_step step = {.struct_bytes = sizeof step};
    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, &step), EEP_OK);
    *r->num_tokens = 0;
    cr_assert_eq(step_put_nodes(r, "L D0 C0 D1 C1 F", r->stream), EEP_OK, "%s",
                 eep_last_error(r->context));
    rank_expect_state(r, step_put_node(r, 'L', 0, r->stream), "a second latch in one step");
    cr_expect_eq(eep_step_end(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, &step), EEP_OK);
    cr_assert_eq(step_put_nodes(r, "L D0 C0", r->stream), EEP_OK, "%s", eep_last_error(r->context));
    rank_expect_state(r, eep_step_end(r->context), "the end of half a step");
    cr_expect(strstr(eep_last_error(r->context), "eep_dispatch of layer 1"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, &step), EEP_OK, "%s",
                 eep_last_error(r->context));
    rank_expect_state(r, eep_step_end(r->context), "the end of a step that was not replayed");
    cr_expect(strstr(eep_last_error(r->context), "no graph of this context"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, &step), EEP_OK);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    eep_status twice = eep_step_end(r->context);
    cr_expect(twice == EEP_OK || strstr(eep_last_error(r->context), "replayed twice"), "%s",
              eep_last_error(r->context));
    cr_expect_eq(rank_step(r, 2), EEP_OK, "%s", r->text);
    world_close(&w);
}

/* A rank that serves captures: on a GPU it may not; on the host no step can begin meanwhile.
 * Returns the captures. */
static uint64_t capture_while_serving(rank *r)
{
    eep_step step = {.struct_bytes = sizeof step};
    eep_graph *graph;

    if (eepi_device_is_discrete(r->device)) {
        cr_expect_eq(eep_capture_begin(r->stream), EEP_ERR_STATE);
        cr_expect(strstr(eep_device_error_text(), "whole device"), "%s", eep_device_error_text());
        return 0;
    }
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    rank_expect_state(r, eep_step_begin(r->context, 0, &step), "begin in a capture");
    cr_expect(strstr(eep_last_error(r->context), "captured"), "%s", eep_last_error(r->context));
    rank_expect_state(r, eep_step_wait(r->context, 0), "wait in a capture");
    rank_expect_state(r, eep_drain(r->context), "drain in a capture");
    cr_assert_eq(eep_capture_end(r->stream, &graph), EEP_OK);
    eep_graph_close(graph);
    return 1;
}

Test(context_refused, calls_in_the_wrong_order_leave_a_running_rank_alone)
{
    world w;
    eep_step step = {.struct_bytes = sizeof step};
    eep_stream *other;
    uint64_t captures;
    eep_tensor tensors[WORLD_TENSORS] = {{&w, WORLD_HIDDEN * sizeof(float)},
                                         {&w, WORLD_HIDDEN * sizeof(float)}};
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS; /* what one rank can hold */
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_stream_open(r->device, &other), EEP_OK);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    rank_expect_state(r, eep_join(r->context), "join twice");
    rank_expect_state(r, eep_step_end(r->context), "end without begin");
    rank_expect_state(r, eep_slot_set(r->context, 0, 0, tensors, WORLD_TENSORS),
                      "weights after join");
    rank_expect_state(r, eep_backup_set(r->context, 0, 0, tensors, WORLD_TENSORS),
                      "backup after join");
    cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    cr_assert_eq(eep_step_begin(r->context, 0, &step), EEP_OK);
    rank_expect_state(r, eep_step_begin(r->context, 0, &step), "begin twice");
    rank_expect_state(r, eep_step_wait(r->context, 0), "wait in a step");
    rank_expect_state(r, eep_step_latch(r->context, other), "another graph in a step");
    rank_expect_state(r, eep_step_stream(r->context, other), "another stream in a step");
    rank_expect_state(r, eep_step_end(r->context), "end without replay");
    /* replayed where libeep does not look */
    cr_assert_eq(eep_step_begin(r->context, 0, &step), EEP_OK);
    cr_expect_eq(eep_graph_replay(r->graph, other), EEP_ERR_STATE);
    cr_expect(strstr(eep_error_text(), "eep_step_stream"), "%s", eep_error_text());
    rank_expect_state(r, eep_step_end(r->context), "end of a step whose replay was refused");
    eep_stream_close(other);
    captures = capture_while_serving(r);
    cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    cr_expect_eq(eep_step_wait(r->context, 0), EEP_ERR_TIMEOUT);
    cr_expect_eq(rank_counters(r).steps_ok, 2u);
    cr_expect_eq(rank_counters(r).captures_after_join, captures);
    world_close(&w);
}
