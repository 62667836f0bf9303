/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP to one of etcd's endpoints at a time, by libcurl: a request with its answer, and beside it
 * one stream. libcurl is opened at run time, so that programs without etcd do not load it. One
 * thread. */
#ifndef EEPI_ETCD_HTTP_H
#define EEPI_ETCD_HTTP_H

#include "membership/store/etcd/etcd_text.h"
#include "membership/store/store_url.h"

typedef struct eepi_etcd_http eepi_etcd_http;

/* EEP_ERR_SYSTEM: no libcurl, or not compiled with it. `url` is borrowed. `stop` is looked at
 * while a request waits: it ends then, UNREACHABLE. */
EEP_MUST_CHECK eep_status eepi_etcd_http_open(const eepi_store_url *url, const int *stop,
                                              eepi_etcd_http **http_out);
void eepi_etcd_http_close(eepi_etcd_http *http);
/* The next endpoint from now on; the stream ends. */
void eepi_etcd_http_move(eepi_etcd_http *http);
const char *eepi_etcd_http_endpoint(const eepi_etcd_http *http);

/* POST `body` to `path`, waiting at most `timeout_us`. EEP_OK: an answer came, of any HTTP status,
 * in *answer_out until the next request. EEP_ERR_UNREACHABLE: none came, and nobody knows whether
 * the request took effect. EEP_ERR_STATE: a certificate was refused, ours or etcd's, so that the
 * request was not sent. `token`: "" or that of a user. */
EEP_MUST_CHECK eep_status eepi_etcd_http_post(eepi_etcd_http *http, const char *path,
                                              const char *body, const char *token,
                                              uint64_t timeout_us, const char **answer_out);
/* What libcurl says of the last request that failed; "": nothing. */
const char *eepi_etcd_http_why(const eepi_etcd_http *http);
/* Begin a stream in the place of the present one; `body` is copied. */
EEP_MUST_CHECK eep_status eepi_etcd_http_stream(eepi_etcd_http *http, const char *path,
                                                const char *body, const char *token);
void eepi_etcd_http_end_stream(eepi_etcd_http *http);
/* The next line of the stream, with a NUL; valid until the next call but this one's own. NULL: none
 * is complete. */
char *eepi_etcd_http_line(eepi_etcd_http *http);
/* The stream, once begun, has ended: there will be no more lines. */
bool eepi_etcd_http_stream_ended(const eepi_etcd_http *http);
/* Sleep until the stream or one of `num_fds` descriptors has something, at most `timeout_us`. */
void eepi_etcd_http_wait(eepi_etcd_http *http, const int *fds, int num_fds, uint64_t timeout_us);
#endif
