#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# eep-info: a GPU made of host threads, and whether the RDMA devices of a test double take its memory.
#   tests/run/info_gpu.sh EEP_INFO_WITH_PORTS FAKE_GPU_FOLDER
set -u
info=${1:?usage: tests/run/info_gpu.sh EEP_INFO_WITH_PORTS FAKE_GPU_FOLDER}
export LD_LIBRARY_PATH="${2:?}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
failed=0
expect() { # TEXT ARGUMENT...: in what it prints
    text=$1
    shift
    found=$("$info" "$@" 2>&1) || failed=1
    case $found in
    *"$text"*) ;;
    *) echo "eep-info $*: no \"$text\" in: $found"; failed=1 ;;
    esac
}
expect "GPUDirect RDMA: no: device 0: it has no GPUDirect RDMA"
export EEP_FAKE_GPU_GPU_DIRECT=1
expect "its memory can be handed to network cards"
expect "          fake_1 takes it"
expect '"registers":	true' --json
exit $failed
