#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A test program that starts etcd for itself; where there is none its tests are left out by name.
#   tests/hosts/with_etcd.sh PROGRAM
set -euo pipefail
command -v etcd >/dev/null || { echo "no etcd here (Debian: etcd-server)"; exit 77; }
exec "$@"
