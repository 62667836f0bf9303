#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks whose store is at an etcd of this test's own: they step, join, are repaired and expelled. What
# a test does to the embedded store has no meaning there.
#   tests/hosts/contexts_at_etcd.sh TEST_CONTEXT
set -euo pipefail
command -v etcd >/dev/null || { echo "no etcd here (Debian: etcd-server)"; exit 77; }
data=$(mktemp -d /dev/shm/eep-etcd-XXXXXX)
trap 'kill -9 "$etcd" 2>/dev/null; wait "$etcd" 2>/dev/null || true; rm -rf "$data"' EXIT
port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
client=http://127.0.0.1:$(port) peer=http://127.0.0.1:$(port)
etcd --name n --data-dir "$data/n" --log-level fatal --logger zap --listen-client-urls "$client" \
    --advertise-client-urls "$client" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
    --initial-cluster "n=$peer" >/dev/null 2>&1 &
etcd=$!
export EEP_TEST_STORE=etcd://${client#http://}
for name in ranks_step_together '*repaired*' '*joins*' an_abort '*expelled_and*' '*leaves*'; do
    "$1" --filter "context/$name*" -j1
done
