#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# python_env.sh PART ENV DIR: one part of `./check --python`, in an environment of tools/python-env.sh.
#   wheel   pip builds the wheel into DIR and installs it there (DIR/site)
#   plain   pip install of this tree in an environment of its own, as a new user does
#   types, calls, ends, ranks, many, torch, ucx    with what is in DIR/site
#   torchrun BUILD   ranks of a build under torchrun
set -euo pipefail
unset LIBRARY_PATH
part=$1 env=$2 dir=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$env/bin/python
export PYTHONPATH=$dir/site PYTHONDONTWRITEBYTECODE=1
# torch needs the libraries of CUDA that its wheels have, and those of the toolkit where that is.
libraries=$(find "$env"/lib/python3*/site-packages/nvidia -maxdepth 2 -name lib -type d 2>/dev/null | paste -sd:)
case $part in
wheel)
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$dir" "$root/bindings/python"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$dir/site" "$dir"/eep-*.whl
    "$python" -m eep --version
    ;;
plain)
    unset PYTHONPATH
    /usr/bin/python3 -m venv "$dir/plain"
    "$dir/plain/bin/pip" install --quiet --disable-pip-version-check "$dir"/eep-*.whl
    "$dir/plain/bin/python" "$root/examples/serve.py"
    "$dir/plain/bin/python" "$root/examples/front.py"
    ;;
types)
    cd "$dir/site"
    "$python" -m mypy --strict --cache-dir "$dir/mypy" -p eep
    ;;
calls)
    for tests in binding binding_device binding_members; do
        "$python" "$root/tests/python/test_$tests.py"
    done
    ;;
ends) "$python" "$root/tests/python/test_binding_ends.py" --all ;;
ranks) "$python" "$root/tests/python/test_binding_ranks.py" ;;
many) "$python" "$root/tests/python/test_binding_many.py" 1000 ;;
steps) "$python" "$root/experiments/measure/python_steps.py" --blocks 10 --out "$dir/steps" ;;
torch)
    [ ! -e "$env/no-torch" ] || { echo "no torch: $(cat "$env/no-torch")"; exit 77; }
    LD_LIBRARY_PATH=$libraries:/usr/local/cuda/lib64 "$python" "$root/tests/python/test_binding_torch.py"
    ;;
torchrun)
    [ ! -e "$env/no-torch" ] || { echo "no torch: $(cat "$env/no-torch")"; exit 77; }
    TORCH_PYTHON=$python LD_LIBRARY_PATH=$libraries:/usr/local/cuda/lib64 \
        /usr/bin/python3 "$root/tests/hosts/test_launchers.py" "$4" torchrun
    ;;
ucx) # ranks whose weights go over the UCX of the wheel
    EEP_PYTHON_UCX=wheel "$python" -m eep --version | grep "UCX .* of the wheel libucx"
    EEP_PYTHON_UCX=wheel EEP_BULK=ucx "$python" "$root/examples/front.py"
    ;;
*) echo "no part '$part'"; exit 2 ;;
esac
