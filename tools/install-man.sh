#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install-man.sh FROM TO: the manual pages that doxygen made, below DESTDIR; not the list of files.
set -eu
mkdir -p "${DESTDIR:-}$2"
find "$1" -name 'eep*.3' -exec cp {} "${DESTDIR:-}$2" \;
