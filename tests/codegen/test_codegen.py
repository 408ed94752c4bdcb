#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/codegen must be able to say no: planted kernels that spill, starve or do not compile turn it red on every maker's target,
one that is well does not, and a target without its generator is named and left out."""
import os
import subprocess
import sys
import tempfile

SOURCE, BUILD = os.environ["TRINE_TEST_SOURCE"], os.environ["TRINE_TEST_BUILD"]
OPTIONS = "-w -cl-std=CL1.2 -cl-denorms-are-zero -cl-mad-enable"
SUMS = {"gfx900": 600, "dg2": 160, "sm_80": 600}  # a target's registers do not hold so many
SHAPES = ["gpusub:65536:256:64", "cpu4:524288:4096:8", "cpu8:524288:4096:8", "cpu16:524288:4096:8"]
SKIP = 77

SOUND = """
__kernel void planted(__global float *y, const int n)
{
    const int i = (int)get_global_id(0);
    if (i < n) y[i] = fma(y[i], 2.0f, (float)get_local_id(0));
}
"""
# N sums that all live at once, whatever the order of the instructions
SPILLS = """
__kernel void planted(__global float *y, __global const float *x, const int n)
{
    float a[N];
#pragma unroll
    for (int i = 0; i < N; i++) a[i] = x[i * n + get_global_id(0)];
    for (int j = 0; j < n; j++)
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = fma(a[i], x[j], a[(i * 7 + 3) % N]);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) sum += a[i];
    y[get_global_id(0)] = sum;
}
"""
# one work-group's local memory fills the multiprocessor
STARVES = """
__kernel void planted(__global float *y, const int n)
{
    __local float all[12 * 1024];
    for (int i = (int)get_local_id(0); i < 12 * 1024; i += 64) all[i] = y[i + n];
    barrier(CLK_LOCAL_MEM_FENCE);
    y[get_global_id(0)] = all[(n + get_local_id(0)) % (12 * 1024)];
}
"""
# STARVES for groups of 16 work-items, as it says itself
STARVES_BY_ITSELF = STARVES.replace("__kernel", "__attribute__((reqd_work_group_size(16, 1, 1))) __kernel")
# an index that only the device knows
ARRAY = """
__kernel void planted(__global float *y, const int n)
{
    float all[1024];
    for (int i = 0; i < 1024; i++) all[i] = y[i * n];
    for (int i = 0; i < n; i++) all[(int)y[i] & 1023] += all[(int)y[i + n] & 1023];
    y[get_global_id(0)] = all[n & 1023];
}
"""
BROKEN = """
__kernel void planted(__global float *y) { y[0] = no_such_value; }
"""
UNRESOLVED = """
float no_such_function(float x);
__kernel void planted(__global float *y) { y[0] = no_such_function(y[0]); }
"""


def codegen(source, options, *arguments, use="chosen", local="64x1x1"):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "planted.cl"), "w", encoding="ascii") as f:
            f.write(source)
        lines = os.path.join(folder, "list")
        with open(lines, "w", encoding="ascii") as f:
            f.write("\t".join([use, "planted", f"{OPTIONS} {options}", local, "0", "test"]) + "\n")
        done = subprocess.run([os.path.join(SOURCE, "tools/codegen"), "--list", lines, "--sources", folder, *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
        return done.returncode, done.stdout


def expect(what, result, code, *texts):
    got, output = result
    if got != code or any(text not in output for text in texts):
        sys.exit(f"{what}: exit {got}, expected {code} with {texts}; it said:\n{output}")


def run_bare(*arguments):
    done = subprocess.run([os.path.join(SOURCE, "tools/codegen"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", check=False)
    return done.returncode, done.stdout


def check_compiling(target, usual):
    """A code of `usual` where all is well: SKIP where registers stay unknown."""
    at = ("--targets", target)
    for shape in ("gpu", "cpu16"):
        expect(f"{target}, no C", codegen(BROKEN, "", *at, "--shapes", shape), 1, f"FAILED: {target}: planted", "does not build",
               "no_such_value")
    expect(f"{target}, a function that is nowhere", codegen(UNRESOLVED, "", *at), 1, "does not build")
    expect(f"{target}, well", codegen(SOUND, "", *at), usual, "1 of 1 build")
    expect(f"{target}, another group", codegen(STARVES_BY_ITSELF, "", *at, use="forced", local="64x1x1"), 1,
           "is launched in groups of 64x1x1, but made for 16x1x1")
    expect(f"{target}, no matrix instruction", codegen(SOUND, "-DMMA=PLANTED", *at, use="forced"), 1, "has no matrix instruction")


def check_registers(target):
    at, many = ("--targets", target), f"-DN={SUMS[target]}"
    expect(f"{target}, a spill", codegen(SPILLS, many, *at), 1, f"FAILED: {target}: planted {many}", " spills (")
    expect(f"{target}, a spill by name only", codegen(SPILLS, many, *at, use="forced"), 0, "1 of 1 build")
    expect(f"{target}, a CPU's spill", codegen(SPILLS, many, *at, "--shapes", "cpu16"), 0, "1 of 1 build")
    expect(f"{target}, never launched", codegen(STARVES_BY_ITSELF, "", *at, local="-"), 1, "%, below 25%")
    expect(f"{target}, an array", codegen(ARRAY, "", *at), 1, "bytes a work-item in memory")


def check_list():
    """Every kernel file is asked for on a device of some shape, so none goes by unseen."""
    asked = set()
    for shape in SHAPES:
        done = subprocess.run([os.path.join(BUILD, "tests/codegen/list_programs"), shape], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, "TRINE_CACHE": "off"}, check=False)
        if done.returncode == SKIP:
            return done.stderr.strip()
        if done.returncode != 0:
            sys.exit(f"list_programs {shape}: exit {done.returncode}: {done.stderr}")
        fields = [line.split("\t") for line in done.stdout.splitlines()]
        asked |= {field[1] for field in fields}
        idle = sorted({field[1] for field in fields if field[3] == "-"} - {field[1] for field in fields if field[3] != "-"})
        if idle:
            sys.exit(f"list_programs {shape}: created but never launched: {', '.join(idle)}")
    files = {name[:-3] for name in os.listdir(os.path.join(SOURCE, "cl")) if name.endswith(".cl")}
    if asked != files:
        sys.exit(f"asked for but not in cl/: {sorted(asked - files)}; in cl/ but never asked for: {sorted(files - asked)}")
    return None


def main():
    skipped = []
    for target in SUMS:
        code, output = codegen(SOUND, "", "--targets", target)
        if code == SKIP:
            skipped.append(output.strip().splitlines()[-1])
        if "1 of 1 build" in output:
            check_compiling(target, code)
        if code == 0:
            check_registers(target)
    if codegen(SOUND, "", "--targets", "gfx900")[0] == 0:
        expect("gfx900, little occupancy", codegen(STARVES, "", "--targets", "gfx900"), 1, "occupancy 2%, below 25%")
        expect("gfx900, never launched", codegen(STARVES, "", "--targets", "gfx900", local="-"), 0, "1 of 1 build")
    expect("an unknown target", codegen(SOUND, "", "--targets", "no_such"), 2, "no_such")
    expect("no build", run_bare("--build", "/nonexistent", "--targets", "gfx900,dg2,sm_80"), 1, "build first")
    expect("half of a pair", run_bare("--sources", "."), 2, "come together")
    skipped.append(check_list())
    skipped = [why for why in skipped if why]
    if skipped:
        print("SKIP: in part: " + "; ".join(skipped))
        sys.exit(SKIP)


main()
