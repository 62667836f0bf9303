#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# python.sh BUILD: the Python package `eep` over the libeep of a finished build, with numpy alone: all
# of its calls, ends of programs, many contexts, ranks that are killed and stopped, the examples.
set -euo pipefail
unset LIBRARY_PATH
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=/usr/bin/python3
"$python" -c "import cffi, numpy" 2>/dev/null || { echo "no python3-cffi or python3-numpy here"; exit 77; }
[ -e "$("$python" -c "import sysconfig; print(sysconfig.get_paths()['include'])")/Python.h" ] ||
    { echo "no Python.h (python3-dev) here"; exit 77; }

"$python" "$root/bindings/python/eep_build.py" --tree "$build/python" --libeep "$build/libeep.so"
export PYTHONPATH=$build/python PYTHONDONTWRITEBYTECODE=1
"$python" -m eep --version
for tests in binding binding_device binding_members; do
    "$python" "$root/tests/python/test_$tests.py"
done
"$python" "$root/tests/python/test_binding_ends.py"
"$python" "$root/tests/python/test_binding_ranks.py"
"$python" "$root/tests/python/test_binding_many.py" 400
said=$("$python" "$root/examples/serve.py")
[ "$said" = $'step 1 of epoch 1: 1.5\nstep 2 of epoch 1: 3.0\nstep 3 of epoch 1: 4.5' ] ||
    { echo "examples/serve.py said: $said"; exit 1; }
