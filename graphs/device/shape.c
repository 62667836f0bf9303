/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and offsets of a configuration: what is possible, and where everything lies. */
#include "graphs/device/tables.h"

#include "graphs/device/table_sizes.h"
#include "eep/shapes.h"
#include "graphs/base/public_call.h"

enum { MAX_TOKENS = 65535 }; /* of a rank in one exchange: an ordinal has 16 bits */
static_assert((int)EEP_MAX_SHAPES == (int)EEPK_MAX_SHAPES &&
                  (int)EEP_MAX_EXCHANGES == (1 << EEPK_TAG_EXCHANGE_BITS) - 1,
              "what a tag has room for");

enum { NO_SHAPE = -1 };

/* The first shape that is not possible, with a text; NO_SHAPE: all are. */
static int bad_shape(const eep_config *c)
{
    const int64_t per_chunk = (int64_t)c->num_layers * (c->num_chains ? c->num_chains : 1);
    int64_t chunks = 1;

    for (int32_t i = 0; i < c->num_shapes; i++) {
        const eep_shape *of = &c->shapes[i];
        if (of->num_chunks < 1 || of->num_chunks > EEP_MAX_CHUNKS) {
            (void)!eepi_refuse(EEP_ERR_INVALID,
                               "num_chunks of shape %d is %d: 1 to %d are possible", i + 1,
                               of->num_chunks, EEP_MAX_CHUNKS);
            return i;
        }
        if (of->max_tokens < of->num_chunks || of->max_tokens > MAX_TOKENS * of->num_chunks) {
            (void)!eepi_refuse(EEP_ERR_INVALID,
                               "max_tokens of shape %d is %d: %d to %d are possible (rows per "
                               "step, in %d chunks)",
                               i + 1, of->max_tokens, of->num_chunks, MAX_TOKENS * of->num_chunks,
                               of->num_chunks);
            return i;
        }
        chunks += of->num_chunks;
        if (chunks * per_chunk > EEP_MAX_EXCHANGES) {
            (void)!eepi_refuse(EEP_ERR_INVALID,
                               "shapes 0 to %d have %lld chunks, which are %lld exchanges with "
                               "num_layers and num_chains: %d are possible",
                               i + 1, (long long)chunks, (long long)(chunks * per_chunk),
                               EEP_MAX_EXCHANGES);
            return i;
        }
    }
    return NO_SHAPE;
}

/* A text of this thread's; NULL: all fields are possible. */
static const char *bad_field(const eep_config *c)
{
    const struct {
        const char *name;
        int64_t value, least, most;
        const char *why;
    } fields[] = {
        {"max_ranks", c->max_ranks, 1, EEP_MAX_RANKS, "seats of the instance"},
        {"num_ranks", c->num_ranks, 1, c->max_ranks, "max_ranks is the most; see also EEP_SIZE"},
        {"rank", c->rank, 0, c->max_ranks - 1,
         "below max_ranks; see also EEP_RANK and docs/DEPLOY.md"},
        {"num_layers", c->num_layers, 1, EEP_MAX_LAYERS, "MoE layers"},
        {"num_experts", c->num_experts, 1, EEP_MAX_EXPERTS, "logical experts per layer"},
        {"num_slots", c->num_slots, 1, EEPK_NO_SLOT - 1, "expert slots of a rank per layer"},
        {"top_k", c->top_k, 1, c->num_experts < EEP_MAX_TOPK ? c->num_experts : EEP_MAX_TOPK,
         "at most num_experts"},
        {"hidden", c->hidden, 1, 1 << 20, "elements per row"},
        {"num_max_tokens_per_rank", c->num_max_tokens_per_rank, 1, MAX_TOKENS, "rows per step"},
        {"dtype", (int64_t)c->dtype, EEP_FP32, EEP_BF16, "EEP_FP32 or EEP_BF16"},
        {"fp8_dispatch", c->fp8_dispatch, EEP_FP8_NONE, EEP_FP8_POWERS, "eep_fp8_kind"},
        {"num_chains", c->num_chains, 0, c->num_layers > EEP_MAX_LAYERS / 2 ? 1 : EEPK_MAX_CHAINS,
         "micro-batches of a step; num_layers x num_chains is at most 255"},
        {"num_shapes", c->num_shapes, 0, c->shapes ? EEPK_MAX_SHAPES - 1 : 0,
         "elements of shapes, which is not NULL then"},
    };

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].value >= fields[i].least && fields[i].value <= fields[i].most) {
            continue;
        }
        (void)!eepi_refuse(EEP_ERR_INVALID, "%s is %lld: %lld to %lld are possible (%s)",
                           fields[i].name, (long long)fields[i].value, (long long)fields[i].least,
                           (long long)fields[i].most, fields[i].why);
        return eep_error_text();
    }
    return bad_shape(c) == NO_SHAPE ? NULL : eep_error_text();
}

/* Shape 0 is the config's own; the largest chunk of all is what windows have room for. */
static void make_shapes(const eep_config *c, eepk_shape *s)
{
    uint32_t next = 0;

    s->num_shapes = 1 + (uint32_t)c->num_shapes;
    for (uint32_t i = 0; i < s->num_shapes; i++) {
        const eep_shape of = i == 0 ? (eep_shape){c->num_max_tokens_per_rank, 1} : c->shapes[i - 1];
        const uint32_t chunks = (uint32_t)of.num_chunks;
        const uint32_t tokens = ((uint32_t)of.max_tokens + chunks - 1) / chunks;
        s->shapes[i] = (eepk_step_shape){tokens, chunks, next, 0};
        next += chunks * s->num_layers * s->num_chains;
        s->num_max_tokens = tokens > s->num_max_tokens ? tokens : s->num_max_tokens;
    }
}

eep_status eepi_shape_make(const eep_config *config, eepk_shape *shape_out, const char **why_out)
{
    eepk_shape s = {0};
    uint64_t at, sources; /* lines of each chain and source */

    *why_out = bad_field(config);
    if (*why_out) {
        return EEP_ERR_INVALID;
    }
    s.max_ranks = (uint32_t)config->max_ranks;
    s.num_layers = (uint32_t)config->num_layers;
    s.num_experts = (uint32_t)config->num_experts;
    s.num_slots = (uint32_t)config->num_slots;
    s.top_k = (uint32_t)config->top_k;
    s.hidden = (uint32_t)config->hidden;
    s.dtype = (uint32_t)config->dtype;
    s.self = (uint32_t)config->rank;
    s.row_bytes = s.hidden * (uint32_t)eep_dtype_bytes(config->dtype);
    s.num_chains = config->num_chains ? (uint32_t)config->num_chains : 1;
    make_shapes(config, &s);
    sources = (uint64_t)s.num_chains * s.max_ranks;
    s.dispatch_row_bytes = s.row_bytes;
    if (config->fp8_dispatch) {
        s.scale_powers = config->fp8_dispatch == EEP_FP8_POWERS;
        s.num_scales = (s.hidden + EEP_FP8_GROUP - 1) / EEP_FP8_GROUP;
        s.dispatch_row_bytes = (s.hidden + 15) / 16 * 16 + (s.num_scales + 3) / 4 * 16;
    }
    s.header_bytes =
        (uint32_t)eepi_line_up(sizeof(eepk_source_header) + s.num_slots * sizeof(uint32_t));
    s.rows_capacity = s.max_ranks * s.num_max_tokens * eepk_rows_per_token(&s);

    at = sizeof(eepk_window_header);
    s.off_dispatch_tag = at;
    at += sources * EEPK_LINE_BYTES;
    s.off_combine_tag = at;
    at += sources * EEPK_LINE_BYTES;
    s.off_abort = at;
    at += (uint64_t)s.max_ranks * EEPK_LINE_BYTES;
    s.off_header = at;
    at += sources * s.header_bytes;
    s.off_list = at;
    at = eepi_line_up(at + sources * s.num_max_tokens * s.top_k * sizeof(eepk_list_entry));
    s.off_dispatch = at;
    at = eepi_line_up(at + sources * s.num_max_tokens * s.dispatch_row_bytes);
    s.off_combine = at;
    s.window_bytes =
        eepi_line_up(at + (uint64_t)s.num_chains * s.num_max_tokens * s.top_k * s.row_bytes);

    at = sizeof(eepk_bank_header);
    s.bank_off_generation = at;
    at = eepi_line_up(at + s.max_ranks * sizeof(uint32_t));
    s.bank_off_peer = at;
    at = eepi_line_up(at + s.max_ranks * sizeof(eepk_peer));
    s.bank_off_first = at;
    at = eepi_line_up(at + (uint64_t)s.num_layers * (s.num_experts + 1) * sizeof(uint32_t));
    s.bank_off_replica = at;
    at = eepi_line_up(at + eepi_all_slots(&s) * sizeof(eepk_replica));
    s.bank_off_slot_expert = at;
    s.bank_bytes = eepi_line_up(at + eepi_all_slots(&s) * sizeof(uint16_t));
    *shape_out = s;
    return EEP_OK;
}

eep_status eep_window_sizes_get(const eep_config *config, eep_window_sizes *sizes_out)
{
    eep_window_sizes sizes = {0};
    eep_config c = {0};
    eepk_shape s;
    const char *why;
    eep_status status = EEPI_STRUCT_TAKE(eep_config, &c, config);

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_window_sizes, sizes_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (c.max_ranks == 0) {
        c.max_ranks = c.num_ranks;
    }
    c.rank = 0; /* all windows are alike */
    status = eepi_shape_make(&c, &s, &why);
    if (status != EEP_OK) {
        return eepi_refuse(status, "eep_window_sizes_get: %s", why);
    }
    sizes.control_bytes = EEPK_COLOURS * s.off_list;
    sizes.dispatch_bytes = EEPK_COLOURS * (s.off_combine - s.off_list);
    sizes.combine_bytes = EEPK_COLOURS * (s.window_bytes - s.off_combine);
    EEPI_STRUCT_GIVE(eep_window_sizes, sizes_out, &sizes);
    return EEP_OK;
}

size_t eep_dtype_bytes(eep_dtype dtype)
{
    return dtype == EEP_FP32 ? 4 : dtype == EEP_BF16 ? 2 : 0;
}
