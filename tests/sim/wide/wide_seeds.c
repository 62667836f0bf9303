/* SPDX-License-Identifier: Apache-2.0 */
/* Many wide histories, and what they cost. */
#include "tests/sim/wide/wide.h"

#include "experiments/base/monotonic.h"
#include "experiments/base/output.h"

#include <stdio.h>

typedef struct totals {
    uint64_t seeds, failed, kills, views, messages, bytes, documents, document_bytes, longest_us;
    double most_each; /* messages per rank and fault or view, the most of a history */
    int most_ranks;
} totals;

static void add(totals *t, const wide_cost *cost)
{
    const int each = cost->num_kills + cost->num_views;
    const double messages =
        each ? (double)cost->messages / ((double)cost->num_ranks * (double)each) : 0;

    t->kills += (uint64_t)cost->num_kills;
    t->views += (uint64_t)cost->num_views;
    t->messages += cost->messages;
    t->bytes += cost->bytes;
    t->documents += cost->documents;
    t->document_bytes += cost->document_bytes;
    t->longest_us = cost->agreed_us > t->longest_us ? cost->agreed_us : t->longest_us;
    t->most_each = messages > t->most_each ? messages : t->most_each;
    t->most_ranks = cost->num_ranks > t->most_ranks ? cost->num_ranks : t->most_ranks;
}

int wide_run_seeds(const wide_options *options, uint64_t first, uint64_t last, bool goes_on)
{
    const double begin_s = now_s();
    wide_options one = *options;
    totals t = {0};

    for (uint64_t seed = first; seed <= last && !output_is_lost(); seed++) {
        wide_cost cost;
        one.seed = seed;
        t.seeds++;
        if (!wide_run(&one, &cost)) {
            t.failed++;
            if (!goes_on) {
                break;
            }
        }
        add(&t, &cost);
        if (one.num_hosts) {
            wide_print_row(&one, &cost);
        }
    }
    if (one.num_hosts) {
        return t.failed != 0;
    }
    printf("eep-sim --wide: %llu seeds, %llu failed, %.1f seeds/s, up to %d ranks; %llu faults, "
           "%llu views, agreed after %.1f ms at most; %llu messages of %llu bytes and %llu views "
           "of %llu bytes; at most %.1f messages per rank for each fault and view\n",
           (unsigned long long)t.seeds, (unsigned long long)t.failed,
           (double)t.seeds / (now_s() - begin_s), t.most_ranks, (unsigned long long)t.kills,
           (unsigned long long)t.views, (double)t.longest_us * 1e-3, (unsigned long long)t.messages,
           (unsigned long long)t.bytes, (unsigned long long)t.documents,
           (unsigned long long)t.document_bytes, t.most_each);
    return t.failed != 0;
}
