/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of which only one process at a time is the owner, and those whose owner is gone. */
#include "eep/store.h"
#include "experiments/base/folder.h"
#include "experiments/base/private_dir.h"
#include "membership/store/store_client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[64];

static void begin(void)
{
    snprintf(base, sizeof base, "/tmp/eep-test-folder-XXXXXX");
    cr_assert(mkdtemp(base) != NULL);
    setenv("TMPDIR", base, 1);
    unsetenv("XDG_RUNTIME_DIR");
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    cr_assert_eq(system(command), 0);
}

TestSuite(folder, .init = begin, .fini = end, .timeout = 20);

static void touch(const char *dir, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0);
    close(fd);
}

static bool is_there(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return lstat(path, &info) == 0;
}

/* A process that makes a folder with a file in it and is killed, as a launcher is; its path. */
static void leave_one(char path_out[PRIVATE_DIR_BYTES], bool killed, pid_t *pid_out)
{
    int ends[2];
    char error[PRIVATE_DIR_ERROR_BYTES];
    cr_assert_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        private_dir dir;
        bool good = private_dir_make("eep-run", 100, &dir, error) == 0;
        touch(dir.path, "store");
        good = good && write(ends[1], dir.path, sizeof dir.path) == sizeof dir.path;
        pause();
        _exit(good ? 0 : 1);
    }
    cr_assert_eq(read(ends[0], path_out, PRIVATE_DIR_BYTES), PRIVATE_DIR_BYTES);
    close(ends[0]);
    close(ends[1]);
    if (killed) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    *pid_out = pid;
}

Test(folder, has_one_owner_at_a_time)
{
    int held = -1, second = -1;
    cr_assert_eq(folder_hold(base, &held), 0);
    cr_assert_eq(folder_hold(base, &second), -1);
    cr_assert_eq(errno, EWOULDBLOCK);
    folder_release(base, held);
    cr_assert(!is_there(base, FOLDER_HELD), "an owner that ends leaves no file");
    cr_assert_eq(folder_hold(base, &held), 0);
    folder_release(base, held);
}

Test(folder, whose_owner_was_killed_is_free)
{
    int held = -1;
    pid_t pid = fork();
    if (pid == 0) {
        cr_assert_eq(folder_hold(base, &held), 0);
        raise(SIGKILL);
    }
    waitpid(pid, NULL, 0);
    cr_assert(is_there(base, FOLDER_HELD));
    cr_assert_eq(folder_hold(base, &held), 0);
    folder_release(base, held);
}

Test(folder, that_is_not_there_or_no_folder_is_refused)
{
    char path[128];
    int held = -1;
    snprintf(path, sizeof path, "%s/none", base);
    cr_assert_eq(folder_hold(path, &held), -1);
    cr_assert_eq(errno, ENOENT);
    touch(base, "file");
    snprintf(path, sizeof path, "%s/file", base);
    cr_assert_eq(folder_hold(path, &held), -1);
    cr_assert_eq(errno, ENOTDIR);
}

/* A process that makes a folder removes those of killed processes, and no others. */
Test(folder, of_the_killed_are_removed_by_the_next)
{
    char gone[PRIVATE_DIR_BYTES], alive[PRIVATE_DIR_BYTES], other[128];
    char error[PRIVATE_DIR_ERROR_BYTES] = "";
    pid_t dead = 0, living = 0;
    private_dir dir;
    leave_one(gone, true, &dead);
    leave_one(alive, false, &living);
    /* What is no folder of ours: another name, a link to a folder, one that others can enter, one
     * with a folder in it, one of a version that knew no lock. */
    const char *const kept[] = {"eep-run-abcdefg", "eep-other-abcdef", "eep-run-linked",
                                "eep-run-opened",  "eep-run-filled",   "eep-run-before"};
    for (int i = 0; i < 6; i++) {
        snprintf(other, sizeof other, "%s/%s", base, i == 2 ? "target" : kept[i]);
        cr_assert_eq(mkdir(other, 0700), 0);
        touch(other, "store");
        if (i != 5) {
            touch(other, FOLDER_HELD);
        }
    }
    snprintf(other, sizeof other, "%s/eep-run-linked", base);
    cr_assert_eq(symlink("target", other), 0);
    snprintf(other, sizeof other, "%s/eep-run-opened", base);
    cr_assert_eq(chmod(other, 0755), 0);
    snprintf(other, sizeof other, "%s/eep-run-filled/sub", base);
    cr_assert_eq(mkdir(other, 0700), 0);
    cr_assert_eq(private_dir_make("eep-run", 100, &dir, error), 0, "%s", error);
    cr_assert_eq(strncmp(dir.path, base, strlen(base)), 0, "$TMPDIR is used: %s", dir.path);
    cr_assert_neq(access(gone, F_OK), 0, "the killed one's is removed");
    cr_assert(is_there(alive, "store"), "the living one's is not");
    for (int i = 0; i < 6; i++) {
        cr_assert(is_there(base, kept[i]), "%s", kept[i]);
    }
    cr_assert(is_there(base, "target") && is_there(other, ""), "no link and no folder is followed");
    snprintf(other, sizeof other, "%s/target", base);
    cr_assert(is_there(other, "store"));
    private_dir_remove(&dir);
    kill(living, SIGKILL);
    waitpid(living, NULL, 0);
}

/* Many at once: each gets a folder of its own though the others sweep meanwhile. */
Test(folder, are_made_and_swept_at_once)
{
    enum { PROCESSES = 8, ROUNDS = 50 };
    int bad = 0;
    for (int i = 0; i < PROCESSES; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            char error[PRIVATE_DIR_ERROR_BYTES];
            int failed = 0;
            for (int r = 0; r < ROUNDS; r++) {
                private_dir dir;
                failed |= private_dir_make("eep-run", 100, &dir, error);
                touch(dir.path, "store");
                failed |= !is_there(dir.path, "store");
                if (r % 3) { /* else it is left, as by a killed one */
                    char path[PATH_MAX];
                    snprintf(path, sizeof path, "%s/store", dir.path);
                    failed |= unlink(path);
                    private_dir_remove(&dir);
                } else {
                    close(dir.held);
                }
            }
            _exit(failed ? 1 : 0);
        }
    }
    for (int i = 0, state; i < PROCESSES; i++) {
        wait(&state);
        bad += !WIFEXITED(state) || WEXITSTATUS(state) != 0;
    }
    cr_assert_eq(bad, 0, "%d of %d processes failed", bad, (int)PROCESSES);
}

/* As after a plain `su`, which leaves the other user's variables. */
Test(folder, of_another_user_or_open_to_all_is_no_base)
{
    char error[PRIVATE_DIR_ERROR_BYTES] = "";
    private_dir dir;
    setenv("XDG_RUNTIME_DIR", base, 1);
    setenv("TMPDIR", "/nonexistent", 1);
    cr_assert_eq(chmod(base, 0777), 0);
    cr_assert_eq(private_dir_make("eep-run", 100, &dir, error), 0, "%s", error);
    cr_expect_neq(strncmp(dir.path, base, strlen(base)), 0, "open to all: %s", dir.path);
    private_dir_remove(&dir);
    cr_assert_eq(chmod(base, 01777), 0);
    cr_assert_eq(private_dir_make("eep-run", 100, &dir, error), 0, "%s", error);
    cr_expect_eq(strncmp(dir.path, base, strlen(base)), 0, "sticky: %s", dir.path);
    private_dir_remove(&dir);
    cr_assert_eq(chmod(base, 0755), 0);
    if (geteuid() == 0) {
        cr_assert_eq(chown(base, 65534, 65534), 0);
        cr_assert_eq(private_dir_make("eep-run", 100, &dir, error), 0, "%s", error);
        cr_expect_neq(strncmp(dir.path, base, strlen(base)), 0, "of another: %s", dir.path);
        private_dir_remove(&dir);
    }
}

enum { NOBODY = 65534, SHORT = 40 };

/* `base` is another user's, and shows the number of this one. 0: it is refused, 2: no such user
 * namespace can be made. */
static int look_as_anybody(void)
{
    static const char map[] = "65534 0 1";
    char why[FOLDER_WHY_BYTES] = "";
    struct stat info;
    int fd = chown(base, 1, 1) == 0 && unshare(CLONE_NEWUSER) == 0
                 ? open("/proc/self/uid_map", O_WRONLY)
                 : -1;
    if (fd < 0 || write(fd, map, sizeof map - 1) < 0) {
        return 2;
    }
    return stat(base, &info) != 0 || info.st_uid != geteuid() || folder_is_trusted(&info, why) ||
           folder_takes_results(&info, false, why) || !strstr(why, "does not map");
}

Test(folder, the_number_of_all_who_are_not_mapped_is_nobody_s)
{
    int status = 0;
    if (geteuid() != 0) {
        cr_skip_test("only root can give a folder to another user");
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(look_as_anybody());
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(chown(base, 0, 0), 0);
    cr_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2) {
        cr_skip_test("no user namespace can be made here");
    }
    cr_expect_eq(WEXITSTATUS(status), 0);
}

/* A folder below `base`, which is the only one: all others are too long, since it is named by a
 * descriptor. Then somebody renames it and puts his own in its place, as he may in such a base. In
 * a process of its own; NULL: all is well. */
static const char *be_robbed_in_an_open_base(void)
{
    static const char prefix[] = "eep-test-of-a-prefix-that-is-long";
    static char error[PRIVATE_DIR_ERROR_BYTES], why[256];
    char away[2 * PRIVATE_DIR_BYTES], path[2 * PRIVATE_DIR_BYTES];
    struct stat info;
    private_dir dir;
    eep_store *store;
    if (private_dir_make(prefix, SHORT, &dir, error) != 0) {
        return error;
    }
    if (strncmp(dir.made, base, strlen(base)) != 0 || lstat(dir.made, &info) != 0 ||
        !S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 0777) != 0700) {
        return "it is no private folder in its base";
    }
    snprintf(away, sizeof away, "%s-away", dir.made);
    if (rename(dir.made, away) != 0 || mkdir(dir.made, 0700) != 0) {
        return "it cannot be renamed";
    }
    snprintf(path, sizeof path, "%s/store", dir.path);
    if (eep_store_open(path, why, sizeof why, &store) != EEP_OK) {
        return why;
    }
    if (!is_there(away, "store") || is_there(dir.made, "store")) {
        return "the store is in the other folder";
    }
    pid_t rank = fork();
    if (rank == 0) {
        eepi_store_client *client;
        bool good = eepi_store_client_open(path, 5000000, &client) == EEP_OK;
        _exit(good ? 0 : 1);
    }
    int status = 1;
    waitpid(rank, &status, 0);
    eep_store_close(store);
    if (status != 0) {
        return "another process cannot reach the store";
    }
    if (!is_there(away, FOLDER_HELD) || rmdir(dir.made) != 0 || rename(away, dir.made) != 0) {
        return "its lock is elsewhere";
    }
    snprintf(away, sizeof away, "%s", dir.made);
    private_dir_remove(&dir);
    return is_there(away, "") ? "it is left" : NULL;
}

/* A volume of a container: root's, and all may write into it. */
static void open_to_all(int mode, uid_t user)
{
    int ends[2];
    char why[PRIVATE_DIR_ERROR_BYTES] = "";
    umask(022);
    cr_assert_eq(chmod(base, (mode_t)mode), 0);
    cr_assert_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        const char *wrong = "no other user can be had";
        if (!user || (setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0)) {
            prctl(PR_SET_DUMPABLE, 1); /* a program that is started by that user is so */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            wrong = be_robbed_in_an_open_base();
        }
        _exit(!wrong || write(ends[1], wrong, strlen(wrong)) > 0 ? 0 : 1);
    }
    close(ends[1]);
    (void)!read(ends[0], why, sizeof why - 1);
    close(ends[0]);
    waitpid(pid, NULL, 0);
    cr_expect_str_eq(why, "", "mode %04o, user %u: %s", mode, (unsigned)user, why);
}

Test(folder, in_a_volume_that_is_the_only_base_is_safe_from_who_may_rename_it)
{
    unsetenv("XDG_RUNTIME_DIR");
    open_to_all(0777, 0);
    open_to_all(02777, 0);
    open_to_all(02775, 0);
    if (geteuid() == 0) {
        open_to_all(0777, NOBODY);
        open_to_all(02777, NOBODY);
    }
}

/* In such a base another may give the name of a killed run's folder to one of ours with results. */
Test(folder, with_other_files_in_it_is_not_emptied)
{
    char path[128], error[PRIVATE_DIR_ERROR_BYTES] = "";
    private_dir dir;
    snprintf(path, sizeof path, "%s/eep-run-abcdef", base);
    cr_assert_eq(mkdir(path, 0700), 0);
    touch(path, FOLDER_HELD);
    touch(path, "summary.json");
    touch(path, "store.seat0");
    cr_assert_eq(private_dir_make("eep-run", 100, &dir, error), 0, "%s", error);
    cr_expect(is_there(path, "summary.json"));
    cr_expect(!is_there(path, "store.seat0"));
    private_dir_remove(&dir);
}

/* A user who can read the folder must not be able to hold its lock. */
Test(folder, has_a_lock_that_only_its_owner_can_open)
{
    char path[PATH_MAX];
    struct stat info;
    int held = -1;
    umask(0);
    cr_assert_eq(folder_hold(base, &held), 0);
    snprintf(path, sizeof path, "%s/" FOLDER_HELD, base);
    cr_assert_eq(stat(path, &info), 0);
    cr_expect_eq(info.st_mode & 0777, 0600);
    folder_release(base, held);
}

/* A umask of 0 is usual where a build runs in a container. */
Test(folder, that_was_made_without_a_umask_is_safe)
{
    char path[PATH_MAX], why[FOLDER_WHY_BYTES] = "";
    struct stat info;
    umask(0);
    snprintf(path, sizeof path, "%s/new/below", base);
    cr_assert_eq(folder_make(path), 0);
    cr_assert_eq(stat(path, &info), 0);
    cr_expect(folder_takes_results(&info, false, why), "%s", why);
}

Test(folder, that_cannot_be_made_is_said_with_all_that_was_tried)
{
    char error[PRIVATE_DIR_ERROR_BYTES] = "";
    private_dir dir;
    setenv("XDG_RUNTIME_DIR", "/nonexistent/x", 1);
    setenv("TMPDIR", "/no", 1);
    cr_assert_eq(private_dir_make("eep-run-with-a-long-name", 35, &dir, error), -1);
    cr_assert(strstr(error, "$XDG_RUNTIME_DIR /nonexistent/x: File name too long"), "%s", error);
    cr_assert(strstr(error, "$TMPDIR /no: No such file"), "%s", error);
    cr_assert(strstr(error, "; /tmp: File name too long"), "%s", error);
    cr_assert(strstr(error, "set TMPDIR to a folder of yours"), "%s", error);
    cr_assert_eq(dir.path[0], '\0');
    private_dir_remove(&dir);
}

/* Nobody writes into the FIFO, so an open that waits would wait for ever. */
Test(folder, a_fifo_in_place_of_the_lock_is_refused_at_once)
{
    char path[PATH_MAX];
    int held = -1;
    snprintf(path, sizeof path, "%s/" FOLDER_HELD, base);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_eq(folder_hold(base, &held), -1);
    cr_expect_eq(errno, EINVAL, "%s", strerror(errno));
    cr_expect_str_eq(folder_hold_error(errno), "'.held' in it is no regular file");
    cr_expect_eq(held, -1);
    cr_expect(is_there(base, FOLDER_HELD), "somebody else's FIFO was removed");
}

/* A user who may rename a parent of the base may put another base there. */
Test(folder, below_one_that_others_may_rename_is_not_used_by_name)
{
    static const struct {
        int mode;
        uid_t user;
        bool by_name, is_open;
    } cases[] = {{0755, 0, true, false},      {01777, 0, true, false},
                 {0777, 0, false, true},      {02775, 0, false, false},
                 {0755, NOBODY, false, true}, {01777, NOBODY, false, true}};
    char error[PRIVATE_DIR_ERROR_BYTES] = "", vol[80], mine[96], link[80];
    private_dir dir;
    snprintf(vol, sizeof vol, "%s/vol", base);
    snprintf(mine, sizeof mine, "%s/mine", vol);
    snprintf(link, sizeof link, "%s/link", base);
    cr_assert(mkdir(vol, 0755) == 0 && mkdir(mine, 0755) == 0 && symlink("vol/./mine", link) == 0);
    unsetenv("XDG_RUNTIME_DIR");
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        const char *named = i % 2 ? link : mine;
        if (cases[i / 2].user && geteuid() != 0) {
            continue;
        }
        cr_assert(!cases[i / 2].user || chown(vol, cases[i / 2].user, (gid_t)-1) == 0);
        cr_assert_eq(chmod(vol, (mode_t)cases[i / 2].mode), 0);
        setenv("TMPDIR", named, 1);
        cr_assert_eq(private_dir_make("eep-run", 100, &dir, error), 0, "%s", error);
        cr_expect_eq(strncmp(dir.path, named, strlen(named)) == 0, cases[i / 2].by_name, "%zu: %s",
                     i, dir.path);
        cr_expect_eq(strncmp(dir.made, named, strlen(named)) == 0, !cases[i / 2].is_open, "%zu: %s",
                     i, dir.made); /* /tmp goes before those that are open to all */
        private_dir_remove(&dir);
    }
    if (geteuid() == 0) {
        cr_assert(chown(vol, 0, 0) == 0 && chmod(vol, 0755) == 0);
        cr_assert_eq(lchown(link, NOBODY, NOBODY), 0);
        cr_expect_eq(folder_way_to(link), FOLDER_WAY_OPEN, "a link of another user");
    }
}
