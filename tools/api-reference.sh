#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# api-reference.sh DOXYGEN DOXYFILE OUT: run doxygen; whatever it warns of is an error.
set -eu
rm -rf "$3/html" "$3/man"
said=$("$1" "$2" 2>&1) || { echo "$said"; exit 1; }
[ -z "$said" ] || { echo "$said"; exit 1; }
touch "$3/html" "$3/man"
