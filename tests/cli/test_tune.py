# SPDX-License-Identifier: MIT
"""trine tune: what hangs, crashes, computes wrong results or writes outside its memory loses, and the rest is chosen from; a kill loses
one candidate at most; a second run measures nothing; exports."""
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time

from cli_support import TRINE, Run, main, make_base, make_folder, read_safetensors, write_npy

SMALL = ["tune", "--arch", "resnet20_cifar", "--batch", 1, "--size", 16, "--mode", "infer"]


def own_cache(folder, **more):
    """A cache that nothing else uses."""
    return {"TRINE_CACHE_DIR": os.path.join(folder, "cache"), **more}


def tune(folder, *more, **variables):
    """The JSON of a run."""
    return Run(*SMALL, *more, "--json", "-", env=own_cache(folder, **variables)).json()


def plants(folder):
    """All four kinds of a bad candidate lose; the one that is right is taken, whatever the clock says."""
    result = tune(folder, "--limit", 20, TRINE_TUNE_PLANT="conv2d_winograd4=crash,conv2d_winograd2=wrong,conv2d_gemm=outside,"
                  "conv2d_winograd4_gemm=wrong,conv2d_winograd2_gemm=wrong,linear_clblast=wrong")
    assert result["results"] and result["measured"] > 0, result
    linear = [row for row in result["results"] if row["problem"].startswith("linear ")]
    assert [row["problem"] for row in linear] == ["linear forward 64>10"] and linear[0]["chosen"] == "linear_plain", linear
    assert linear[0]["ms"]["linear_plain"] > 0 and linear[0]["ms"]["linear_clblast"] is None, linear
    for row in result["results"][:-1]:
        assert row["chosen"] == "conv2d_direct" and row["ms"]["conv2d_direct"] > 0, row
        for bad in ("conv2d_winograd4", "conv2d_winograd2", "conv2d_gemm", "conv2d_winograd4_gemm", "conv2d_winograd2_gemm"):
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


def crashing(folder):
    """Every candidate crashes and says so, so that it is known how far a run had come: a kill loses the one under way at most."""
    names = ("plain", "direct", "gemm", "winograd2", "winograd4", "winograd2_gemm", "winograd4_gemm", "clblast")
    plant = ",".join([f"conv2d_{name}=crash" for name in names] + ["linear_plain=crash", "linear_clblast=crash"])
    waits, told = (0, 0.01, 0.03, 0.1, 0.2, 0.4), []
    for wait in waits:
        before = measured(folder)
        with subprocess.Popen([TRINE, *map(str, SMALL)], env={**os.environ, **own_cache(folder, TRINE_TUNE_PLANT=plant)}, text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            said = [process.stderr.readline() for _ in range(3)]
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            said += process.stderr.readlines()
        losers = [line for line in said if " loses: crashed" in line]
        assert process.returncode == -signal.SIGKILL and losers, said
        assert measured(folder) - before >= len(losers) - 1, (before, measured(folder), losers)
        told += losers
    twice = len(told) - len(set(told))
    assert twice <= len(waits), told


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
    result = tune(folder, "--precision", "tf32") # the same ones: no matrix units here
    assert result["precision"] == "tf32" and result["measured"] == 0, result
    other = Run(*SMALL[:-1], "train", "--json", "-", env=own_cache(folder)).json()
    assert other["measured"] > 0 and any("backward_weights" in row["problem"] for row in other["results"])
    assert json.loads(Run("cache", "--clear", "--json", "-", env=own_cache(folder)).ok().out)["measured"] == 0


def finetune(folder, base, out, *more, **variables):
    """A few steps on arrays of the images that SMALL is about."""
    return Run("finetune", "--weights", base, "--input", os.path.join(folder, "x.npy"), "--labels", os.path.join(folder, "y.npy"),
               "--steps", 3, "--save-every", 1, "--out", out, "--json", "-", *more, env=own_cache(folder, **variables))


def contents(path):
    """A file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def recorded(folder):
    """Measured choices are told by bench and finetune and in what finetune writes; --resume takes no others."""
    base = make_base(folder, make_folder(os.path.join(folder, "data")))
    random.seed(3)
    write_npy(os.path.join(folder, "x.npy"), "<f4", (6, 3, 16, 16),
              struct.pack("<4608f", *(random.uniform(-1, 1) for _ in range(4608))))
    write_npy(os.path.join(folder, "y.npy"), "<i4", (6,), struct.pack("<6i", 0, 0, 1, 1, 2, 2))
    a, b, c = (os.path.join(folder, name + ".safetensors") for name in "abc")
    Run(*SMALL[:-1], "train", "--limit", 20, env=own_cache(folder, TRINE_TUNE_PLANT="conv2d_direct=wrong,conv2d_winograd4=wrong,"
                                                           "conv2d_winograd2=wrong")).ok()
    bench = ["bench", "--arch", "resnet20_cifar", "--batch", 1, "--size", 16, "--runs", 7, "--json", "-"]
    assert Run(*bench, env=own_cache(folder)).json()["tuning"].split()[1] == "choices,"
    assert Run(*bench, env=own_cache(folder, TRINE_TUNING="off")).json()["tuning"] is None
    choices = finetune(folder, base, a).json()["tuning"]
    assert int(choices.split()[0]) > 10 and read_safetensors(a)[0]["__metadata__"]["tuning"] == choices, choices
    assert finetune(folder, base, b).json()["tuning"] == choices and contents(a) == contents(b)
    assert contents(a + ".state") == contents(b + ".state")
    assert finetune(folder, base, c, TRINE_TUNING="off").json()["tuning"] is None
    assert "tuning" not in read_safetensors(c)[0]["__metadata__"] and "run.tuning" not in read_safetensors(c + ".state")[0]["__metadata__"]
    finetune(folder, base, a, "--resume").ok()
    finetune(folder, base, c, "--resume", TRINE_TUNING="off").ok()
    finetune(folder, base, a, "--resume", TRINE_TUNING="off").fails(2, choices, "none", "TRINE_CACHE_DIR")
    finetune(folder, base, c, "--resume").fails(2, choices, "resume with TRINE_TUNING=off")


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
    sys.exit(main([plants, words, kills, crashing, export, recorded, refusals]))
