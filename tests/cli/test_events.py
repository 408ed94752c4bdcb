# SPDX-License-Identifier: MIT
"""finetune --log-dir: the event file, read by its published format, says what the JSON says; TensorBoard's own reader agrees.
TensorBoard is looked for in $TRINE_TEST_TENSORBOARD, a Python that has it:
python3 -m venv V && V/bin/pip install tensorboard; TRINE_TEST_TENSORBOARD=V/bin/python."""
import glob
import json
import os
import re
import struct
import subprocess
import sys

import events
from cli_support import Run, main, make_base, make_folder, skip

READER = """
import json, sys
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.projector import projector_config_pb2
from google.protobuf import text_format
log = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={"tensors": 0, "scalars": 0, "histograms": 0})
log.Reload()
out = {tag: [(e.step, float(e.value)) for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
for tag in log.Tags()["tensors"]:
    events = log.Tensors(tag)
    values = [(e.step, [v for v in e.tensor_proto.float_val] or e.tensor_proto.tensor_content.hex()) for e in events]
    out[tag] = [(step, v[0] if len(v) == 1 else v) for step, v in values]
for tag in log.Tags()["histograms"]:
    out[tag] = [(e.step, e.histogram_value.num) for e in log.Histograms(tag)]
config = projector_config_pb2.ProjectorConfig()
text_format.Parse(open(sys.argv[1] + "/projector_config.pbtxt").read(), config)
json.dump({"tags": out, "embeddings": [[e.tensor_name, list(e.tensor_shape), e.tensor_path, e.metadata_path]
                                        for e in config.embeddings]}, sys.stdout)
"""


def single(number):
    """The nearest float."""
    return struct.unpack("f", struct.pack("f", number))[0]


def log(folder):
    """A run with a log; its folder and its JSON object."""
    data, logs = os.path.join(folder, "data"), os.path.join(folder, "log")
    make_folder(data)
    base = make_base(folder, data)
    result = Run("finetune", "--weights", base, "--data", data, "--val", data, "--images-per-class", 2, "--steps", 20, "--log-dir",
                 logs, "--json", "-").json()
    return logs, result


def own(folder):
    """Every figure, step by step, in single precision; histograms add up; the projector's tables fit each other."""
    logs, result = log(folder)
    path, = glob.glob(os.path.join(logs, "events.out.tfevents.*"))
    version, scalars, histograms = events.read(path)
    assert version == "brain.Event:2"
    for name in ("loss", "active_fraction", "d_ap", "d_an", "embedding_norm"):
        want = [(step["step"], single(step[name])) for step in result["steps"]]
        assert scalars["train/" + name] == want, (name, scalars["train/" + name], want)
    for name in ("recall_at_1", "map_at_r"):
        steps, values = zip(*scalars["val/" + name])
        assert steps == (0, 20), steps
        for value, when in zip(values, ("before", "after")):
            assert abs(value - result[when][name]) < 1e-6, (name, value, result[when])
    drift = [(row["step"], row["mean"]) for row in result["bn_drift"]]
    assert [step for step, _ in scalars["batchnorm/mean"]] == [step for step, _ in drift]
    assert all(abs(got[1] - want[1]) < 1e-6 for got, want in zip(scalars["batchnorm/mean"], drift))
    assert "batchnorm/layer3.2.bn2" in scalars and len([tag for tag in scalars if tag.startswith("batchnorm/")]) == 20
    count = result["after"]["count"]
    for tag, pairs in (("distance/same_class", 3 * (count // 3) * (count // 3 - 1) // 2),
                       ("distance/other_class", 3 * (count // 3)**2)):
        assert [step for step, _ in histograms[tag]] == [0, 20]
        for _, h in histograms[tag]:
            assert h["num"] == sum(h["counts"]) == pairs, (tag, h, pairs)
            assert len(h["limits"]) == len(h["counts"]) and h["limits"] == sorted(h["limits"])
            assert h["min"] * pairs <= h["sum"] <= h["max"] * pairs and h["sum"]**2 <= h["squares"] * pairs * (1 + 1e-9), h
    with open(os.path.join(logs, "projector_config.pbtxt"), encoding="utf-8") as file:
        config = file.read()
    assert re.findall(r'tensor_name: "(\w+)"', config) == ["before", "after"], config
    for when in ("before", "after"):
        with open(os.path.join(logs, f"embeddings_{when}.tsv"), encoding="utf-8") as file:
            rows = [[float(value) for value in line.split("\t")] for line in file]
        with open(os.path.join(logs, f"metadata_{when}.tsv"), encoding="utf-8") as file:
            labels = [line.rstrip("\n").split("\t") for line in file]
        assert len(rows) == count == len(labels) - 1 and {len(row) for row in rows} == {64}
        assert labels[0] == ["class", "image"] and labels[1][0] == "class0" and labels[1][1].endswith(".ppm"), labels
        assert all(abs(sum(value * value for value in row) - 1) < 1e-5 for row in rows)


def refusals(folder):
    """A place where no folder can be."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    Run("finetune", "--weights", base, "--data", data, "--images-per-class", 2, "--steps", 1, "--log-dir",
        os.path.join(base, "log")).fails(1, "--log-dir")


def tensorboard(folder):
    """The same figures through TensorBoard's reader."""
    python = os.environ.get("TRINE_TEST_TENSORBOARD", sys.executable)
    if subprocess.run([python, "-c", "import tensorboard"], capture_output=True, check=False).returncode != 0:
        skip("TensorBoard's own reader was not asked: no tensorboard package; set TRINE_TEST_TENSORBOARD to a Python that has it")
    logs, result = log(folder)
    done = subprocess.run([python, "-c", READER, logs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert [step for step, _ in read["tags"]["train/loss"]] == list(range(1, 21)), read["tags"]["train/loss"]
    got = [value for _, value in read["tags"]["train/loss"]]
    assert all(abs(value - step["loss"]) < 1e-6 for value, step in zip(got, result["steps"])), got
    assert len(read["tags"]["distance/same_class"]) == 2, sorted(read["tags"])
    assert [row[0] for row in read["embeddings"]] == ["before", "after"], read["embeddings"]


if __name__ == "__main__":
    if sys.argv[1:] == ["no-events"]:
        skip("this build has no event files")
    sys.exit(main([own, refusals, tensorboard]))
