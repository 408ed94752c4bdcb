# SPDX-License-Identifier: MIT
"""Quirks, selectors and trine probe against drivers that misbehave (odd_driver.c, the first argument, is loaded before the loader)."""
import json
import os
import re
import sys

from cli_support import Run, main, skip

SMALL = ["bench", "--arch", "resnet20_cifar", "--batch", 1, "--runs", 7]


def odd(**variables):
    """Environment of a program that meets the odd driver."""
    return {"LD_PRELOAD": sys.argv[1], **{f"ODD_{name.upper()}": str(value) for name, value in variables.items()}}


def devices(env=None):
    """What trine devices lists."""
    return json.loads(Run("devices", "--json", "-", env=env).out)["devices"]


def ids(device):
    """The quirks of a device, by id."""
    return [row["id"] for row in device["quirk_list"]]


def quirks(_folder):
    """Rows in JSON and in the text; refusals, and how to override them; typing errors are told."""
    old = {"platform": "Portable Computing Language", "platform_version": "OpenCL 1.2 pocl 1.4, LLVM 9.0.1, RELOC"}
    for device in devices(odd(**old)):
        row = device["quirk_list"][0]
        assert row["id"] == "pocl-before-1.5" and row["effect"] == "refuse" and not row["ignored"], device
        assert row["source"] and row["reason"] in device["quirks"] and row["reason"] in device["reason"], device
        assert not device["usable"] and not device["default"], device
        assert "TRINE_IGNORE_QUIRKS=pocl-before-1.5" in device["reason"], device
    Run("probe", env=odd(**old)).fails(3, "PoCL before 1.5", "TRINE_IGNORE_QUIRKS=pocl-before-1.5")
    knowing = {**odd(**old), "TRINE_IGNORE_QUIRKS": "clover,pocl-before-1.5"}
    device = devices(knowing)[0]
    assert device["usable"] and device["quirk_list"][0]["ignored"], device
    assert "PoCL before 1.5" in device["quirks"], device
    talk = Run(*SMALL, env=knowing, quiet=False).ok().err
    assert talk.count("PoCL before 1.5") == 1 and "TRINE_IGNORE_QUIRKS" in talk, talk
    assert "PoCL" not in Run(*SMALL, env=knowing).ok().err
    Run("devices", env={"TRINE_IGNORE_QUIRKS": "clovr"}).fails(2, "TRINE_IGNORE_QUIRKS", "clovr")
    fine = odd(**{**old, "platform_version": "OpenCL 3.0 PoCL 3.1+debian, LLVM 15.0.6"})
    assert devices(fine)[0]["usable"], devices(fine)
    assert ids(devices(fine)[0]) == ["pocl-local-size", "pocl-barriers"], devices(fine)


def text(_folder):
    """At most 80 columns, whatever the driver says; each quirk once, with its source."""
    long = "A device with a name of many words that no reader would call short, revision B"
    env = odd(name=long, platform="Clover", platform_version="OpenCL 1.1 Mesa 22.3.6")
    out = Run("devices", env=env).out
    assert max(map(len, out.split("\n"))) <= 80, out
    flat = " ".join(out.split())
    assert flat.count("Clover is unmaintained") == len(devices(env)) and "quirk clover (refuse)" in flat, out
    assert "[hashcat backend.c]" in flat and long in flat, out


def effects(folder):
    """A warning is told when the device is opened; where the driver keeps programs trine keeps none."""
    cache = os.path.join(folder, "cache")
    intel = odd(platform="Intel(R) OpenCL Graphics", driver="32.0.101.6881")
    talk = Run(*SMALL, env=intel, quiet=False).ok().err
    assert talk.count("32.0.101.6881") == 1 and "KataGo#1083" in talk, talk
    talk = Run(*SMALL, env={**intel, "ODD_DRIVER": "32.0.101.6556"}, quiet=False).ok().err
    assert "KataGo" not in talk, talk
    nvidia = {**odd(platform="NVIDIA CUDA"), "TRINE_CACHE_DIR": cache}
    Run(*SMALL, env=nvidia).ok()
    assert not os.path.exists(cache), os.listdir(cache)
    Run(*SMALL, env={**nvidia, "TRINE_IGNORE_QUIRKS": "nvidia-*"}).ok()
    assert os.listdir(cache), "no cache although the quirk is ignored"


def two(env):
    """Skip what needs a second device where the first cannot be divided."""
    if len([device for device in devices(env) if device["usable"]]) < 2:
        skip("the OpenCL device cannot be divided into two")


def selectors(_folder):
    """By index, type and name; where several fit, the best is taken and told."""
    env = odd(split=1)
    two(env)
    found = devices(env)
    best = [device for device in found if device["default"]][0]
    for selector in (best["name"], best["platform"][:5].upper(), best["type"]):
        alike = [device for device in found if device["usable"] and
                 (selector.lower() in (device["name"] + " " + device["platform"]).lower() or selector == device["type"])]
        done = Run(*SMALL, "--device", selector, env=env, quiet=False).ok()
        assert f"'{selector}' fits {len(alike)} devices: device {best['index']} ({best['name']}) is taken" in done.err, done
        assert "fits" not in Run(*SMALL, "--device", selector, env=env).ok().err
    for device in found:
        if device["usable"]:
            assert "fits" not in Run(*SMALL, "--device", device["index"], env=env, quiet=False).ok().err
    assert "fits" not in Run(*SMALL, env=env, quiet=False).ok().err
    Run(*SMALL, "--device", "accelerator", env=env).fails(3, "accelerator", best["name"])


def wrong(folder):
    """A driver that miscompiles one kernel is refused, with the kernel, the place and both values."""
    for kernel, line in (("conv2d_direct", "#define fma(a, b, c) ((a) * (b) + (c) * 1.01f)"),
                         ("conv2d_plain_forward", "#define fma(a, b, c) NAN")):
        path = os.path.join(folder, "probe.json")
        env = {**odd(kernel=kernel, text=line), "TRINE_CACHE": "off"}
        done = Run("probe", "--json", path, env=env).fails(5, kernel, "is refused", "expected", devices()[0]["name"])
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        assert result["ok"] is False and "gflops" not in result, result
        bad = [test for test in result["tests"] if not test["ok"]]
        assert bad and f"{len(bad)} of {len(result['tests'])} known-answer tests failed" in done.err, (bad, done)
        assert f"first {bad[0]['implementation']} (kernels " in done.err and bad[0]["detail"] in done.err, done
        assert re.search(r"\w\[\d+\] is \S+, expected \S+ \(error ", bad[0]["detail"]), bad[0]
        assert all(kernel in test["kernels"] or test["name"].startswith("resnet20") for test in bad), (kernel, bad)
        assert any(kernel.startswith(test["implementation"]) for test in bad), bad
        assert f"FAILED {bad[0]['name']}: {bad[0]['detail']}" in done.out, done


def everything(folder):
    """probe --all: a block and a row for every device; a broken one is told, the other is probed all the same."""
    env = odd(split=1)
    two(env)
    usable = [device for device in devices(env) if device["usable"]]
    path = os.path.join(folder, "all.json")
    alone = json.loads(Run("probe", "--json", "-", env=env).ok().out)
    shown = Run("probe", "--all", "--json", path, env=env).ok().out
    assert max(map(len, shown.split("\n"))) <= 80, shown
    for device in usable:
        assert f"device {device['index']}: {device['name']}" in shown, shown
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    assert result["ok"] is True and [row["index"] for row in result["devices"]] == [device["index"] for device in usable], result
    for row in result["devices"]:
        assert set(alone) <= set(row) and row["ok"] is True and row["exit_code"] == 0 and len(row["tests"]) > 20, row
    for variables, at, code, word in (({"crash": 1}, 0, 1, "crashed"), ({"fail": 1}, 1, 1, "clCreateContext"),
                                      ({"kernel": "add", "text": "#error odd"}, 0, 5, "kernel add does not build")):
        faulty = {**odd(split=1, at=at, **variables), "TRINE_CACHE": "off" if "kernel" in variables else ""}
        done = Run("probe", "--all", "--json", "-", env=faulty)
        assert done.code == code and word in done.err, done
        rows = json.loads(done.out)["devices"]
        assert json.loads(done.out)["ok"] is False and len(rows) == len(usable), rows
        for row in rows:
            assert row["ok"] is (row["index"] != at), (at, row["index"], row["ok"], row.get("error"))
            assert row["exit_code"] == (code if row["index"] == at else 0), (at, row["exit_code"])
        assert code == 5 or word in rows[at]["error"], rows[at]
    Run("probe", "--all", "--device", 0).fails(2, "--all")
    nothing = os.path.join(folder, "vendors")
    os.mkdir(nothing)
    Run("probe", "--all", env={"OCL_ICD_VENDORS": nothing}).fails(3)


if __name__ == "__main__":
    sys.exit(main([quirks, text, effects, selectors, wrong, everything]))
