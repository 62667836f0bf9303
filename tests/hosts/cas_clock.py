#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long a compare-and-swap takes at etcd: one each 100 ms on a key of its own, a line with its
milliseconds for each that won. A write that gets no answer has no line. Ends when it is killed.

    tests/hosts/cas_clock.py URL...      of etcd's members; the next one is asked where one is gone
"""
import base64
import json
import sys
import time
import urllib.request

KEY = base64.b64encode(b"cas-clock").decode()
PERIOD_S, BOUND_S = 0.1, 2


def ask(url, what, body):
    request = urllib.request.Request(f"{url}/v3/kv/{what}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=BOUND_S) as answer:
        return json.load(answer)


def revision(url):
    found = ask(url, "range", {"key": KEY}).get("kvs")
    return int(found[0]["mod_revision"]) if found else 0


def swap(url, expected):
    """The new revision; None: somebody else's write came first, or an older one of ours."""
    answer = ask(url, "txn", {"compare": [{"key": KEY, "target": "MOD", "mod_revision": str(expected)}],
                              "success": [{"request_put": {"key": KEY, "value": KEY}}]})
    return int(answer["header"]["revision"]) if answer.get("succeeded") else None


def main():
    urls, at, known = sys.argv[1:], 0, None
    while True:
        try:
            known = revision(urls[at]) if known is None else known
            begin = time.monotonic()
            known = swap(urls[at], known)
            if known is not None:
                print(f"{1000 * (time.monotonic() - begin):.3f}", flush=True)
        except OSError:
            at, known = (at + 1) % len(urls), None
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
