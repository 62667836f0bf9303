/* SPDX-License-Identifier: Apache-2.0 */
/* The gate beside a store (PATH.seats) for those who open a rank and those who clear the store:
 * that they wait for it, and that nobody leads them into another folder meanwhile. */
#include "tests/lib/store_fixture.h"

#include "eep/eep.h"
#include "membership/process/seat_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>

static void tear_down(void)
{
    eepi_seats_remove(path, 1);
    remove_directory();
}

TestSuite(gate, .init = make_directory, .fini = tear_down, .timeout = 30);

/* A call in a thread of its own, and what came of it. */
typedef struct caller {
    void *(*call)(void *self);
    const char *store_path;
    int is_done, gate, watched; /* the gate that is held, and the watch for whoever looks at it */
    pthread_t thread;
    eep_status status;
    eep_device *device;
    eep_context *context;
    char error[512];
} caller;

static void *open_rank(void *self)
{
    caller *c = self;
    eep_config config;
    eep_config_init(&config);
    config.num_ranks = config.max_ranks = 1;
    config.num_layers = config.top_k = 1;
    config.num_experts = config.num_slots = config.num_max_tokens_per_rank = 4;
    config.hidden = 16;
    config.rank = 0;
    config.bind_threads = 0;
    config.log_level = EEP_LOG_NONE;
    config.device = c->device;
    config.store_path = c->store_path;
    c->status = eep_open(&config, c->error, sizeof c->error, &c->context);
    __atomic_store_n(&c->is_done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void *forget(void *self)
{
    caller *c = self;
    c->status = eep_store_forget(c->store_path, c->error, sizeof c->error);
    __atomic_store_n(&c->is_done, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* Begin the call with the gate held against it, and wait until it has looked at the gate. */
static void begin(caller *c, void *(*call)(void *), const char *store_path)
{
    char gate[100];
    struct pollfd looks;
    *c = (caller){.call = call, .store_path = store_path};
    snprintf(gate, sizeof gate, "%s.seats", path);
    cr_assert_eq(eepi_seats_enter(path, call == open_rank, &c->gate), EEP_OK);
    looks = (struct pollfd){.fd = inotify_init1(IN_CLOEXEC), .events = POLLIN};
    c->watched = looks.fd;
    cr_assert_geq(inotify_add_watch(looks.fd, gate, IN_OPEN), 0);
    cr_assert_eq(eep_device_open("host", 0, &c->device), EEP_OK);
    cr_assert_eq(pthread_create(&c->thread, NULL, call, c), 0);
    cr_assert_eq(poll(&looks, 1, BOUND_US / 1000), 1, "it does not look at the gate: %s", c->error);
}

static void let_in(caller *c)
{
    eepi_seats_leave(c->gate);
    pthread_join(c->thread, NULL);
}

static void end(caller *c)
{
    eep_close(c->context);
    eep_device_close(c->device);
    close(c->watched);
}

/* What an opening rank has found in the store stays true until it has its seat. */
Test(gate, no_rank_opens_while_a_store_is_cleared)
{
    caller c;
    int alone = -1;
    eep_store *store = open_store();
    begin(&c, open_rank, path);
    for (int i = 0; i < 50; i++) { /* longer than it takes where nothing is in the way */
        cr_assert_eq(__atomic_load_n(&c.is_done, __ATOMIC_ACQUIRE), 0, "%s", c.error);
        poll(NULL, 0, 1);
    }
    let_in(&c);
    cr_assert_eq(c.status, EEP_OK, "%s", c.error);
    cr_assert_eq(eepi_seats_enter(path, 1, &alone), EEP_OK, "an open rank stays in the gate");
    eepi_seats_leave(alone);
    end(&c);
    eep_store_close(store);
}

/* It would stay in the way of each rank that opens. */
Test(gate, a_rank_names_what_is_no_seats_file_with_what_to_do)
{
    caller c;
    char stray[100];
    eep_store *store = open_store();
    snprintf(stray, sizeof stray, "%s.seat0", path);
    cr_assert_eq(symlink("notes", stray), 0);
    begin(&c, open_rank, path);
    let_in(&c);
    cr_expect_eq(c.status, EEP_ERR_SYSTEM);
    cr_expect(strstr(c.error, stray) && strstr(c.error, "remove the file once"), "%s", c.error);
    end(&c);
    eep_store_close(store);
}

/* The folder is named by a descriptor, and somebody exchanges it for a link to another one of ours
 * after the call has found the store: nothing is made there. */
static void exchange(void *(*call)(void *))
{
    char by_descriptor[80], away[80], victim[80];
    caller c;
    int folder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(folder, 0);
    snprintf(by_descriptor, sizeof by_descriptor, "/proc/%d/fd/%d/./s", (int)getpid(), folder);
    snprintf(away, sizeof away, "%s-away", directory);
    snprintf(victim, sizeof victim, "%s-victim", directory);
    eep_store *store = NULL;
    cr_assert_eq(eep_store_open(by_descriptor, NULL, 0, &store), EEP_OK);
    begin(&c, call, by_descriptor);
    cr_assert_eq(mkdir(victim, 0700), 0);
    cr_assert_eq(rename(directory, away), 0);
    cr_assert_eq(symlink(victim, directory), 0);
    let_in(&c);
    cr_expect_eq(c.status, EEP_OK, "%s", c.error);
    cr_expect_eq(rmdir(victim), 0, "something was made in the other folder");
    end(&c);
    eep_store_close(store);
    cr_assert_eq(unlink(directory), 0);
    cr_assert_eq(rename(away, directory), 0);
    close(folder);
}

Test(gate, a_rank_is_led_into_no_other_folder)
{
    exchange(open_rank);
}

Test(gate, whoever_clears_a_store_is_led_into_no_other_folder)
{
    exchange(forget);
}
