/* SPDX-License-Identifier: Apache-2.0 */
/* Random faults for eep-chaos --hosts: of ranks, agents, hosts and the network between them, as
 * verbs of eep-ctl. What such a fault expels is not known before, so each is followed by a wait
 * until all seats serve again (chaos_drive.h). Pure: seed, round, mix and hosts determine all. */
#ifndef EEPX_CHAOS_HOSTS_H
#define EEPX_CHAOS_HOSTS_H

#include "experiments/chaos/chaos.h"
#include "experiments/setup/hosts_file.h"

enum { CHAOS_MIX_ERROR_BYTES = 640, CHAOS_NAMES_BYTES = 256 };

/* How often each kind is drawn, beside the others. */
typedef struct chaos_mix {
    double share[NUM_CHAOS_KINDS]; /* 0: never */
} chaos_mix;
extern const chaos_mix chaos_hosts_mix; /* what is drawn unless another one is given */

/* What is known of the hosts. */
typedef struct chaos_hosts {
    const hosts_file *file;
    uint64_t own; /* bit i: host i is the machine of this process, and may not lose its power */
    chaos_mix mix;
} chaos_hosts;

/* "KIND[=SHARE],...": the kinds that are drawn; a share is 1 unless it is given. EEP_ERR_INVALID
 * with a line in `error` (CHAOS_MIX_ERROR_BYTES). */
EEP_MUST_CHECK eep_status chaos_mix_parse(const char *text, chaos_mix *mix_out, char *error);
/* Those hosts of the file whose worker's address is an interface's of this machine. */
uint64_t chaos_hosts_own(const hosts_file *file);
/* Take the kinds that these hosts cannot have out of the mix. `names_out` lists them, with commas;
 * "": there was none. False: no kind is left. */
bool chaos_hosts_fit(chaos_hosts *self, char names_out[CHAOS_NAMES_BYTES]);
/* config->num_ranks is not looked at: the file has it. */
void chaos_hosts_draw(const chaos_config *config, const chaos_hosts *hosts, chaos_round *round_out);
/* The verb by which a kind of hosts is made. */
verb chaos_hosts_verb(chaos_kind kind);
#endif
