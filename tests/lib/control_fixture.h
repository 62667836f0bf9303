/* SPDX-License-Identifier: Apache-2.0 */
/* A control socket in a folder of its own, for the tests of what is asked and of who may ask. */
#ifndef CONTROL_FIXTURE_H
#define CONTROL_FIXTURE_H

#include "experiments/control/control_socket.h"
#include "experiments/control/control_path.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64], path[CONTROL_PATH_BYTES];
static control *self;

static inline void control_set_up(const control_ops *ops, void *owner)
{
    char error[CONTROL_ERROR_BYTES] = "";
    snprintf(dir, sizeof dir, "/tmp/eep-control-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    cr_assert_eq(control_open(path, ops, owner, &self, error), EEP_OK, "%s", error);
}

static inline void control_tear_down(void)
{
    control_close(self, true);
    cr_assert_neq(access(path, F_OK), 0, "the socket file is removed");
    cr_assert_eq(rmdir(dir), 0, "and nothing else is there");
}
#endif
