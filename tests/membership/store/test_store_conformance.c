/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite against the embedded store: in this process, and in one of its own. */
#include "experiments/base/program_dir.h"
#include "experiments/children/store_process.h"
#include "tests/lib/store/store_conformance.h"
#include "tests/lib/store/etcd_process.h"
#include "tests/lib/store/store_port.h"
#include "tests/lib/store_fixture.h"

TestSuite(store_conformance, .init = make_directory, .fini = remove_directory, .timeout = 110);

static void pass(void *user)
{
    const struct timespec nap = {0, 200 * 1000};
    (void)user;
    nanosleep(&nap, NULL);
}

static uint64_t now(void *user)
{
    (void)user;
    return eepi_now_us();
}

static void cut(void *user, eepi_store_client *client)
{
    (void)user;
    shutdown(eepi_store_client_fd(client), SHUT_RDWR);
}

static void restart_here(void *user)
{
    eep_store **store = user;
    eep_store_close(*store);
    *store = open_store();
}

static void restart_process(void *user)
{
    store_process *process = user;
    cr_assert_eq(store_process_kill(process), EEP_OK);
    cr_assert_eq(store_process_start(process), EEP_OK);
}

static void expect_conformance(store_world world)
{
    const char *name = "", *why;
    world.address = world.address ? world.address : path;
    world.pass = pass;
    world.now_us = now;
    world.cut = cut;
    world.forgets = strncmp(world.address, "etcd://", 7) != 0;
    world.lists = world.leases = true;
    why = store_conformance(&world, &name);
    cr_assert_null(why, "%s: %s", name, why);
}

Test(store_conformance, embedded_in_this_process)
{
    eep_store *store = open_store();
    expect_conformance((store_world){.restart = restart_here, .user = &store});
    eep_store_close(store);
}

static char tcp_address[256];

static eep_store *open_tcp_store(void)
{
    char error[256] = "";
    eep_store *store = NULL;
    cr_assert_eq(eep_store_open(tcp_address, error, sizeof error, &store), EEP_OK, "%s", error);
    return store;
}

static void restart_tcp(void *user)
{
    eep_store **store = user;
    eep_store_close(*store);
    *store = open_tcp_store();
}

Test(store_conformance, over_tcp)
{
    snprintf(tcp_address, sizeof tcp_address, "tcp://127.0.0.1:%u?local=%s", test_free_port(),
             path);
    eep_store *store = open_tcp_store();
    expect_conformance(
        (store_world){.address = tcp_address, .restart = restart_tcp, .user = &store});
    eep_store_close(store);
}

/* The same with a key: each message is numbered and has a code. */
Test(store_conformance, over_tcp_with_a_key)
{
    char key_file[100];
    write_key(key_file, sizeof key_file);
    snprintf(tcp_address, sizeof tcp_address,
             "tcp://127.0.0.1:%u?local=%s&instance=job 7&key-file=%s", test_free_port(), path,
             key_file);
    eep_store *store = open_tcp_store();
    expect_conformance(
        (store_world){.address = tcp_address, .restart = restart_tcp, .user = &store});
    eep_store_close(store);
    unlink(key_file);
}

static void restart_etcd(void *user)
{
    etcd_cluster *etcd = user;
    etcd_kill(etcd, 0);
    etcd_start(etcd, 0);
}

Test(store_conformance, at_etcd)
{
    char address[200];
    etcd_cluster etcd = {0};
    if (!etcd_is_here()) {
        cr_skip_test("no etcd here");
    }
    cr_assert(etcd_open(&etcd, 1));
    etcd_address(&etcd, "/suite?timeout-ms=20000", address, sizeof address);
    expect_conformance((store_world){.address = address, .restart = restart_etcd, .user = &etcd});
    etcd_close(&etcd);
}

Test(store_conformance, in_a_process_of_its_own)
{
    char program[PATH_MAX];
    store_process *process = NULL;
    cr_assert_eq(program_dir_path("../experiments/eep-store", program), 0);
    cr_assert_eq(store_process_open_program(program, path, &process), EEP_OK);
    expect_conformance((store_world){.restart = restart_process, .user = process});
    store_process_close(process);
}
