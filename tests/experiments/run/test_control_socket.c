/* SPDX-License-Identifier: Apache-2.0 */
/* Where the control socket is, who gets it, and whom its clients believe. */
#include "experiments/control/control_socket.h"
#include "experiments/control/control_client.h"
#include "experiments/control/control_path.h"
#include "tests/lib/foreign.h"
#include "tests/lib/control_fixture.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int owner;
static const control_ops ops = {0}; /* nothing is asked */

static void set_up(void)
{
    control_set_up(&ops, &owner);
}

TestSuite(control_socket, .init = set_up, .fini = control_tear_down, .timeout = 100);

Test(control_socket, the_socket_is_private_and_stale_ones_are_replaced)
{
    char error[CONTROL_ERROR_BYTES] = "", other[CONTROL_PATH_BYTES];
    struct stat info;
    control *second = NULL;
    cr_assert_eq(stat(path, &info), 0);
    cr_assert_eq(info.st_mode, S_IFSOCK | 0600);
    cr_assert_eq(control_open(path, &ops, &owner, &second, error), EEP_ERR_CONFLICT);
    cr_assert(strstr(error, "another run") && strstr(error, path), "%s", error);
    snprintf(other, sizeof other, "%s/f", dir);
    FILE *file = fopen(other, "w");
    fclose(file);
    cr_assert_eq(control_open(other, &ops, &owner, &second, error), EEP_ERR_INVALID);
    cr_assert(strstr(error, "not a socket"), "%s", error);
    unlink(other);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", other);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd); /* as a run that was killed leaves it */
    cr_assert_eq(control_open(other, &ops, &owner, &second, error), EEP_OK, "%s", error);
    control_close(second, true);
    memset(other, 'p', sizeof other - 1);
    char longer[CONTROL_PATH_BYTES + 2];
    snprintf(longer, sizeof longer, "%.107sq", other);
    cr_assert_eq(control_open(longer, &ops, &owner, &second, error), EEP_ERR_INVALID);
    cr_assert(strstr(error, "1 to 107 bytes"), "%s", error);
}

/* Every user who may read a folder may lock it: with flock each open is an owner of its own. */
Test(control_socket, a_lock_on_the_folder_keeps_nobody_out)
{
    char error[CONTROL_ERROR_BYTES] = "", other[CONTROL_PATH_BYTES], lock[CONTROL_PATH_BYTES + 8];
    control *second = NULL;
    struct stat info;
    snprintf(other, sizeof other, "%s/o", dir);
    snprintf(lock, sizeof lock, "%s.lock", other);
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_eq(flock(folder, LOCK_EX | LOCK_NB), 0);
    cr_assert_eq(control_open(other, &ops, &owner, &second, error), EEP_OK, "%s", error);
    cr_expect_neq(access(lock, F_OK), 0, "the lock is removed");
    control_close(second, true);
    if (geteuid() == 0) { /* another user's file of the lock's name */
        int theirs = open(lock, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
        cr_assert_eq(fchown(theirs, 65534, 65534), 0);
        cr_assert_eq(flock(theirs, LOCK_EX | LOCK_NB), 0);
        cr_assert_eq(control_open(other, &ops, &owner, &second, error), EEP_OK, "%s", error);
        control_close(second, true);
        cr_expect_eq(stat(lock, &info), 0, "it stays");
        unlink(lock);
        close(theirs);
    }
    int ours = open(lock, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(flock(ours, LOCK_EX | LOCK_NB), 0);
    cr_expect_eq(control_open(other, &ops, &owner, &second, error), EEP_ERR_CONFLICT);
    cr_expect(strstr(error, "o.lock': it is starting"), "%s", error);
    unlink(lock);
    close(ours);
    close(folder);
}

/* As two runs with one --control PATH that begin together where a killed run left its socket. */
Test(control_socket, of_two_that_open_a_stale_path_at_once_one_gets_it)
{
    enum { ROUNDS = 150, OPENERS = 4 };
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char other[CONTROL_PATH_BYTES];
    snprintf(other, sizeof other, "%s/both", dir);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", other);
    for (int round = 0; round < ROUNDS; round++) {
        int begin[2], said[2], num = 0;
        pid_t child[OPENERS];
        char byte;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)unlink(other);
        cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        close(fd);
        cr_assert(pipe(begin) == 0 && pipe(said) == 0);
        for (int i = 0; i < OPENERS; i++) {
            child[i] = fork();
            if (child[i] == 0) {
                char error[CONTROL_ERROR_BYTES];
                control *mine = NULL;
                close(begin[1]);
                (void)!read(begin[0], &byte, 1); /* the end: all begin */
                bool good = control_open(other, &ops, &owner, &mine, error) == EEP_OK;
                (void)!write(said[1], good ? "y" : "n", 1);
                alarm(20);
                pause();
            }
        }
        close(begin[0]);
        close(begin[1]);
        for (int i = 0; i < OPENERS; i++) {
            cr_assert_eq(read(said[0], &byte, 1), 1);
            num += byte == 'y';
        }
        cr_expect_eq(num, 1, "round %d: %d have it", round, num);
        close(said[0]);
        close(said[1]);
        for (int i = 0; i < OPENERS; i++) {
            kill(child[i], SIGKILL);
            waitpid(child[i], NULL, 0);
        }
    }
    (void)unlink(other);
}

Test(control_socket, a_client_does_not_trust_a_run_of_another_user)
{
    char theirs[CONTROL_PATH_BYTES];
    control_client *client = NULL;
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    pid_t pid = foreign_listener(SOCK_STREAM, theirs);
    cr_expect_eq(control_client_open(theirs, &client), EEP_ERR_STATE);
    foreign_end(pid, theirs);
}

Test(control_socket, a_path_is_chosen_and_found)
{
    char error[CONTROL_PATH_ERROR_BYTES] = "", chosen[CONTROL_PATH_BYTES],
         found[CONTROL_PATH_BYTES], deep[256];
    private_dir own;
    cr_assert_eq(control_path_choose(dir, NULL, &own, chosen, error), EEP_OK, "%s", error);
    cr_assert(strncmp(chosen, dir, strlen(dir)) == 0 && strstr(chosen, "/control.sock"));
    cr_assert_eq(control_path_find(dir, found, error), EEP_OK);
    cr_assert_str_eq(found, chosen);
    control_path_forget(dir, &own);
    /* Given: the folder says where. */
    cr_assert_eq(control_path_choose(dir, path, &own, chosen, error), EEP_OK, "%s", error);
    cr_assert_str_eq(chosen, path);
    cr_assert_eq(control_path_find(dir, found, error), EEP_OK);
    cr_assert_str_eq(found, path);
    control_path_forget(dir, &own);
    /* Too long for a socket: elsewhere, in a folder of ours. */
    snprintf(deep, sizeof deep, "%s/%0100d", dir, 0);
    cr_assert_eq(mkdir(deep, 0700), 0);
    cr_assert_eq(control_path_choose(deep, NULL, &own, chosen, error), EEP_OK, "%s", error);
    cr_assert_eq(control_path_find(deep, found, error), EEP_OK);
    cr_assert_str_eq(found, chosen);
    struct stat info;
    *strrchr(found, '/') = '\0';
    cr_assert(stat(found, &info) == 0 && info.st_mode == (S_IFDIR | 0700));
    control_path_forget(deep, &own);
    cr_assert_neq(access(found, F_OK), 0, "the folder is removed");
    cr_assert_eq(rmdir(deep), 0, "and so is what points to it");
}
