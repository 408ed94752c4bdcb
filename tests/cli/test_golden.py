# SPDX-License-Identifier: MIT
"""Figures of a real checkpoint on real photographs, against those that PyTorch gave. Argument: the folder with them."""
import json
import os
import sys

from cli_support import Run, main, skip

SHARED = os.environ.get("TRINE_TEST_SHARED", "")
WEIGHTS = os.path.join(SHARED, "data", "weights", "resnet20-cifar10.th")
IMAGES = os.path.join(SHARED, "data", "cifar10", "val")


def golden(name):
    """A file of expected figures."""
    with open(os.path.join(SHARED, "golden", name), encoding="utf-8") as file:
        return json.load(file)


def evaluation(_folder):
    """Accuracy and retrieval."""
    want = golden("resnet20-cifar10-val.json")
    common = ["eval", "--weights", WEIGHTS, "--data", IMAGES, "--preprocess", "cifar", "--json", "-"]
    got = Run(*common, "--task", "classify").json()
    assert got["count"] == 500 and round(got["accuracy"] * 500) == 399, got
    for distance in ("euclidean", "cosine"):
        got = Run(*common, "--task", "retrieval", "--distance", distance).json()
        for name, value in want["retrieval_" + distance].items():
            assert abs(got[name] - value) <= 0.002, (distance, name, got[name], value)


def half_precision(folder):
    """The same photographs in half precision; fine-tuning gains as much."""
    common = ["--weights", WEIGHTS, "--preprocess", "cifar", "--precision", "fp16"]
    got = Run("eval", *common, "--data", IMAGES, "--json", "-", "--task", "classify").json()
    assert got["precision"] == "fp16" and abs(got["accuracy"] * 500 - 399) <= 2, got
    want = golden("resnet20-cifar10-val.json")["retrieval_cosine"]
    got = Run("eval", *common, "--data", IMAGES, "--json", "-", "--task", "retrieval", "--distance", "cosine").json()
    for name, value in want.items():
        assert abs(got[name] - value) <= 0.005, (name, got[name], value)
    got = Run("finetune", *common, "--data", os.path.join(SHARED, "data", "cifar10", "train"), "--val", IMAGES, "--bn", "eval",
              "--mining", "batch-hard", "--margin", 0.2, "--distance", "euclidean", "--normalize", "--augment", "none",
              "--classes-per-batch", 10, "--images-per-class", 8, "--steps", 200, "--optimizer", "sgd", "--lr", 0.01,
              "--momentum", 0.9, "--weight-decay", 1e-4, "--schedule", "constant", "--seed", 1, "--out",
              os.path.join(folder, "o.safetensors"), "--json", "-").json()
    assert got["before"]["map_at_r"] < 0.48 and got["after"]["map_at_r"] >= 0.57, (got["before"], got["after"])


def drift(_folder):
    """21 rows of drift, and none where nothing may move."""
    want = golden("drift-resnet20.json")["rows"]
    common = ["drift", "--weights", WEIGHTS, "--image", os.path.join(IMAGES, "dog", "0000.jpg"), "--preprocess", "cifar",
              "--passes", 20, "--json", "-"]
    rows = Run(*common, "--bn", "torch").json()["rows"]
    assert len(rows) == len(want) == 21, rows
    for got, expected in zip(rows, want):
        for name in ("embedding_norm", "logit_norm"):
            assert abs(got[name] - expected[name]) <= 1e-3 * expected[name], (got, expected)
    for policy in ("eval", "no-update"):
        rows = Run(*common, "--bn", policy).json()["rows"]
        for row in rows:
            assert {**row, "step": 0} == rows[0], (policy, row, rows[0])


if __name__ == "__main__":
    if not os.path.exists(WEIGHTS):
        skip(f"no reference data in {SHARED or 'TRINE_TEST_SHARED'}")
    sys.exit(main([evaluation, half_precision, drift]))
