/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that is compiled anew for each commit. meson makes the header. */
#include "experiments/base/commit.h"

#ifdef EEP_COMMIT_HEADER
#include EEP_COMMIT_HEADER
#else
#define EEP_COMMIT "unknown"
#endif

const char *commit_text(void)
{
    return EEP_COMMIT;
}
