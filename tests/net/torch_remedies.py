#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`trine drift --remedies` beside PyTorch doing the same things to the shared resnet20, one image and several.

  torch_remedies.py TRINE       every drift within 1e-4 (of itself where it is above 1), every yes and no the same

Exit 77 (skipped) where torch or the shared files are missing.
"""
import copy
import glob
import json
import os
import sys
import tempfile

from torch_parity import CifarResNet, check, failures, run
import numpy as np
import torch
import torch.nn as nn

SHARED = os.environ.get("TRINE_TEST_SHARED", "")
SOURCE = os.path.join(SHARED, "data/weights/resnet20-cifar10.th")
QUESTIONS = ("statistics_move", "train_equals_eval", "depends_on_batch", "gradient_matches_eval")


def layers(model):
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]


def train(model):
    model.train()


def freeze(model):
    model.train()
    for p in model.parameters():
        p.requires_grad_(False)


def momentum(value):
    def change(model):
        model.train()
        for _, m in layers(model):
            m.momentum = value
    return change


def evaluate(chosen=None):
    def change(model):
        model.train()
        for name, m in layers(model):
            if chosen is None or name in chosen:
                m.eval()
    return change


def near(a, b, tolerance):
    return bool((a.double() - b.double()).norm() <= tolerance * b.double().norm())


def output(model, embedding, x, one):
    """Training-mode embeddings of a model set up already; each image alone if `one`."""
    return torch.cat([embedding(model, part) for part in (x.split(1) if one else [x])])


def in_evaluation(model, embedding, x):
    other = copy.deepcopy(model).eval()
    with torch.no_grad():
        return embedding(other, x)


def gradients(model, embedding, x, count, one):
    """Of all parameters, whether they train or not: the loss sees the first `count` images."""
    for p in model.parameters():
        p.requires_grad_(True)
        p.grad = None
    e = output(model, embedding, x, one)[:count]
    weights = (torch.arange(e.numel()) * 7919 % 101).double() / 50 - 1
    (e * weights.float().reshape(e.shape)).sum().backward()
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in model.parameters()])


def statistics(model):
    return [b.clone() for name, b in model.named_buffers() if not name.endswith("num_batches_tracked")]


def remedy(base, embedding, x, passes, change, kind, start, of_eval):
    """The five figures of one remedy. `start`: embeddings in evaluation; `of_eval`: gradients of that function."""
    mates = x if len(x) > 1 else torch.cat([x, x.flip(3)])
    batch, one = (mates if kind == "many" else x), kind == "one"

    def fresh():
        model = copy.deepcopy(base)
        change(model)
        return model

    row = {}
    with torch.no_grad():
        row["train_equals_eval"] = near(output(fresh(), embedding, batch, one)[:len(x)], start, 1e-4)
        together = x if one else mates
        dimmed = torch.cat([together[:1], 0.5 * together[1:]])
        row["depends_on_batch"] = not near(output(fresh(), embedding, dimmed, one)[0],
                                           output(fresh(), embedding, together, one)[0], 1e-4)
    row["gradient_matches_eval"] = near(gradients(fresh(), embedding, batch, len(x), one), of_eval, 1e-3)
    model = fresh()
    with torch.no_grad():
        for _ in range(passes):
            output(model, embedding, batch, one)
        if kind == "re-estimate":
            for _, m in layers(model):
                m.reset_running_stats()
                m.momentum = None
            model.train()
            embedding(model, x)
        if kind == "restore":
            model.load_state_dict(base.state_dict())
    row["statistics_move"] = not all(torch.equal(a, b) for a, b in zip(statistics(base), statistics(model)))
    first = start.norm(dim=1).mean().item()
    row["drift"] = abs(in_evaluation(model, embedding, x).norm(dim=1).mean().item() - first) / first
    return row


def choose(report):
    """The layers that trine says it chose: nine tenths of the shares, half of the layers at least."""
    order = sorted(report["layers"], key=lambda layer: -layer["share"])
    chosen, total = set(), 0.0
    for k, layer in enumerate(order):
        if k >= (len(order) + 1) // 2 and total >= 0.9:
            break
        chosen.add(layer["name"])
        total += layer["share"]
    return chosen


def drift(trine, weights, source, passes, *more):
    """The report of `trine drift --bn torch`. @param source a tensor of images, or the options that name one"""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(source, torch.Tensor):
            np.save(os.path.join(folder, "x.npy"), source.numpy())
            source = ["--input", os.path.join(folder, "x.npy")]
        return json.loads(run([trine, "drift", "--weights", weights, *source, "--passes", str(passes), "--bn", "torch",
                               "--quiet", "--json", "-", *more]))


def compare(title, report, model, embedding, x, passes):
    """The remedies of a report beside PyTorch's. @param embedding function of a model and images"""
    changes = {"nothing": (train, ""), "freeze parameters": (freeze, ""), "momentum 0": (momentum(0.0), ""),
               "eval all": (evaluate(), ""), "eval chosen layers": (evaluate(choose(report)), ""),
               "cumulative": (momentum(None), ""), "batch of one": (train, "one"), "batch of many": (train, "many"),
               "re-estimate": (train, "re-estimate"), "snapshot and restore": (train, "restore")}
    if [row["name"] for row in report["remedies"]] != list(changes):
        sys.exit("other remedies than expected: %s" % report["remedies"])
    start = in_evaluation(model, embedding, x)
    of_eval = gradients(copy.deepcopy(model).eval(), embedding, x, len(x), False)
    for row in report["remedies"]:
        want = remedy(model, embedding, x, passes, *changes[row["name"]], start, of_eval)
        name = "%s: %s" % (title, row["name"])
        check("%s: drift %.6f, PyTorch %.6f" % (name, row["drift"], want["drift"]),
              abs(row["drift"] - want["drift"]) / max(1, want["drift"]), 1e-4)
        for question in QUESTIONS:
            if row[question] is not want[question]:
                print("%s: %s is %s, with PyTorch %s FAILED" % (name, question, row[question], want[question]))
                failures.append(name)


def compare_shared(trine, title, model, x, embedding, passes):
    report = drift(trine, SOURCE, x, passes, "--embedding", embedding, "--remedies")
    compare(title, report, model, CifarResNet.features if embedding == "pool" else CifarResNet.forward, x, passes)


def main():
    if not os.path.exists(SOURCE):
        print("skipped: %s is not there" % SOURCE)
        sys.exit(77)
    from PIL import Image
    torch.set_num_threads(2)
    state = torch.load(SOURCE, map_location="cpu")["state_dict"]
    model = CifarResNet()
    model.load_state_dict({k[len("module."):]: v for k, v in state.items()})
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
    std = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)
    paths = [os.path.join(SHARED, "data/cifar10/val/dog/0000.jpg")]
    for folder in sorted(glob.glob(os.path.join(SHARED, "data/cifar10/val/*"))):
        paths.append(sorted(glob.glob(folder + "/*.jpg"))[1])
    pixels = [np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1) / 255 for path in paths]
    x = torch.from_numpy(np.stack([(image - mean) / std for image in pixels]))
    compare_shared(sys.argv[1], "one image, pool", model, x[:1], "pool", 20)
    compare_shared(sys.argv[1], "%d images, pool" % len(x), model, x, "pool", 5)
    compare_shared(sys.argv[1], "3 images, fc", model, x[:3], "fc", 5)
    if failures:
        sys.exit("%d comparisons failed" % len(failures))


if __name__ == "__main__":
    main()
