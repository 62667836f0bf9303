/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the file of --hosts: how a verb is done to hosts and their network. One runs
 * after the other, in the order in which they were asked for. One thread; no call blocks but
 * host_commands_close. */
#ifndef EEPX_HOST_COMMANDS_H
#define EEPX_HOST_COMMANDS_H

#include "experiments/script/host_names.h"
#include "experiments/setup/hosts_file.h"

#include <stddef.h>
#include <stdint.h>

typedef struct host_commands host_commands;

/* One that has ended. */
typedef struct host_commands_done {
    verb what;
    host_names names;            /* whom it was done to */
    uint64_t began_ns, ended_ns; /* its effect came between the two */
    char why[256];               /* why it failed; "": it did not */
} host_commands_done;

EEP_MUST_CHECK eep_status host_commands_open(const hosts_file *file, host_commands **commands_out);
/* What was disturbed and not mended is mended, as far as the file says how. */
void host_commands_close(host_commands *self);
/* Run the verb's command, with HOSTS, OTHERS and MS in its environment. EEP_ERR_NO_MEMORY: too many
 * wait. */
EEP_MUST_CHECK eep_status host_commands_run(host_commands *self, verb what,
                                            const host_names *names);
/* One has ended: true. Call until false. */
bool host_commands_next(host_commands *self, host_commands_done *done_out);
/* Some run or wait. */
bool host_commands_are_busy(const host_commands *self);
#endif
