# SPDX-License-Identifier: MIT
"""What a resumed run shows of itself is what a run without a break shows: curves of the report, BatchNorm's drift, the guard's windows,
figures in event files, step by step and none twice."""
import glob
import json
import os
import re
import shutil
import sys

import events
from cli_support import Run, main, make_base, make_folder, skip
from test_resume import start, step_of, wait_for_step

STEPS, BREAK = 60, 30


def prepare(folder):
    """Options of a fine-tuning run over made data."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    return ["finetune", "--weights", base, "--data", data, "--val", data, "--steps", STEPS, "--images-per-class", 2, "--seed", 5]


def kill_after(arguments, out, step):
    """kill -9 once the state of this step is there; it may have gone on by then, but no further save was made. @return that step"""
    process = start([*arguments, "--out", out, "--save-every", step])
    wait_for_step(out, step, process)
    process.kill()
    process.communicate()
    return step_of(out + ".state")


def curves(page):
    """Charts by title: the paths of their lines."""
    with open(page, encoding="utf-8") as file:
        text = file.read()
    found = {}
    for title, body in re.findall(r"<figure><figcaption>(.*?)</figcaption>\n(.*?)</figure>", text, re.S):
        found[title] = re.findall(r'<path class="(?:line|area) s\d(?: faint)?" d="[^"]*"/>|<rect class="f0"[^>]*>|<circle[^>]*>', body)
    return found


def scalars_of(folder):
    """{tag: [(step, value)]} of all event files of a folder, in the order in which TensorBoard reads them."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "events.out.tfevents.*"))):
        version, scalars, histograms = events.read(path)
        assert version == "brain.Event:2"
        for tag, values in scalars.items():
            found.setdefault(tag, []).extend(values)
        for tag, values in histograms.items():
            found.setdefault(tag, []).extend((step, h["num"]) for step, h in values)
    return found


def compare(folder, arguments, whole_step, *, logs="log"):
    """Whole run against one that was killed and resumed."""
    whole, part = os.path.join(folder, "whole"), os.path.join(folder, "part")
    for path in (whole, part):
        os.mkdir(path)

    def seen(path, log):
        return ["--report", os.path.join(path, "r.html"), "--log-dir", os.path.join(path, log), "--json", os.path.join(path, "j.json")]

    Run(*arguments, "--out", os.path.join(whole, "o.safetensors"), *seen(whole, "log")).ok()
    out = os.path.join(part, "o.safetensors")
    step = kill_after([*arguments, *seen(part, "log")], out, whole_step)
    assert step < STEPS, "killed too late"
    result = Run(*arguments, "--out", out, "--resume", *seen(part, logs)).ok()
    with open(os.path.join(whole, "j.json"), encoding="utf-8") as file:
        expected = json.load(file)
    with open(os.path.join(part, "j.json"), encoding="utf-8") as file:
        got = json.load(file)
    assert got["resumed_from"] == step and got["steps"] == expected["steps"][step:], result
    assert got["bn_drift"] == expected["bn_drift"], (got["bn_drift"], expected["bn_drift"])
    assert curves(os.path.join(whole, "r.html")) == curves(os.path.join(part, "r.html"))
    with open(os.path.join(part, "r.html"), encoding="utf-8") as file:
        page = file.read()
    assert f", {STEPS} steps" in page and f"resumed after step {step}" in page and "not measured, the run was resumed" not in page
    return whole, part


def finetuned(folder):
    """Everything, the distances of before the first step included."""
    arguments = prepare(folder)
    whole, part = compare(folder, arguments, BREAK)
    names = curves(os.path.join(part, "r.html"))
    assert len(names["Loss"]) == 2 and names["Loss"][0].count("L") == STEPS - 1 and len(names) >= 11, names
    expected, got = scalars_of(os.path.join(whole, "log")), scalars_of(os.path.join(part, "log"))
    assert got == expected, {tag: (got.get(tag), expected.get(tag)) for tag in {*got, *expected} if got.get(tag) != expected.get(tag)}
    assert len(glob.glob(os.path.join(part, "log", "events.*"))) == 1
    assert [step for step, _ in got["train/loss"]] == list(range(1, STEPS + 1))
    for path in (whole, part):
        with open(os.path.join(path, "log", "projector_config.pbtxt"), encoding="utf-8") as file:
            assert re.findall(r'tensor_name: "(\w+)"', file.read()) == ["before", "after"]


def trained(folder):
    """The same of a classifier; its events go to another folder after the break, which then holds the whole run."""
    data = make_folder(os.path.join(folder, "data"))
    arguments = ["train", "--arch", "resnet20_cifar", "--data", data, "--val", data, "--epochs", STEPS // 3, "--batch", 4, "--lr", 0.01,
                 "--seed", 3]
    whole, part = compare(folder, arguments, BREAK, logs="other")
    expected, got = scalars_of(os.path.join(whole, "log")), scalars_of(os.path.join(part, "other"))
    assert got == expected, {tag: (got.get(tag), expected.get(tag)) for tag in {*got, *expected} if got.get(tag) != expected.get(tag)}
    assert {"train/accuracy", "train/embedding_norm", "val/accuracy", "batchnorm/mean"} <= set(got) and "train/d_ap" not in got
    assert "Accuracy on the batches" in curves(os.path.join(part, "r.html"))


def guarded(folder):
    """A collapse is found at the step at which a run without a break finds it, and told once: resumed after it, it stays found."""
    data = make_folder(os.path.join(folder, "data"))
    arguments = ["train", "--arch", "resnet20_cifar", "--data", data, "--epochs", 80, "--batch", 4, "--lr", 0, "--seed", 3]
    whole = json.loads(Run(*arguments, "--json", "-").ok().out)["collapse"]
    assert whole["sign"] == "no-progress" and whole["stopped"] is False, whole
    assert "learning rate above 0 (0 now)" in whole["text"] and 216 <= whole["step"] < 240, whole
    out = os.path.join(folder, "o.safetensors")
    stopped = Run(*arguments, "--out", out, "--save-every", 100, "--on-collapse", "stop").fails(5, whole["text"])
    kept = step_of(out + ".state")
    assert whole["step"] <= kept < 240, (stopped, kept)
    again = Run(*arguments, "--out", out, "--resume", "--json", "-", quiet=False).ok()
    assert json.loads(again.out)["collapse"]["text"] == whole["text"] and "warning: collapse" not in again.err, again
    other = os.path.join(folder, "p.safetensors")
    shutil.rmtree(os.path.join(folder, "none"), ignore_errors=True)
    assert kill_after(arguments, other, 120) < 240
    found = Run(*arguments, "--out", other, "--resume", "--json", "-").json()["collapse"]
    assert found == whole, (found, whole)


def temperature(folder):
    """A temperature that is learnt moves, is told, and goes on after a break with the same bytes; what does not belong is refused."""
    arguments = [*prepare(folder), "--loss", "nt-xent", "--temperature", "learn:0.2", "--lr", "1e-3,temperature=0.05"]
    whole, part = compare(folder, arguments, BREAK)
    with open(os.path.join(whole, "j.json"), encoding="utf-8") as file:
        steps = json.load(file)["steps"]
    assert abs(steps[0]["temperature"] - 0.2) < 1e-6 and abs(steps[-1]["temperature"] - 0.2) > 0.01, (steps[0], steps[-1])
    assert all(step["temperature"] >= 0.0099 for step in steps)
    assert "Temperature" in curves(os.path.join(part, "r.html"))
    with open(os.path.join(whole, "o.safetensors"), "rb") as a, open(os.path.join(part, "o.safetensors"), "rb") as b:
        assert a.read() == b.read()
    out = os.path.join(part, "o.safetensors")
    Run(*arguments[:-1], "1e-3,temperature=0.04", "--out", out, "--resume").fails(2, "lr of the temperature is 0.04 here, but 0.05")
    plain = ["finetune", "--weights", "x.pth", "--data", "x"]
    for value in ("learn:0.001", "learn:", "learned", "0", "warm"):
        Run(*plain, "--loss", "nt-xent", "--temperature", value).fails(2, "--temperature", value)
    Run(*plain, "--temperature", "learn").fails(2, "--temperature goes with --loss nt-xent or --margin soft")


if __name__ == "__main__":
    if sys.argv[1:] == ["no-events"]:
        skip("this build has no event files")
    sys.exit(main([finetuned, trained, guarded, temperature]))
