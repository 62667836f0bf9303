/* SPDX-License-Identifier: Apache-2.0 */
/* What a round of eep-chaos came to: the rows and the summary that eep-run left, held against the
 * faults that were drawn. */
#ifndef EEPX_CHAOS_JUDGE_H
#define EEPX_CHAOS_JUDGE_H

#include "eep/status.h"
#include "experiments/chaos/chaos.h"
#include "experiments/chaos/chaos_drive.h"
#include "experiments/setup/hosts_file.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHAOS_WHY_BYTES = 512 };

/* What became of one fault that was drawn. */
typedef struct chaos_result {
    bool injected; /* false: its rank had ended already */
    int expelled;  /* how many ranks left the view unasked for it, of the signalled generation */
    bool healed;   /* the parts below are known */
    uint32_t generation;
    double time_ms;
    double detect_ms, agree_ms, repair_ms, rerun_ms, pause_ms;
    int num_survivors;
    double weights_bytes;
} chaos_result;

typedef struct chaos_verdict {
    bool good;
    char why[CHAOS_WHY_BYTES]; /* the first violation */
    chaos_result result[CHAOS_MAX_FAULTS];
    double tokens, tokens_wrong, tokens_lost, requests; /* lost: missing or doubled */
    double steps_waiting; /* on a joiner, longer than a step usually takes */
} chaos_verdict;

/* Judge the round by DIR/summary.json and DIR/events.csv; `exit_code` is eep-run's, negative: it
 * was ended by that signal. Pure but for reading the files. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status chaos_judge(const chaos_round *round, const char *dir, int exit_code,
                                      chaos_verdict *verdict_out);
/* The same of a round of several hosts, whose faults were made by chaos_drive(). */
EEP_MUST_CHECK eep_status chaos_judge_hosts(const chaos_round *round, const hosts_file *hosts,
                                            const chaos_driven *driven, const char *dir,
                                            int exit_code, chaos_verdict *verdict_out);
#endif
