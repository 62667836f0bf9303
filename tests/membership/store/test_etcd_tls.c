/* SPDX-License-Identifier: Apache-2.0 */
/* A store at an etcd that speaks TLS and asks for certificates: openssl makes them for the test. */
#include "tests/lib/store/etcd_fixture.h"

#include <stdarg.h>
#include <sys/stat.h>

TestSuite(etcd_tls, .fini = end_etcd, .timeout = 110);

enum { PATH_LENGTH = 120 };

static char folder[64];

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char command[1600], line[1700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "cd '%s' && { %s; } >log 2>&1", folder, command);
    if (system(line) != 0) {
        snprintf(line, sizeof line, "cat '%s/log' >&2", folder);
        (void)!system(line);
        cr_assert_fail("%s", command);
    }
}

static void make_authority(const char *name)
{
    shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
          "-subj '/CN=%s' -keyout %s.key -out %s.pem",
          name, name, name);
}

/* "nameless" has no common name. `dates`: "-days 2", or that it ended long ago. */
static void make_certificate(const char *name, const char *authority, const char *dates)
{
    shell("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/%s=%s' "
          "-keyout %s.key -out %s.csr",
          strcmp(name, "nameless") == 0 ? "O" : "CN", name, name, name);
    shell(
        "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' >%s.ext",
        name);
    shell(
        "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -extfile %s.ext %s "
        "-out %s.pem",
        name, authority, authority, name, dates, name);
}

static void begin_tls(void)
{
    static char cert[PATH_LENGTH], key[PATH_LENGTH], trusted[PATH_LENGTH];
    if (!etcd_is_here() || system("command -v openssl >/dev/null 2>&1") != 0) {
        cr_skip_test("no etcd here, or no openssl");
    }
    snprintf(folder, sizeof folder, "/dev/shm/eep-tls-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    make_authority("ca");
    make_authority("other");
    make_certificate("server", "ca", "-days 2");
    make_certificate("client", "ca", "-days 2");
    make_certificate("nameless", "ca", "-days 2");
    make_certificate("stranger", "other", "-days 2");
    make_certificate("expired", "ca", "-days -1");
    snprintf(cert, sizeof cert, "--cert-file=%s/server.pem", folder);
    snprintf(key, sizeof key, "--key-file=%s/server.key", folder);
    snprintf(trusted, sizeof trusted, "--trusted-ca-file=%s/ca.pem", folder);
    etcd.tls = true;
    etcd.more[0] = cert;
    etcd.more[1] = key;
    etcd.more[2] = trusted;
    etcd.more[3] = "--client-cert-auth";
    cr_assert(etcd_open(&etcd, 1));
}

static void end_tls(void)
{
    shell("rm -rf '%s'", folder);
}

/* As libeep is told; `client` is the name of our certificate, "": none. */
static void address_of(const char *user, const char *host, const char *ca, const char *client,
                       char address_out[600])
{
    int at = snprintf(address_out, 600, "etcd://%s%s:%u/test?timeout-ms=5000&tls=1&ca=%s/%s.pem",
                      user, host, etcd.client_port[0], folder, ca);
    if (client[0]) {
        snprintf(address_out + at, 600 - (size_t)at, "&cert=%s/%s.pem&key=%s/%s.key", folder,
                 client, folder, client);
    }
}

static void expect_refused(const char *address, const char *why)
{
    eepi_store_client *client = NULL;
    cr_expect_eq(eepi_store_client_open(address, ETCD_BOUND_US, &client), EEP_ERR_STATE, "%s: %s",
                 address, eepi_etcd_why());
    cr_expect(strstr(eepi_etcd_why(), why), "not \"%s\", but: %s", why, eepi_etcd_why());
}

static eepi_store_client *expect_taken(const char *address)
{
    eepi_store_client *client = NULL;
    cr_assert_eq(eepi_store_client_open(address, ETCD_BOUND_US, &client), EEP_OK, "%s: %s", address,
                 eepi_etcd_why());
    return client;
}

Test(etcd_tls, each_end_proves_who_it_is)
{
    char address[600];
    begin_tls();
    address_of("", "127.0.0.1", "ca", "client", address);
    eepi_store_client *client = expect_taken(address);
    (void)etcd_answer(client, eepi_store_watch(client, "x"));
    cr_expect_eq(etcd_answer(client, eepi_store_put(client, "x", "one", 3, 0)).status, EEP_OK);
    etcd_hears(client, EEPI_STORE_CHANGED, "x"); /* the stream speaks TLS, too */
    eepi_store_client_close(client);
    address_of("", "127.0.0.1", "other", "client", address);
    expect_refused(address, "certificate");
    address_of("", "localhost", "ca", "client", address);
    expect_refused(address, "localhost");
    address_of("", "127.0.0.1", "ca", "", address);
    expect_refused(address, "certificate");
    address_of("", "127.0.0.1", "ca", "expired", address);
    expect_refused(address, "certificate");
    address_of("", "127.0.0.1", "ca", "stranger", address);
    expect_refused(address, "certificate");
    address_of("", "127.0.0.1", "none", "client", address);
    expect_refused(address, "none.pem");
    shell("cp stranger.key client.key"); /* another one than the certificate's */
    address_of("", "127.0.0.1", "ca", "client", address);
    expect_refused(address, "client.");
    setenv("EEP_ETCD_CERT", "/nowhere", 1);
    address_of("", "127.0.0.1", "ca", "", address);
    expect_refused(address, "EEP_ETCD_KEY");
    end_tls();
}

Test(etcd_tls, an_address_without_tls_is_told_so)
{
    char address[600];
    eepi_store_client *client = NULL;
    begin_tls();
    address_of("", "127.0.0.1", "ca", "client", address);
    eepi_store_client_close(expect_taken(address)); /* it has begun to answer */
    snprintf(address, sizeof address, "etcd://127.0.0.1:%u/test?timeout-ms=5000",
             etcd.client_port[0]);
    cr_expect_eq(eepi_store_client_open(address, 1000000, &client), EEP_ERR_UNREACHABLE);
    cr_expect(strstr(eepi_etcd_why(), "tls=1"), "%s", eepi_etcd_why());
    end_tls();
}

Test(etcd_tls, users_need_their_password_as_well)
{
    char address[600];
    begin_tls();
    address_of("", "127.0.0.1", "ca", "client", etcd_at);
    enable_users();
    setenv("EEP_ETCD_PASSWORD", "secret", 1);
    address_of("root@", "127.0.0.1", "ca", "client", address);
    expect_refused(address, "CommonName"); /* etcd's gateway takes users from passwords alone */
    setenv("EEP_ETCD_PASSWORD", "wrong", 1);
    address_of("root@", "127.0.0.1", "ca", "nameless", address);
    expect_refused(address, "authentication failed");
    setenv("EEP_ETCD_PASSWORD", "secret", 1);
    eepi_store_client *client = expect_taken(address);
    cr_expect_eq(etcd_answer(client, eepi_store_put(client, "x", "one", 3, 0)).status, EEP_OK);
    eepi_store_client_close(client);
    end_tls();
}
