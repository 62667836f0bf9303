/* SPDX-License-Identifier: Apache-2.0 */
/* The seats' files: generations that outlive the store's memory (rule M7). */
#include "membership/process/process.h"
#include "membership/process/seat_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64], path[80], file[96];

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/eep-seat-test-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/store", directory);
    snprintf(file, sizeof file, "%s.seat3", path);
}

static void teardown(void)
{
    eepi_seats_remove(path, 8);
    cr_assert_eq(rmdir(directory), 0, "a file is left");
}

static eepi_seat_holder look(void)
{
    eepi_seat_holder holder;

    cr_assert_eq(eepi_seat_look(path, 3, &holder), EEP_OK);
    return holder;
}

static void release(uint32_t generation)
{
    const eepi_seat_holder own = {generation, getpid(), eepi_process_start(getpid()),
                                  eepi_process_home(), -1};

    cr_assert_eq(eepi_seat_release(path, 3, &own), EEP_OK);
}

TestSuite(seat_file, .init = setup, .fini = teardown);

static eepi_seat_holder holder_of(pid_t pid)
{
    return (eepi_seat_holder){.pid = (int32_t)pid,
                              .pid_start = eepi_process_start((int32_t)pid),
                              .home = eepi_process_home()};
}

/* The generation that this process gets; 0: the seat is taken. */
static uint32_t take(uint32_t floor)
{
    eepi_seat_holder own = holder_of(getpid()), before;
    eep_status status = eepi_seat_take(path, 3, floor, &own, &before);

    cr_assert(status == EEP_OK || status == EEP_ERR_SEAT_TAKEN, "%s", eep_strerror(status));
    return status == EEP_OK ? own.generation : 0;
}

Test(seat_file, M7_generations_go_up_and_the_living_keep_their_seat)
{
    cr_assert_eq(look().generation, 0);
    cr_assert_eq(take(0), 1);
    cr_assert_eq(look().pid, getpid());
    cr_assert_eq(take(0), 0, "we hold it");
    cr_assert_eq(take(9), 0, "whatever the view says");
    release(7);
    cr_assert_eq(take(0), 0, "another generation was released");
    release(1);
    cr_assert_eq(take(0), 2);
    release(2);
    cr_assert_eq(take(9), 10, "above what the view knows");
    release(10);
    cr_assert_eq(take(4), 11, "and above what the file knows");
}

Test(seat_file, M7_the_end_of_a_process_frees_its_seat)
{
    pid_t child = fork();
    eepi_seat_holder before;

    if (child == 0) {
        eepi_seat_holder own = holder_of(getpid());
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        if (eepi_seat_take(path, 3, 0, &own, &before) != EEP_OK) {
            _exit(1);
        }
        raise(SIGSTOP);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, NULL, WUNTRACED), child);
    cr_assert_eq(take(0), 0, "it is stopped, and lives");
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    before = look();
    cr_assert(eepi_seat_has_ended(path, 3, eepi_process_home(), &before));
    cr_assert_eq(take(0), 2);
}

/* Say whether we got the seat, and live until the parent has heard all. */
static void compete(int go, int say, int end)
{
    char byte;

    (void)!read(go, &byte, 1);
    byte = take(0) != 0;
    (void)!write(say, &byte, 1);
    (void)!read(end, &byte, 1);
    _exit(0);
}

Test(seat_file, M7_of_many_that_come_at_once_one_gets_the_seat)
{
    enum { RIVALS = 8 };

    for (uint32_t round = 1; round <= 20; round++) {
        int go[2], say[2], end[2], winners = 0;
        cr_assert(pipe(go) == 0 && pipe(say) == 0 && pipe(end) == 0);
        for (int i = 0; i < RIVALS; i++) {
            if (fork() == 0) {
                close(go[1]);
                close(end[1]);
                compete(go[0], say[1], end[0]);
            }
        }
        close(go[1]);
        for (int i = 0; i < RIVALS; i++) {
            char byte;
            cr_assert_eq(read(say[0], &byte, 1), 1);
            winners += byte;
        }
        cr_assert_eq(winners, 1, "round %u: %d", round, winners);
        cr_assert_eq(look().generation, round);
        close(end[1]);
        for (int i = 0; i < RIVALS; i++) {
            cr_assert_gt(wait(NULL), 0);
        }
        close(go[0]);
        close(say[0]);
        close(say[1]);
        close(end[0]);
    }
}

/* A process is stopped while it writes the file: who looks does not wait, who takes gives up. */
Test(seat_file, L2_nobody_waits_for_a_stopped_writer)
{
    eepi_seat_holder own = holder_of(getpid()), before;
    int fd;

    cr_assert_eq(take(0), 1);
    fd = open(file, O_RDWR);
    cr_assert(fd >= 0 && flock(fd, LOCK_EX) == 0);
    cr_assert_eq(look().generation, 1);
    cr_assert_eq(eepi_seat_take(path, 3, 0, &own, &before), EEP_ERR_SYSTEM);
    cr_assert_eq(errno, EBUSY);
    close(fd);
    release(1);
    cr_assert_eq(take(0), 2);
}

/* A file that somebody has spoilt tells of nobody, which is not to say that there is none. */
Test(seat_file, a_strange_file_is_no_empty_seat)
{
    static const char *const texts[] = {"x",
                                        "12",
                                        "1 2",
                                        "-1 -1 -1 -1",
                                        "99999999999999999999",
                                        "4294967296 0000000001 00000000000000000001 "
                                        "00000000000000000001\n",
                                        "0000000001 4294967297 00000000000000000001 "
                                        "00000000000000000001\n"};
    eepi_seat_holder own = holder_of(getpid()), before;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        FILE *stream = fopen(file, "w");
        cr_assert(stream && fputs(texts[i], stream) >= 0 && fclose(stream) == 0);
        cr_assert_eq(eepi_seat_look(path, 3, &before), EEP_ERR_SYSTEM, "'%s'", texts[i]);
        cr_assert_eq(eepi_seat_take(path, 3, 4, &own, &before), EEP_ERR_SYSTEM, "'%s'", texts[i]);
        cr_assert_eq(errno, EINVAL);
        unlink(file);
    }
}

/* Rule M7: no generation comes twice, so there is none behind the last. */
Test(seat_file, M7_behind_the_last_generation_there_is_none)
{
    eepi_seat_holder own = holder_of(getpid()), before;
    FILE *stream = fopen(file, "w");

    cr_assert(stream && fprintf(stream, "%010u %010d %020d %020d\n", 4294967294u, 0, 0, 0) > 0);
    fclose(stream);
    cr_assert_eq(eepi_seat_look(path, 3, &before), EEP_OK);
    cr_assert_eq(eepi_seat_take(path, 3, 0, &own, &before), EEP_ERR_SYSTEM);
    cr_assert_eq(errno, EOVERFLOW);
    cr_assert_eq(eepi_seat_look(path, 3, &before), EEP_OK, "the file is as it was");
    unlink(file);
    cr_assert_eq(eepi_seat_take(path, 3, 4294967295u, &own, &before), EEP_ERR_SYSTEM);
    cr_assert_eq(errno, EOVERFLOW);
    cr_assert_eq(take(4294967293u), 4294967294u);
}

Test(seat_file, it_follows_no_link_and_is_for_its_user_alone)
{
    eepi_seat_holder own = holder_of(getpid()), before;
    struct stat info;

    cr_assert_eq(symlink("/tmp/elsewhere", file), 0);
    cr_assert_eq(eepi_seat_take(path, 3, 0, &own, &before), EEP_ERR_SYSTEM);
    cr_assert_eq(errno, ELOOP);
    unlink(file);
    cr_assert_eq(take(0), 1);
    cr_assert(stat(file, &info) == 0 && (info.st_mode & 0777) == 0600);
    cr_assert_eq(eepi_seat_take("/nowhere/store", 3, 0, &own, &before), EEP_ERR_SYSTEM);
    cr_assert_eq(errno, ENOENT);
}

/* A child takes the seat as somebody who lives in another pid namespace, and lives until it is
 * told. Its pid is that of a process here which has ended, or of one that lives: it says nothing.
 */
static pid_t foreigner_takes(int32_t pid, int live)
{
    int said[2];
    char byte = 0;
    pid_t child;

    cr_assert_eq(pipe(said), 0);
    child = fork();
    if (child == 0) {
        eepi_seat_holder own = holder_of(getpid()), before;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        own.pid = pid;
        own.pid_start = eepi_process_start(pid);
        own.home ^= 2;
        byte = eepi_seat_take(path, 3, 0, &own, &before) == EEP_OK;
        (void)!write(said[1], &byte, 1);
        while (live) {
            pause();
        }
        _exit(0);
    }
    cr_assert_eq(read(said[0], &byte, 1), 1);
    cr_assert_eq(byte, 1);
    close(said[0]);
    close(said[1]);
    return child;
}

Test(seat_file, M7_a_pid_of_another_namespace_is_no_evidence)
{
    pid_t gone = fork(), holder;

    if (gone == 0) {
        _exit(0);
    }
    waitpid(gone, NULL, 0);
    holder = foreigner_takes((int32_t)gone, 1);
    eepi_seat_holder seen = look();
    cr_expect_not(eepi_seat_has_ended(path, 3, eepi_process_home(), &seen),
                  "that number is nobody here, and the holder lives");
    cr_expect_eq(take(0), 0, "a held seat was given away");
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    cr_expect(eepi_seat_has_ended(path, 3, eepi_process_home(), &seen), "its lock went with it");
    cr_expect_eq(take(0), 2);
}

/* After a reboot, say: the number is a process of today's, which has nothing to do with the seat.
 */
Test(seat_file, M7_a_seat_of_the_past_is_free_whoever_has_its_pid_now)
{
    pid_t holder = foreigner_takes(getpid(), 0);

    waitpid(holder, NULL, 0);
    cr_expect_eq(take(0), 2);
}

/* Its line, with another start time: as /proc shows it by another clock. */
static void shift_start(void)
{
    eepi_seat_holder seen = look();
    FILE *out = fopen(file, "r+");

    cr_assert_not_null(out);
    fprintf(out, "%010u %010d %020llu %020llu\n", seen.generation, seen.pid,
            (unsigned long long)seen.pid_start + 100, (unsigned long long)seen.home);
    cr_assert_eq(fclose(out), 0);
}

Test(seat_file, M7_another_start_time_is_no_end_where_the_seat_is_locked)
{
    eepi_seat_holder own = holder_of(getpid()), before, seen;

    cr_assert_eq(eepi_seat_take(path, 3, 0, &own, &before), EEP_OK);
    shift_start();
    seen = look();
    cr_expect_eq(eepi_process_look(seen.pid, seen.pid_start), EEPI_PROCESS_GONE);
    cr_expect_not(eepi_seat_has_ended(path, 3, own.home, &seen), "its lock is held");
    cr_expect_eq(take(0), 0, "a held seat was given away");
    close(own.lock_fd); /* the process ends, and its pid is given again */
    cr_expect(eepi_seat_has_ended(path, 3, own.home, &seen));
    cr_expect_eq(take(0), 2);
    unlink(file); /* the lock is lost, so the pid counts */
    cr_expect(eepi_seat_has_ended(path, 3, own.home, &seen));
}

/* The holder of a seat may leave children that hold its files. */
Test(seat_file, M7_a_child_of_a_dead_holder_keeps_no_seat)
{
    int life[2];
    char byte;
    cr_assert_eq(pipe(life), 0);
    pid_t child = fork();

    if (child == 0) {
        byte = take(0) == 1;
        if (fork() == 0) {
            close(life[1]);
            (void)!write(1, "", 0);
            (void)!read(life[0], &byte, 1);
            _exit(0);
        }
        _exit(byte ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_expect_eq(take(0), 2);
    close(life[1]);
}

static void on_alarm(int number)
{
    (void)number;
    _exit(9);
}

/* Opening a FIFO waits for its other end, for ever. */
Test(seat_file, L2_what_is_no_file_is_refused_at_once)
{
    eepi_seat_holder own = holder_of(getpid()), before;

    signal(SIGALRM, on_alarm);
    alarm(5);
    cr_assert_eq(mkfifo(file, 0600), 0);
    cr_expect_eq(eepi_seat_look(path, 3, &before), EEP_ERR_SYSTEM);
    cr_expect_eq(errno, EINVAL);
    cr_expect_eq(eepi_seat_take(path, 3, 0, &own, &before), EEP_ERR_SYSTEM);
    cr_expect_eq(errno, EINVAL);
    alarm(0);
}
