/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of files leave the cache when asked to, where the file system has a disk. */
#include "experiments/base/page_cache.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static const long TMPFS = 0x01021994; /* its files have no other place than the cache */

static char dir[64], path[96], below[96];

static void make_files(void)
{
    snprintf(dir, sizeof dir, "/tmp/eep-test-pages-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(below, sizeof below, "%s/folder", dir);
    cr_assert_eq(mkdir(below, 0700), 0);
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    for (int i = 0; i < 1 << 20; i++) {
        fputc('x', file);
    }
    cr_assert_eq(fclose(file), 0);
}

static void remove_files(void)
{
    unlink(path);
    rmdir(below);
    rmdir(dir);
}

Test(page_cache, files_that_were_just_written_are_in_it_and_can_be_dropped)
{
    struct statfs kind;
    make_files();
    cr_assert_eq(statfs(dir, &kind), 0);
    cr_expect_float_eq(page_cache_share(dir), 1, 1e-9);
    cr_expect_eq(page_cache_drop(dir), 0, "%s", strerror(errno));
    double left = page_cache_share(dir);
    if ((long)kind.f_type != TMPFS) {
        cr_expect_lt(left, 0.1, "%.3f of the pages are left", left);
    }
    remove_files();
}

Test(page_cache, a_folder_that_is_not_there_is_told)
{
    cr_expect_eq(page_cache_drop("/tmp/eep-test-none/there"), -1);
    cr_expect_eq(errno, ENOENT);
    cr_expect_lt(page_cache_share("/tmp/eep-test-none/there"), 0);
    cr_expect_eq(errno, ENOENT);
}
