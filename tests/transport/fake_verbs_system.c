/* SPDX-License-Identifier: Apache-2.0 */
/* For programs that are to see two RDMA devices, of which the second one's port is down. */
#include "tests/transport/fake_verbs.h"

#include <infiniband/verbs.h>

const eepi_verbs *eepi_verbs_system(void)
{
    fake_verbs_begin(2, 1);
    fake_verbs_set(1, 1, IBV_PORT_DOWN, 1, 1);
    return fake_verbs();
}
