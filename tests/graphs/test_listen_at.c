/* SPDX-License-Identifier: Apache-2.0 */
/* A unix socket whose file appears when it listens. */
#include "graphs/base/listen_at.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/eep-listen-XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static int new_socket(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    cr_assert_geq(fd, 0);
    return fd;
}

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
}

static void remove_folder(void)
{
    unlink(address.sun_path);
    cr_assert_eq(rmdir(folder), 0, "%s is not empty", folder);
}

TestSuite(listen_at, .init = make_folder, .fini = remove_folder);

static atomic_int over, refusals, connections;

/* Connects whenever there is a file. */
static void *connect_always(void *unused)
{
    while (!atomic_load(&over)) {
        const int fd = new_socket();

        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
            atomic_fetch_add(&connections, 1);
        } else {
            atomic_fetch_add(&refusals, errno == ECONNREFUSED);
        }
        close(fd);
    }
    return unused;
}

Test(listen_at, whoever_finds_the_file_gets_in)
{
    enum { NUM = 300 };
    int fd[NUM]; /* all stay open: who found a file just before it went gets in, too */
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, connect_always, NULL), 0);
    for (int i = 0; i < NUM; i++) {
        const int before = atomic_load(&connections);
        struct stat info, seen;

        fd[i] = new_socket();
        cr_assert_eq(eepi_listen_at(fd[i], address.sun_path, 16, &info), 0, "%s", strerror(errno));
        cr_assert_eq(lstat(address.sun_path, &seen), 0);
        cr_assert_eq(info.st_ino, seen.st_ino);
        while (i == 0 && atomic_load(&connections) == before) {
            usleep(100); /* until the other thread runs */
        }
        cr_assert_eq(unlink(address.sun_path), 0);
    }
    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    for (int i = 0; i < NUM; i++) {
        close(fd[i]);
    }
    cr_assert_eq(atomic_load(&refusals), 0, "%d of %d", atomic_load(&refusals),
                 atomic_load(&refusals) + atomic_load(&connections));
}

Test(listen_at, what_is_there_stays)
{
    struct stat info;
    const int file = open(address.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    const int fd = new_socket();

    cr_assert_geq(file, 0);
    cr_assert_eq(eepi_listen_at(fd, address.sun_path, 16, &info), -1);
    cr_assert_eq(errno, EEXIST);
    cr_assert_eq(lstat(address.sun_path, &info), 0);
    cr_assert(S_ISREG(info.st_mode));
    close(file);
    close(fd);
}

Test(listen_at, a_folder_that_is_not_there_is_named_by_errno)
{
    struct stat info;
    const int fd = new_socket();

    cr_assert_eq(eepi_listen_at(fd, "/nowhere/at/all", 16, &info), -1);
    cr_assert_eq(errno, ENOENT);
    close(fd);
}
