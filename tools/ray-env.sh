#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ray-env.sh: make an environment of Python with Ray, for the recipe of docs/DEPLOY.md in
# `./check --python`, and print its folder. It has 0.3 GB, and is kept in
# ${XDG_CACHE_HOME:-~/.cache}/eep/ray-HASH, where HASH is that of this file.
set -euo pipefail
unset LIBRARY_PATH
recipe=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/eep
env=$cache/ray-$recipe
mkdir -p "$cache"
exec 9>"$cache/ray-$recipe.lock"
flock 9 # two checks at once make one
if [ ! -e "$env/complete" ]; then
    rm -rf "$env"
    /usr/bin/python3 -m venv "$env"
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check "ray>=2.40" >&2
    touch "$env/complete"
fi
printf '%s\n' "$env"
