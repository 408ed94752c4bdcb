#!/bin/sh
# SPDX-License-Identifier: MIT
# run_on.sh rusticl|oclgrind|oclgrind-strict TEST: a device suite at small shapes on another OpenCL implementation. Skipped (77) where it is not
# installed; on Oclgrind any finding fails: bounds and races, with -strict uninitialised reads too (that check does not follow fma() and
# reports every suite that selects by its result).
set -u
implementation=$1
shift
TRINE_CACHE=off TRINE_TEST_SMALL=1 CK_FORK=no
export TRINE_CACHE TRINE_TEST_SMALL CK_FORK
case $implementation in
rusticl)
    RUSTICL_ENABLE=llvmpipe TRINE_TEST_DEVICE=llvmpipe
    export RUSTICL_ENABLE TRINE_TEST_DEVICE
    if [ ! -e /etc/OpenCL/vendors/rusticl.icd ]; then
        echo "skipped: rusticl is not installed (package mesa-opencl-icd)"
        exit 77
    fi
    exec "$@"
    ;;
oclgrind | oclgrind-strict)
    if ! command -v oclgrind >/dev/null; then
        echo "skipped: oclgrind is not installed"
        exit 77
    fi
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # unoptimised kernels: the checks do not follow everything that LLVM's optimiser makes of them
    strict=
    [ "$implementation" = oclgrind ] || strict=--uninitialized
    oclgrind --build-options -cl-opt-disable --data-races $strict "$@" >"$log" 2>&1
    code=$?
    cat "$log"
    if grep -qiE 'uninitialized|invalid (read|write|memory)|race at|errors generated|oclgrind fatal|unhandled' "$log"; then
        echo "Oclgrind has findings"
        exit 1
    fi
    exit $code
    ;;
*)
    echo "run_on.sh: unknown implementation '$implementation'"
    exit 2
    ;;
esac
