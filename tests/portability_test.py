#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/portability goes red when a suite fails, crashes, hangs, has findings or runs nothing, names the case, and tells skips apart.
Usage: portability_test.py PORTABILITY BUILD; on PoCL."""
import os
import subprocess
import sys
import tempfile

PORTABILITY, BUILD = sys.argv[1:3]
SAY = 'say() { echo "$@" >>"$TRINE_TEST_REPORT"; }\n'
GOOD = 'say case conv2d plain forward; say case conv2d plain forward; say "ok 1 - f.c:conv2d:test: Passed"\n'

# script of the fake suite, exit code of tests/portability, what its output must have
CASES = [
    (GOOD, 0, ["  plain forward              2", "1 implementations, 2 cases passed, 0 failures, 0 findings, 0 skips"]),
    (GOOD + 'say case conv2d fast backward_data; say "not ok 2 - f.c:conv2d:test: output 3 is 7"; exit 1', 1,
     ["  fast backward_data      FAIL", "failure: pocl: conv2d fast backward_data: ", "output 3 is 7", "1 failures"]),
    (GOOD + "say case conv2d fast forward; kill -SEGV $$", 1, ["  fast forward            FAIL", "ended with code -11"]),
    (GOOD + "say case conv2d fast forward; sleep 60", 1, ["  fast forward            FAIL", "no end after 10 s"]),
    (GOOD + "exit 5", 1, ["failure: pocl: fake: ended with code 5"]),
    (GOOD + 'echo "Uninitialized value written"; echo "  Kernel: conv2d_fast"; exit 3', 1,
     ["finding: pocl: Uninitialized value written; Kernel: conv2d_fast (1 times)", "0 failures, 1 findings"]),
    ("exit 0", 1, ["failure: pocl: fake: it reported no case"]),
    (GOOD + "say skip linear clblast forward takes minutes", 0,
     ["  clblast forward         skip", "skip: pocl: linear clblast forward: takes minutes", "1 skips"]),
    ('echo "skipped: no such device"; exit 77', 77, ["skip: pocl: fake: no such device", "0 implementations"]),
]


def kept(folder):
    """With --results what passed is not run again, what failed is, and what has never run is told."""
    suite, results = os.path.join(folder, "suite"), os.path.join(folder, "results")
    count = f'echo run >>"{folder}/count"; test -e "{folder}/good" || exit 5\n'

    def run():
        done = subprocess.run([PORTABILITY, "--build", BUILD, "--no-build", "--no-fetch", "--only", "pocl", "--executable", suite, "--once",
                               "--results", results], check=False, capture_output=True, text=True)
        with open(os.path.join(folder, "count"), encoding="utf-8") as file:
            return done.returncode, len(file.readlines()), done.stdout

    with open(suite, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + SAY + count + GOOD)
    os.chmod(suite, 0o755)
    assert run()[:2] == (1, 1)
    with open(os.path.join(folder, "good"), "w", encoding="utf-8"):
        pass
    for _ in range(2):
        code, runs, text = run()
        assert (code, runs) == (0, 2) and "  plain forward              2" in text, (code, runs, text)
        assert "skip: pocl: op/test_batchnorm, " in text and ": not run" in text, text


def main():
    with tempfile.TemporaryDirectory() as folder:
        suite, page = os.path.join(folder, "suite"), os.path.join(folder, "page.md")
        for script, code, wanted in CASES:
            with open(suite, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\n" + SAY + script + "\n")
            os.chmod(suite, 0o755)
            done = subprocess.run([PORTABILITY, "--build", BUILD, "--no-build", "--no-fetch", "--only", "pocl", "--executable", suite,
                                   "--once", "--timeout", "10" if "sleep" in script else "100", "--write", page], check=False, capture_output=True, text=True)
            if "PoCL is not installed" in done.stdout:
                print("skipped: PoCL is not installed (package pocl-opencl-icd)")
                return 77
            about = f"{script}\nexit {done.returncode}, want {code}\n{done.stdout}{done.stderr}"
            assert done.returncode == code, about
            with open(page, encoding="utf-8") as file:
                text = file.read()
            for words in wanted:
                assert words in done.stdout and words in text, f"no '{words}':\n{about}"
            assert all(len(line) <= 80 for line in done.stdout.splitlines()), about
    with tempfile.TemporaryDirectory() as folder:
        kept(folder)
    print(f"{len(CASES)} suites told apart")
    return 0


sys.exit(main())
