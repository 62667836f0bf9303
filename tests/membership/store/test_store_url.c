/* SPDX-License-Identifier: Apache-2.0 */
/* Where a store is: what is taken, and what is refused with which words. */
#include "membership/store/store_url.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static eepi_store_url parse(const char *text)
{
    char why[256] = "";
    eepi_store_url url;
    memset(&url, 0xff, sizeof url);
    cr_assert_eq(eepi_store_url_parse(text, &url, why, sizeof why), EEP_OK, "%s: %s", text, why);
    return url;
}

static void refuse(const char *text, const char *word)
{
    char why[256] = "";
    eepi_store_url url = {.num_endpoints = 7};
    cr_expect_eq(eepi_store_url_parse(text, &url, why, sizeof why), EEP_ERR_INVALID, "%s", text);
    cr_expect(strstr(why, word), "%s: '%s' does not say '%s'", text, why, word);
    cr_expect_eq(url.num_endpoints, 7);
    cr_expect_eq(eepi_store_url_parse(text, &url, NULL, 0), EEP_ERR_INVALID);
}

Test(store_url, a_path_is_a_unix_socket)
{
    static const char *const paths[][2] = {
        {"/run/eep/s", "/run/eep/s"},        {"s", "s"},
        {"unix:/run/eep/s", "/run/eep/s"},   {"unix:s", "s"},
        {"unix:///run/eep/s", "/run/eep/s"}, {"/odd://name", "/odd://name"},
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        eepi_store_url url = parse(paths[i][0]);
        cr_expect_eq(url.scheme, EEPI_STORE_UNIX);
        cr_expect_str_eq(url.path, paths[i][1]);
    }
    refuse("", "1 to 107 bytes");
    refuse("unix:", "1 to 107 bytes");
    refuse("/12345678901234567890123456789012345678901234567890123456789012345678901234567890"
           "1234567890123456789012345678",
           "this one has 109");
}

Test(store_url, tcp_is_for_loopback_addresses)
{
    eepi_store_url url = parse("tcp://127.0.0.1:7000?local=/run/eep/s");
    cr_expect(url.scheme == EEPI_STORE_TCP && url.num_endpoints == 1);
    cr_expect(strcmp(url.endpoint[0].host, "127.0.0.1") == 0 && url.endpoint[0].port == 7000);
    cr_expect_str_eq(url.path, "/run/eep/s");
    url = parse("tcp://[::1]:65535");
    cr_expect(strcmp(url.endpoint[0].host, "::1") == 0 && url.endpoint[0].port == 65535);
    cr_expect_str_eq(url.path, "");
    (void)parse("tcp://localhost:1");
    (void)parse("tcp://127.1.2.3:1");
    refuse("tcp://10.0.0.1:7000", "without a key");
    refuse("tcp://10.0.0.1:7000?instance=a", "not authenticated");
    refuse("tcp://0.0.0.0:7000", "not authenticated");
    refuse("tcp://example.org:7000", "not authenticated");
    refuse("tcp://127.0.0.1.example.org:7000", "not authenticated");
    refuse("tcp://[::]:7000", "not authenticated");
    refuse("tcp://127.0.0.1", "a port is");
    refuse("tcp://127.0.0.1:0", "a port is");
    refuse("tcp://127.0.0.1:65536", "a port is");
    refuse("tcp://127.0.0.1:70x", "a port is");
    refuse("tcp://127.0.0.1:-7", "a port is");
    refuse("tcp://[::1:7000", "brackets");
    refuse("tcp://:7000", "no host");
    refuse("tcp://127.0.0.1:7000?tls=1", "no parameter");
    refuse("tcp://127.0.0.1:7000?local=", "NAME=VALUE");
    refuse("http://127.0.0.1:7000", "no kind of store");
}

Test(store_url, with_a_key_tcp_is_for_each_address)
{
    eepi_store_url url = parse("tcp://10.0.0.1:7000?key-file=/k&instance=job 7&local=/run/eep/s");
    cr_expect_str_eq(url.key_file, "/k");
    cr_expect_str_eq(url.instance, "job 7");
    cr_expect_str_eq(url.endpoint[0].host, "10.0.0.1");
    (void)parse("tcp://[fd00::1]:7000?key-file=/k");
    refuse("tcp://0.0.0.0:7000?key-file=/k", "every interface");
    refuse("tcp://[::]:7000?key-file=/k", "every interface");
    refuse("tcp://example.org:7000?key-file=/k", "names are not looked up");
    refuse("tcp://10.0.0.1:7000?key-file=", "NAME=VALUE");
    refuse("tcp://10.0.0.1:7000?key=0123", "no parameter");
    refuse("tcp://10.0.0.1:7000?key-file=/k&instance=a\tb", "printable");
    setenv("EEP_KEY_FILE", "/other", 1);
    cr_expect_str_eq(parse("tcp://10.0.0.1:7000").key_file, "/other");
    cr_expect_str_eq(parse("tcp://127.0.0.1:7000").key_file, "/other");
    cr_expect_str_eq(parse("tcp://10.0.0.1:7000?key-file=/k").key_file, "/k");
    cr_expect_str_eq(parse("/run/eep/s").key_file, "");
    unsetenv("EEP_KEY_FILE");
}

Test(store_url, etcd_has_endpoints_a_prefix_and_parameters)
{
    eepi_store_url url = parse("etcd://me@h1:2379,h2,[fd00::3]:4000/job/7?local=/run/s&tls=1&ca=/a"
                               "&cert=/c&key=/k&password-file=/p");
    cr_expect(url.scheme == EEPI_STORE_ETCD && url.num_endpoints == 3);
    cr_expect(strcmp(url.endpoint[1].host, "h2") == 0 && url.endpoint[1].port == 2379);
    cr_expect(strcmp(url.endpoint[2].host, "fd00::3") == 0 && url.endpoint[2].port == 4000);
    cr_expect_str_eq(url.prefix, "job/7/");
    cr_expect_str_eq(url.user, "me");
    cr_expect_str_eq(url.path, "/run/s");
    cr_expect(url.tls && strcmp(url.ca, "/a") == 0 && strcmp(url.cert, "/c") == 0 &&
              strcmp(url.key, "/k") == 0 && strcmp(url.password_file, "/p") == 0);
    url = parse("etcd://10.0.0.1");
    cr_expect(url.num_endpoints == 1 && !url.tls && url.user[0] == '\0');
    cr_expect_str_eq(url.prefix, "eep/");
    cr_expect_str_eq(parse("etcd://h/a/").prefix, "a/");
    cr_expect_eq(url.timeout_ms, 1500);
    cr_expect_eq(parse("etcd://h?timeout-ms=20").timeout_ms, 20);
    refuse("etcd://h?timeout-ms=0", "1 to 60000");
    refuse("etcd://h?timeout-ms=60001", "1 to 60000");
    refuse("etcd://h?timeout-ms=-5", "1 to 60000");
    refuse("etcd://", "no host");
    refuse("etcd:///p", "no host");
    refuse("etcd://a,b,c,d,e,f,g,h,i,j", "more than 9");
    refuse("etcd://me:secret@h", "never in an address");
    refuse("etcd://@h", "a user");
    refuse("etcd://h?tls=2", "0 or 1");
    refuse("etcd://h?ca=/a", "need tls=1");
    refuse("etcd://h?tls=1&cert=/a", "together");
    refuse("etcd://h?colour=red", "no parameter");
    refuse("etcd://h/1234567890123456789012345678901234567890123456789012345678901234", "prefix");
}
