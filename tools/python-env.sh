#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# python-env.sh: make the environment of `./check --python`, and print its folder.
#
# It is kept in ${XDG_CACHE_HOME:-~/.cache}/eep/python-HASH, where HASH is that of this file: a changed
# recipe makes another one. It has numpy, cffi, mypy, UCX as a wheel, and torch for the CPU where that
# can be had (2.1 GB, without torch's own dependencies; `no-torch` in the folder says why it cannot).
set -euo pipefail
unset LIBRARY_PATH
recipe=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/eep
env=$cache/python-$recipe
mkdir -p "$cache"
exec 9>"$cache/python-$recipe.lock"
flock 9 # two checks at once make one
if [ ! -e "$env/complete" ]; then
    rm -rf "$env"
    /usr/bin/python3 -m venv "$env"
    pip() { "$env/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }
    pip "numpy>=1.21" "cffi>=1.15" pycparser mypy libucx-cu12
    # torch looks for libraries of CUDA as it starts, also where it computes on the CPU alone.
    if ! { pip --no-deps torch && pip --no-deps nvidia-cufile nvidia-cusparselt-cu13==0.8.1 \
            nvidia-nvshmem-cu13==3.7.2 nvidia-nccl-cu13==2.30.7 &&
            pip filelock typing-extensions sympy networkx jinja2 fsspec; } 2>"$env/pip.log"; then
        tail -n 1 "$env/pip.log" >"$env/no-torch"
    fi
    touch "$env/complete"
fi
printf '%s\n' "$env"
