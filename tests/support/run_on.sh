#!/bin/sh
# SPDX-License-Identifier: MIT
# run_on.sh IMPLEMENTATION COMMAND ...: a device suite, or `trine devices`, on one OpenCL implementation:
#   device:SELECTOR  the device that `--device SELECTOR` takes; llvmpipe is among them
#   rusticl          Mesa's rusticl on llvmpipe, at small shapes
#   oclgrind         the simulator with its checks of bounds and races, at small shapes
#   oclgrind-strict  the same, with its check of uninitialised reads
#   intel            Intel's CPU runtime, from where tests/portability puts it in the build folder ($TRINE_TEST_BUILD)
# Exit codes: 77 where it is not there (the last line says why), 3 if Oclgrind has findings, else the command's.
set -u
implementation=$1
shift
skip() {
    echo "skipped: $1"
    exit 77
}
export TRINE_CACHE=off CK_FORK=no RUSTICL_ENABLE="${RUSTICL_ENABLE:+$RUSTICL_ENABLE,}llvmpipe"
case $implementation in
device:*)
    export TRINE_TEST_DEVICE="${implementation#device:}"
    exec "$@"
    ;;
rusticl)
    [ -e /etc/OpenCL/vendors/rusticl.icd ] || skip "rusticl is not installed (package mesa-opencl-icd)"
    export TRINE_TEST_SMALL=1 TRINE_TEST_DEVICE=llvmpipe
    exec "$@"
    ;;
intel)
    runtime=${TRINE_TEST_BUILD:-build}/intel-opencl
    [ -e "$runtime/vendors/intel.icd" ] || skip "Intel's CPU runtime is not in the build folder (tests/portability fetches it)"
    export OCL_ICD_VENDORS="$runtime/vendors" LD_LIBRARY_PATH="$runtime/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    exec "$@"
    ;;
oclgrind | oclgrind-strict)
    command -v oclgrind >/dev/null || skip "oclgrind is not installed"
    export TRINE_TEST_SMALL=1
    if [ "$implementation" = oclgrind-strict ]; then
        keep_memory=${TRINE_TEST_BUILD:-build}/tests/support/libkeep_memory.so
        # shellcheck disable=SC2016  # the inner shell's
        set -- --uninitialized --global-mem-size 4000000000 \
            sh -c 'LD_PRELOAD="$0:$LD_PRELOAD" exec "$@"' "$keep_memory" "$@"
    fi
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # unoptimised kernels: the checks do not follow everything that LLVM's optimiser makes of them
    oclgrind --build-options -cl-opt-disable --data-races "$@" >"$log" 2>&1
    code=$?
    cat "$log"
    if grep -qiE 'uninitialized|invalid (read|write|memory)|race at|errors generated|oclgrind fatal|unhandled|barrier divergence' "$log"; then
        echo "Oclgrind has findings"
        exit 3
    fi
    exit $code
    ;;
*)
    echo "run_on.sh: unknown implementation '$implementation'"
    exit 2
    ;;
esac
