/* SPDX-License-Identifier: Apache-2.0 */
/* Find what was installed together with this program. */
#include "experiments/base/program_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int program_dir_path(const char *name, char path_out[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) {
        return -1;
    }
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    if (snprintf(path_out, PATH_MAX, "%s/%s", self, name) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}
