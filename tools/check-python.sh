# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # sourced by ./check --python, which sets root, tmp and step
# What needs more than numpy: the wheel, an environment with mypy, UCX and torch, longer tests.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python_env=$(bash tools/python-env.sh) || die "the environment could not be made (tools/python-env.sh)"
in_env() { bash tests/run/python_env.sh "$1" "$python_env" "$tmp"; }
show=yes show_lines=3 step "the wheel of eep is built and installed by pip" in_env wheel
step "it installs by plain pip in a new environment, and the examples run there" in_env plain
step "its types hold, strictly" in_env types
step "every call" in_env calls
show=yes show_lines=1 step "an exception before and behind every call of C" in_env ends
step "ranks that are killed and stopped" in_env ranks
show=yes show_lines=1 step "1,000 contexts leave nothing" in_env many
show=yes show_lines=5 step "a step from Python costs at most 50 us more than from C" in_env steps
step "weights go over the UCX of the wheel libucx-cu12" in_env ucx
step "torch: tensors as weights, buffers and kernels" in_env torch
# Launchers that come from PyPI (docs/DEPLOY.md). Ray has 0.3 GB, too much for each `./check --hosts`.
build "$root/build" -Dbuildtype=debugoptimized
show=yes step "ranks are numbered by torchrun's variables" bash tests/run/python_env.sh torchrun "$python_env" "$tmp" "$root/build"
ray_env=$(bash tools/ray-env.sh) || die "the environment with Ray could not be made (tools/ray-env.sh)"
show=yes step "the recipe for Ray: a rank and an actor are killed and come back, no row is wrong" \
    env RAY_PYTHON="$ray_env/bin/python" /usr/bin/python3 tests/hosts/test_launchers.py "$root/build" ray
