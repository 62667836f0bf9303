/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels do with input that they cannot use: it is named, and harms nobody else. */
#include "tests/lib/world/kernel_check.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ bad input */

typedef struct bad_case {
    int32_t num_tokens, expert; /* expert -2: leave, else goes to (token 2, k 1) */
    uint32_t kind, token, k;
    int32_t value;
} bad_case;

/* The offender is named, it alone has no result, and its peers' are those without its tokens. */
Test(kernels, bad_input_is_named_and_harms_nobody)
{
    const moe_shape shape = {3, 2, 6, 4, 2, 8, 5, EEP_FP32, EEP_FP32, 0};
    const bad_case cases[] = {{5, 6, EEPK_INPUT_TOPK, 2, 1, 6},
                              {5, INT32_MAX, EEPK_INPUT_TOPK, 2, 1, INT32_MAX},
                              {5, -3, EEPK_INPUT_TOPK, 2, 1, -3},
                              {5, INT32_MIN, EEPK_INPUT_TOPK, 2, 1, INT32_MIN},
                              {5, 0, EEPK_INPUT_TWICE, 2, 1, 0},
                              {6, -2, EEPK_INPUT_TOKENS, 0, 0, 6},
                              {-1, -2, EEPK_INPUT_TOKENS, 0, 0, -1},
                              {INT32_MAX, -2, EEPK_INPUT_TOKENS, 0, 0, INT32_MAX},
                              {INT32_MIN, -2, EEPK_INPUT_TOKENS, 0, 0, INT32_MIN}};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t step = 0;

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, kernel_first_seed()));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kernel_layer *l = &w->rank[1].layer[0];
        const eepk_status *status = eepi_tables_status(w->rank[1].tables);
        kernel_world_fill(w, kernel_first_seed() + i);
        w->rank[1].num_tokens = 5;
        for (int pair = 0; pair < 10; pair++) {
            l->topk_idx[pair] = pair % 2;
        }
        l->topk_idx[4] = 0; /* (token 2, k 0), twice with case 4 */
        if (cases[i].expert != -2) {
            l->topk_idx[5] = cases[i].expert;
        }
        w->rank[1].num_tokens = cases[i].num_tokens;
        kernel_world_step(w, ++step);
        cr_assert_eq(status->bad_input, cases[i].kind, "case %zu", i);
        cr_assert_eq(status->bad_token, cases[i].token);
        cr_assert_eq(status->bad_k, cases[i].k);
        cr_assert_eq(status->bad_value, cases[i].value);
        cr_assert_eq(status->bad_layer, 0);
        cr_assert_eq(status->num_bad, cases[i].kind == EEPK_INPUT_TOKENS ? 0 : 1);
        cr_assert_eq(status->result, EEPK_STEP_OK);
        cr_assert(kernel_out_untouched(w, 1, 0) && kernel_out_untouched(w, 1, 1));
        for (int seat = 0; seat < 3; seat += 2) {
            const eepk_status *peer = eepi_tables_status(w->rank[seat].tables);
            cr_assert(peer->result == EEPK_STEP_OK && !peer->bad_input);
            cr_assert_lt(kernel_rank_compare(w, seat, false), 0, "case %zu, seat %d", i, seat);
        }
    }
    kernel_world_fill(w, 1); /* the next good step is good */
    kernel_check_step(w, ++step, kernel_first_seed());
    kernel_world_close(w);
}

Test(kernels, an_uncovered_expert_is_named)
{
    const moe_shape shape = {2, 1, 3, 2, 1, 4, 2, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 1);
    eepi_view *view = kernel_view(w, 1, 3, 1, kernel_first_seed());
    const eepk_status *status = eepi_tables_status(w->rank[0].tables);

    for (int i = 0; i < 4; i++) {
        eepi_view_slot *slot = eepi_view_slot_at(view, 0, i / 2, i % 2);
        if (slot->expert == 1) {
            slot->state = EEPI_SLOT_FILLING;
        }
    }
    eepi_view_seal(view);
    kernel_world_switch(w, view);
    kernel_world_fill(w, 1);
    for (int seat = 0; seat < 2; seat++) {
        w->rank[seat].num_tokens = 2;
        for (int i = 0; i < 8; i++) {
            ((float *)w->rank[seat].layer[0].x)[i] = 1.0f;
        }
        for (int i = 0; i < 2; i++) {
            w->rank[seat].layer[0].topk_idx[i] = seat == 0 ? i : 2;
            w->rank[seat].layer[0].topk_weights[i] = 1.0f;
        }
    }
    kernel_world_step(w, 1);
    cr_assert_eq(status->bad_input, EEPK_INPUT_UNCOVERED);
    cr_assert(status->bad_token == 1 && status->bad_k == 0 && status->bad_value == 1);
    cr_assert_lt(kernel_rank_compare(w, 1, false), 0);
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ tables */

/* Rules T2, T3: only the staged and agreed view goes live, once. */
Test(kernels, only_the_agreed_view_goes_live)
{
    const moe_shape shape = {2, 1, 2, 2, 1, 4, 2, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 1);
    kernel_rank *r = &w->rank[0];
    eepi_view *view = kernel_view(w, 2, 3, 1, 1);
    const eepk_bank_header *header;

    kernel_world_switch(w, kernel_view(w, 1, 3, 1, 2));
    header = (const eepk_bank_header *)r->world->bank[1 - r->world->control->live_bank];
    cr_assert_eq(eepi_tables_staged(r->tables), 0);
    cr_assert_eq(eepi_tables_flip(r->tables, r->stream, 2, view->digest), EEP_ERR_STATE);
    kernel_rank_switch(w, 0, view); /* stages and flips */
    cr_assert_eq(header->epoch, 2);
    cr_assert_eq(r->world->control->flip_refused, 0);
    cr_assert_eq(eepi_tables_flip(r->tables, r->stream, 2, view->digest), EEP_ERR_STATE, "once");
    /* a flip of a bank that holds another view is refused on the device itself */
    for (int wrong = 0; wrong < 2; wrong++) {
        const eepk_flip_args args = {r->world, 1 + (uint64_t)wrong, view->digest,
                                     1 - r->world->control->live_bank, 0};
        uint32_t live = r->world->control->live_bank;
        eepi_host_kernels[EEPI_KERNEL_flip].host(&args, (eep_grid){0, 1, 0, 1});
        cr_assert_eq(r->world->control->live_bank, live);
        cr_assert_eq(r->world->control->flip_refused, (uint64_t)wrong + 1);
    }
    free(view);
    kernel_world_close(w);
}
