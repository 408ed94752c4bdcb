# SPDX-License-Identifier: MIT
"""trine tune: what hangs, crashes, computes wrong results or writes outside its memory loses, and the rest is chosen from; a kill loses
one candidate at most; a second run measures nothing; exports."""
import json
import os
import signal
import subprocess
import sys
import time

from cli_support import TRINE, Run, main

SMALL = ["tune", "--arch", "resnet20_cifar", "--batch", 1, "--size", 16, "--mode", "infer"]


def own_cache(folder, **more):
    """A cache that nothing else uses."""
    return {"TRINE_CACHE_DIR": os.path.join(folder, "cache"), **more}


def tune(folder, *more, **variables):
    """The JSON of a run."""
    return Run(*SMALL, *more, "--json", "-", env=own_cache(folder, **variables)).json()


def plants(folder):
    """All four kinds of a bad candidate lose; one that is right is taken."""
    result = tune(folder, "--limit", 20, TRINE_TUNE_PLANT="conv2d_winograd4=crash,conv2d_winograd2=wrong,conv2d_gemm=outside,"
                  "linear_clblast=wrong")
    assert result["results"] and result["measured"] > 0, result
    linear = [row for row in result["results"] if row["problem"].startswith("linear ")]
    assert [row["problem"] for row in linear] == ["linear forward 64>10"] and linear[0]["chosen"] == "linear_plain", linear
    assert linear[0]["ms"]["linear_plain"] > 0 and linear[0]["ms"]["linear_clblast"] is None, linear
    for row in result["results"][:-1]:
        assert row["chosen"] == "conv2d_direct" and row["ms"]["conv2d_direct"] > 0, row
        for bad in ("conv2d_winograd4", "conv2d_winograd2", "conv2d_gemm"):
            assert row["ms"].get(bad) is None, row
    bench = ["bench", "--arch", "resnet20_cifar", "--batch", 1, "--size", 16, "--runs", 7, "--layers"]
    assert "winograd" not in Run(*bench, env=own_cache(folder)).ok().out
    run = Run(*SMALL, "--again", "--limit", 2, quiet=False, env=own_cache(folder, TRINE_TUNE_PLANT="conv2d_direct=hang"))
    said = [line for line in run.ok().err.split("\n") if "conv2d_direct loses" in line]
    assert said and all("took longer than 2 s" in line for line in said), run
    after = tune(folder)
    assert after["measured"] == 0 and all(row["chosen"] != "conv2d_direct" for row in after["results"]), after
    assert tune(folder, "--again", "--limit", 20, TRINE_TUNE_PLANT="linear_plain=outside")["results"][-1]["chosen"] == "linear_clblast"


def words(folder):
    """Each loser's sentence says how it lost."""
    for plant, word in (("crash", "crashed (signal 11"), ("wrong", "wrong: off by"), ("outside", "wrote outside its buffer")):
        run = Run(*SMALL, "--again", quiet=False, env=own_cache(folder, TRINE_TUNE_PLANT="conv2d_direct=" + plant)).ok()
        said = [line for line in run.err.split("\n") if "conv2d_direct loses" in line]
        assert said and all(word in line for line in said), run


def measured(folder):
    """Rows in the cache."""
    return Run("cache", "--json", "-", env=own_cache(folder)).json()["measured"]


def kills(folder):
    """Killed again and again: what was measured stays, and the run comes to its end."""
    before, deaths = 0, 0
    for wait in (0.3, 0.7, 1.1, 1.9, 2.5):
        process = subprocess.Popen([TRINE, *map(str, SMALL), "--quiet"], env={**os.environ, **own_cache(folder)},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        deaths += process.wait() == -signal.SIGKILL
        now = measured(folder)
        assert now >= before, (before, now)
        before = now
    result = tune(folder)
    assert deaths > 0 and result["measured_before"] >= before, (deaths, before, result)
    again = tune(folder)
    assert again["measured"] == 0 and [row["chosen"] for row in again["results"]] == [row["chosen"] for row in result["results"]]
    assert tune(folder, "--again")["measured"] == result["measured"] + result["measured_before"]


def export(folder):
    """The file has every row, and says for which device."""
    path = os.path.join(folder, "x.tune")
    result = tune(folder, "--export", path)
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    assert lines[0].startswith("# ") and lines[1].startswith("for device ") and lines[-1] == "", lines
    rows = [line.split(" | ") for line in lines[2:-1]]
    assert len(rows) == sum(len(row["ms"]) for row in result["results"]) and all(len(row) == 4 for row in rows), lines
    assert {row[0] for row in rows} == {row["problem"] for row in result["results"]}
    assert tune(folder, "--precision", "fp16")["measured"] > 0 # other problems
    other = Run(*SMALL[:-1], "train", "--json", "-", env=own_cache(folder)).json()
    assert other["measured"] > 0 and any("backward_weights" in row["problem"] for row in other["results"])
    assert json.loads(Run("cache", "--clear", "--json", "-", env=own_cache(folder)).ok().out)["measured"] == 0


def refusals(folder):
    """Bad values, an unknown variant, no device, no cache."""
    Run(*SMALL, "--limit", 0).fails(2, "--limit")
    Run("tune", "--arch", "resnet19").fails(2, "resnet19")
    Run(*SMALL, "--export", os.path.join(folder, "none", "x.tune")).fails(1, "--export")
    Run(*SMALL, env={"TRINE_CACHE": "off"}).fails(4, "TRINE_CACHE=off")
    empty = os.path.join(folder, "empty")
    os.mkdir(empty)
    Run(*SMALL, env={"OCL_ICD_VENDORS": empty}).fails(3, "OpenCL")


if __name__ == "__main__":
    sys.exit(main([plants, words, kills, export, refusals]))
