# SPDX-License-Identifier: MIT
"""What a run of finetune shows of itself: the collapse guard, BatchNorm's drift, the report."""
import base64
import html.parser
import json
import os
import pty
import re
import subprocess
import sys

from cli_support import Run, main, make_base, make_folder, read_safetensors

SHARED = os.environ.get("TRINE_TEST_SHARED", "")
WEIGHTS = os.path.join(SHARED, "data", "weights", "resnet20-cifar10.th")
IMAGES = os.path.join(SHARED, "data", "cifar10", "train")
REAL = ["finetune", "--weights", WEIGHTS, "--data", IMAGES, "--preprocess", "cifar", "--classes-per-batch", 10,
        "--images-per-class", 8, "--bn", "eval", "--optimizer", "sgd", "--momentum", 0.9, "--weight-decay", 1e-4, "--schedule", "constant",
        "--augment", "none", "--seed", 1, "--json", "-"]
COLLAPSING = ["--no-normalize", "--margin", 0.5, "--lr", 0.01]


def small(folder, *more, **options):
    """A short run over made images."""
    data = os.path.join(folder, "data")
    if not os.path.exists(data):
        make_folder(data)
        make_base(folder, data)
    return Run("finetune", "--weights", os.path.join(folder, "base.safetensors"), "--data", data, "--images-per-class", 2,
               *more, **options)


def collapse(folder):
    """It is seen within 100 steps, and why, and stops a run that asks for it, which is saved."""
    if not os.path.exists(WEIGHTS):
        print(f"skipped: no reference data in {SHARED or 'TRINE_TEST_SHARED'}")
        return
    out = os.path.join(folder, "o.safetensors")
    done = Run(*REAL, *COLLAPSING, "--steps", 100, "--on-collapse", "stop", "--out", out)
    done.fails(5, "collapse at step", "norms have shrunk", "normalize", "learning rate (0.01 now)", "policy train")
    found = json.loads(done.out)
    assert found["collapse"]["sign"] == "norm" and 20 < found["collapse"]["step"] < 60, found["collapse"]
    assert found["collapse"]["stopped"] is True and found["collapse"]["text"] in done.err, found["collapse"]
    assert found["collapse"]["d_ap"] < 0.05 * found["collapse"]["first_distance"], found["collapse"]
    steps = int(read_safetensors(out)[0]["__metadata__"]["step"])
    assert found["collapse"]["step"] <= steps == len(found["steps"]) < 100, (steps, found["collapse"])
    warned = Run(*REAL, *COLLAPSING, "--steps", 48, quiet=False).ok()
    assert warned.err.count("warning: collapse at step") == 1 and warned.json()["collapse"]["stopped"] is False, warned.err
    assert warned.json()["steps"][:len(found["steps"])] == found["steps"], "the guard changes nothing"


def healthy(folder):
    """Nothing is said of runs that learn, as they are by default or slower."""
    assert small(folder, "--steps", 120, "--json", "-").json()["collapse"] is None
    if os.path.exists(WEIGHTS):
        for options in (("--lr", 1e-3, "--steps", 48), ("--mining", "semi-hard", "--steps", 48)):
            done = Run(*REAL, *options, quiet=False).ok()
            assert done.json()["collapse"] is None and "collapse" not in done.err, (options, done.err)


def drift(folder):
    """BatchNorm's drift is shown beside the figures of a step, and is 0 where nothing may move."""
    for policy, moves in (("train", True), ("eval", False)):
        done = small(folder, "--steps", 40, "--bn", policy, "--json", "-").json()
        rows = done["bn_drift"]
        assert rows[0]["step"] == 0 == rows[0]["mean"] and rows[-1]["step"] == 40 and len(rows[0]["layers"]) == 19, rows
        assert all((row["mean"] > 0) == moves for row in rows[1:]), (policy, rows)
    small(folder, "--steps", 3, "--on-collapse", "sometimes").fails(2, "--on-collapse")
    assert " bn 0." in small(folder, "--steps", 2).ok().out


def progress(folder):
    """On a terminal one line, redrawn, with rate, time left and figures in 79 columns; plain lines elsewhere."""
    small(folder, "--steps", 1)
    ours, its = pty.openpty()
    words = [os.environ.get("TRINE_PROGRAM", "trine"), "finetune", "--weights", os.path.join(folder, "base.safetensors"), "--data",
             os.path.join(folder, "data"), "--images-per-class", "2", "--steps", "100000000", "--json",
             os.path.join(folder, "j.json")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=its) as process:
        os.close(its)
        shown = b""
        while shown.count(b"steps/s") < 3:
            shown += os.read(ours, 4096)
        process.kill()
    os.close(ours)
    lines = [line.rstrip() for line in shown.decode().replace("\n", "\r").split("\r") if "steps/s" in line][:3]
    for line in lines:
        assert len(line) <= 79, line
        assert re.fullmatch(r"fine-tuning \[[#.]{5,20}\] \d+/100000000  [\d.]+ steps/s  [\d:]+ left(  loss [\d.]+  active [\d.]+)?",
                            line), line


class Page(html.parser.HTMLParser):
    """A page whose tags close in order, and what is in it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.images, self.counts = [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        assert tag not in ("script", "iframe", "object", "link", "base") or dict(attrs).get("rel") == "icon", (tag, attrs)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, attrs)
            if name in ("src", "href"):
                assert value.startswith("data:"), value
                self.images += [value] if tag == "img" else []
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)


def report(folder):
    """One file that asks nobody for anything, with every part; names cannot break out of it."""
    odd = os.path.join(folder, "a<b>&\"c'")
    make_folder(odd)
    page = os.path.join(folder, "r.html")
    small(folder, "--steps", 20, "--val", odd, "--report", page).ok()
    with open(page, encoding="utf-8") as file:
        text = file.read()
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert not re.search(r"[ \">MLVH-](nan|inf)\b", text)
    found = Page(text)
    said = "".join(found.words)
    for words in ("Retrieval figures", "Loss", "Distances to positives and negatives", "Active fraction", "Norm of the embeddings",
                  "Learning rate", "Before: means", "After: means", "principal components", "layer3.2.bn2", "Settings",
                  "whole run", "images a second", "batch-hard", "device ", "a<b>&\"c'"):
        assert words in said, words
    assert "a<b>" not in text and "a&lt;b&gt;&amp;&quot;c" in text
    assert found.counts["img"] == 10 * (1 + 2 * 6) and found.counts["circle"] >= 2 * 12, found.counts
    for image in set(found.images):
        kind, data = image.split(",")
        assert kind == "data:image/jpeg;base64" and base64.b64decode(data, validate=True)[:2] == b"\xff\xd8", kind
    small(folder, "--steps", 2, "--report", page).ok()
    with open(page, encoding="utf-8") as file:
        assert "No --val was given" in "".join(Page(file.read()).words)
    small(folder, "--steps", 1, "--report", os.path.join(folder, "missing", "r.html")).fails(1, "--report")


def classifier(folder):
    """train shows itself as well: figures of steps on the terminal and in JSON, a page with its own charts, silence while it learns; a
    rate that is far too high is told of, by the guard or as a loss that is no number."""
    data, page = make_folder(os.path.join(folder, "data")), os.path.join(folder, "r.html")
    words = ["train", "--arch", "resnet20_cifar", "--data", data, "--batch", 4, "--seed", 3]
    done = Run(*words, "--val", data, "--epochs", 20, "--lr", 0.02, "--report", page, quiet=False).ok()
    assert "collapse" not in done.err and re.search(r"^step 60  loss [\d.]+  accuracy [\d.]+  norm [\d.]+  bn [\d.]+$", done.out, re.M), done
    with open(page, encoding="utf-8") as file:
        text = file.read()
    found = Page(text)
    said = "".join(found.words)
    for part in ("Training resnet20_cifar", "Accuracy", "Loss", "Accuracy on the batches", "Norm of the logits", "Learning rate",
                 "At the end: means", "pooled features", "layer3.2.bn2", "optimizer    sgd", "60 steps"):
        assert part in said, part
    assert "d_ap" not in said and "Before" not in said and "resumed" not in said and not re.search(r"[ \">MLVH-](nan|inf)\b", text)
    assert found.counts["img"] == 10 * (1 + 6), found.counts
    shown = Run(*words, "--epochs", 2, "--json", "-").json()
    assert [set(row) for row in shown["steps"]] == [{"step", "loss", "accuracy", "embedding_norm", "lr"}] * 6 and shown["collapse"] is None
    wild = Run(*words, "--epochs", 200, "--lr", 100, "--on-collapse", "stop")
    assert wild.code in (1, 5) and ("collapse at step" in wild.err or "not a number" in wild.err), wild


if __name__ == "__main__":
    sys.exit(main([collapse, healthy, drift, progress, report, classifier]))
