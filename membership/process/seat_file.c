/* SPDX-License-Identifier: Apache-2.0 */
/* The files of seats: read, locked and written whole; and the gate of all seats. */
#include "membership/process/seat_file.h"

#include "membership/process/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    PATH_BYTES = PATH_MAX,
    LINE_BYTES = 10 + 1 + 10 + 1 + 20 + 1 + 20 + 1,
    LOCK_TRIES = 1000, /* of a millisecond each */
    GATE_TRIES = 6000, /* a process that clears a store may wait for it for 5 s */
    HOLDER_LOCK_AT = 4096
};

static bool name_file(const char *store_path, int32_t seat, char path_out[PATH_BYTES])
{
    if (snprintf(path_out, PATH_BYTES, "%s.seat%d", store_path, seat) < PATH_BYTES) {
        return true;
    }
    errno = ENAMETOOLONG;
    return false;
}

/* Not a FIFO or a device, which may be waited for for ever. */
static int open_plain(const char *path, int flags)
{
    struct stat file;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);

    if (fd >= 0 && (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

static int open_seat(const char *store_path, int32_t seat, int flags)
{
    char path[PATH_BYTES];

    return name_file(store_path, seat, path) ? open_plain(path, flags) : -1;
}

/* What the holder of the seat locks: one byte behind the line, separate from the lock for writing.
 * Each generation has a byte of its own. So a child that a dead process left keeps its byte, and
 * does not hinder the next generation. */
static struct flock holder_range(uint32_t generation)
{
    return (struct flock){.l_type = F_WRLCK,
                          .l_whence = SEEK_SET,
                          .l_start = HOLDER_LOCK_AT + (off_t)generation,
                          .l_len = 1};
}

static int lock_as_holder(int fd, uint32_t generation)
{
    struct flock range = holder_range(generation);

    return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

/* Does somebody hold it, or can nobody tell? */
static int is_held(int fd, uint32_t generation)
{
    struct flock range = holder_range(generation);

    return fcntl(fd, F_OFD_GETLK, &range) != 0 || range.l_type != F_UNLCK;
}

/* Locked against others who write it just now; 0: errno. A process that was stopped with the lock
 * in its hand makes nobody wait for ever: EBUSY. */
static int lock_for_writing(int fd)
{
    const struct timespec nap = {0, 1000000};

    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        errno = errno == EWOULDBLOCK ? EBUSY : errno;
        if ((errno != EBUSY && errno != EINTR) || tries == LOCK_TRIES) {
            return 0;
        }
        nanosleep(&nap, NULL);
    }
    return 1;
}

/* Its file, locked, or -1. */
static int open_locked(const char *store_path, int32_t seat, int flags)
{
    int fd = open_seat(store_path, seat, flags);

    if (fd >= 0 && !lock_for_writing(fd)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Not by close alone: a child that was forked meanwhile would keep it. */
static void close_locked(int fd)
{
    int error = errno;

    (void)flock(fd, LOCK_UN);
    close(fd);
    errno = error;
}

/* Nobody, if the file is new; 0: it holds anything else than a line of ours. Two readings that
 * agree, since somebody may write it meanwhile. */
static int read_holder(int fd, eepi_seat_holder *holder_out)
{
    char line[LINE_BYTES + 1] = "", again[LINE_BYTES + 1] = "";
    eepi_seat_holder holder = {0};
    uint64_t generation = 0;
    int64_t pid = 0;
    ssize_t got;

    *holder_out = holder;
    do {
        got = pread(fd, line, LINE_BYTES, 0);
    } while (pread(fd, again, LINE_BYTES, 0) != got || memcmp(line, again, sizeof line) != 0);
    if (got == 0) {
        return 1;
    }
    errno = EINVAL;
    if (got != LINE_BYTES || strspn(line, "0123456789 \n") != LINE_BYTES ||
        sscanf(line, "%10" SCNu64 " %10" SCNd64 " %20" SCNu64 " %20" SCNu64, &generation, &pid,
               &holder.pid_start, &holder.home) != 4 ||
        generation >= UINT32_MAX || pid > INT32_MAX) {
        return 0;
    }
    holder.generation = (uint32_t)generation;
    holder.pid = (int32_t)pid;
    *holder_out = holder;
    return 1;
}

/* All of the line or none of it: it is shorter than a page, and always as long. */
static int write_holder(int fd, const eepi_seat_holder *holder)
{
    char line[LINE_BYTES + 1];

    snprintf(line, sizeof line, "%010" PRIu32 " %010" PRId32 " %020" PRIu64 " %020" PRIu64 "\n",
             holder->generation, holder->pid, holder->pid_start, holder->home);
    errno = ENOSPC; /* if it is short */
    return pwrite(fd, line, LINE_BYTES, 0) == LINE_BYTES;
}

eep_status eepi_seat_look(const char *store_path, int32_t seat, eepi_seat_holder *holder_out)
{
    int fd = open_seat(store_path, seat, O_RDONLY), known;

    *holder_out = (eepi_seat_holder){0};
    if (fd < 0) {
        return errno == ENOENT ? EEP_OK : EEP_ERR_SYSTEM;
    }
    known = read_holder(fd, holder_out);
    close(fd);
    return known ? EEP_OK : EEP_ERR_SYSTEM;
}

typedef enum pid_says { PID_LIVES, PID_HAS_ENDED, PID_UNKNOWN } pid_says;

/* Sure is an end where nobody has the pid, or the same process is a zombie. A process of another
 * start time may be a later one, or the holder itself as another clock shows it. */
static pid_says ask_pid(uint64_t home, const eepi_seat_holder *holder)
{
    if (holder->pid == 0) {
        return PID_HAS_ENDED;
    }
    if (holder->home == home && home != 0) {
        if (eepi_process_look(holder->pid, holder->pid_start) != EEPI_PROCESS_GONE) {
            return PID_LIVES;
        }
        if ((kill(holder->pid, 0) != 0 && errno == ESRCH) ||
            eepi_process_start(holder->pid) == holder->pid_start) {
            return PID_HAS_ENDED;
        }
    }
    return PID_UNKNOWN;
}

/* By the lock on the file that is open as `fd`; it may name somebody else by now. Where somebody
 * has removed the file nobody can tell, so the pid counts, which here is another process's. */
static int has_let_go(int fd, uint64_t home, const eepi_seat_holder *holder)
{
    eepi_seat_holder now;

    if (!read_holder(fd, &now)) {
        return 0;
    }
    if (now.generation < holder->generation) {
        return holder->home == home && home != 0;
    }
    return now.generation > holder->generation || now.pid == 0 || !is_held(fd, now.generation);
}

static int has_ended_in(int fd, uint64_t home, const eepi_seat_holder *holder)
{
    pid_says said = ask_pid(home, holder);

    return said == PID_UNKNOWN ? has_let_go(fd, home, holder) : said == PID_HAS_ENDED;
}

bool eepi_seat_has_ended(const char *store_path, int32_t seat, uint64_t home,
                         const eepi_seat_holder *holder)
{
    pid_says said = ask_pid(home, holder);
    int fd, has_ended;

    if (said != PID_UNKNOWN) {
        return said == PID_HAS_ENDED;
    }
    fd = open_seat(store_path, seat, O_RDONLY);
    if (fd < 0) {
        return errno == ENOENT && holder->home == home && home != 0;
    }
    has_ended = has_let_go(fd, home, holder);
    close(fd);
    return has_ended;
}

eep_status eepi_seat_take(const char *store_path, int32_t seat, uint32_t floor,
                          eepi_seat_holder *holder, eepi_seat_holder *before_out)
{
    int fd = open_locked(store_path, seat, O_RDWR | O_CREAT);
    eep_status status = EEP_OK;

    *before_out = (eepi_seat_holder){0};
    if (fd < 0) {
        return EEP_ERR_SYSTEM;
    }
    if (!read_holder(fd, before_out)) {
        status = EEP_ERR_SYSTEM;
    } else if (before_out->generation && !has_ended_in(fd, holder->home, before_out)) {
        status = EEP_ERR_SEAT_TAKEN;
    } else if (before_out->generation >= UINT32_MAX - 1 || floor >= UINT32_MAX - 1) {
        errno = EOVERFLOW; /* the next one could not be read again */
        status = EEP_ERR_SYSTEM;
    } else {
        holder->generation = (before_out->generation > floor ? before_out->generation : floor) + 1;
        if (!lock_as_holder(fd, holder->generation) || !write_holder(fd, holder)) {
            status = EEP_ERR_SYSTEM;
        }
    }
    if (status != EEP_OK) {
        close_locked(fd);
        return status;
    }
    (void)flock(fd, LOCK_UN);
    (void)lock_as_holder(fd, holder->generation); /* on NFS the other lock took it along */
    holder->lock_fd = fd;
    return EEP_OK;
}

eep_status eepi_seat_release(const char *store_path, int32_t seat, const eepi_seat_holder *own)
{
    /* that of the lock, if there is one: there may be no descriptor left for another */
    bool is_own = own->lock_fd >= 0;
    int fd = is_own ? own->lock_fd : open_locked(store_path, seat, O_RDWR);
    eepi_seat_holder holder;
    eep_status status = EEP_OK;

    if (is_own && !lock_for_writing(fd)) {
        close(fd);
        return EEP_ERR_SYSTEM;
    }
    if (fd < 0) {
        return errno == ENOENT ? EEP_OK : EEP_ERR_SYSTEM;
    }
    if (read_holder(fd, &holder) && holder.generation == own->generation &&
        holder.pid == own->pid && holder.pid_start == own->pid_start && holder.home == own->home) {
        holder.pid = 0;
        holder.pid_start = 0;
        if (!write_holder(fd, &holder)) {
            status = EEP_ERR_SYSTEM;
        }
    }
    close_locked(fd);
    return status;
}

/* ---------------------------------------------------------------- all seats */

static bool name_gate(const char *store_path, char path_out[PATH_BYTES])
{
    if (snprintf(path_out, PATH_BYTES, "%s.seats", store_path) < PATH_BYTES) {
        return true;
    }
    errno = ENAMETOOLONG;
    return false;
}

/* Is the file that is open as `fd` the one at the path? A store that ends removes it. */
static int is_at(const char *path, int fd)
{
    struct stat there, here;

    return lstat(path, &there) == 0 && fstat(fd, &here) == 0 && there.st_dev == here.st_dev &&
           there.st_ino == here.st_ino;
}

eep_status eepi_seats_enter(const char *store_path, bool alone, int *gate_out)
{
    const struct timespec nap = {0, 1000000};
    struct flock range = {
        .l_type = alone ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    char path[PATH_BYTES];

    if (!name_gate(store_path, path)) {
        return EEP_ERR_SYSTEM;
    }
    for (int tries = 0;; tries++) {
        int fd = open_plain(path, O_RDWR | O_CREAT), error;
        if (fd < 0) {
            return EEP_ERR_SYSTEM;
        }
        error = fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : errno;
        if (error == 0 && is_at(path, fd)) {
            *gate_out = fd;
            return EEP_OK;
        }
        close(fd);
        errno = error == 0 || error == EAGAIN || error == EACCES ? EBUSY : error;
        if ((errno != EBUSY && errno != EINTR) || tries == GATE_TRIES) {
            return EEP_ERR_SYSTEM;
        }
        nanosleep(&nap, NULL);
    }
}

void eepi_seats_leave(int gate)
{
    struct flock range = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int error = errno;

    (void)fcntl(gate, F_OFD_SETLK, &range); /* not by close alone: a forked child may have a copy */
    close(gate);
    errno = error;
}

/* Unless a process is inside, which must meet those that come. Processes that wait find the next
 * gate. */
static void remove_gate(const char *path)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int fd = open_plain(path, O_RDWR);

    if (fd < 0) {
        return;
    }
    if (fcntl(fd, F_OFD_SETLK, &range) == 0 && is_at(path, fd)) {
        unlink(path);
    }
    eepi_seats_leave(fd);
}

void eepi_seats_remove(const char *store_path, int32_t num_seats)
{
    char path[PATH_BYTES];

    if (name_gate(store_path, path)) {
        remove_gate(path);
    }
    for (int32_t seat = 0; seat < num_seats; seat++) {
        if (name_file(store_path, seat, path)) {
            unlink(path);
        }
    }
    if (num_seats > 0 && snprintf(path, sizeof path, "%s.agent", store_path) < (int)sizeof path) {
        unlink(path); /* of an agent that was killed */
    }
}
