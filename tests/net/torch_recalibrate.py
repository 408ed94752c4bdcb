#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`trine recalibrate` beside PyTorch doing the same in float64: the shared resnet20 over the shared photographs.

  torch_recalibrate.py TRINE    means within 1e-5 of the standard deviation, variances within 1e-5, both methods

PyTorch's float32 network runs the same batches; hooks keep what every BatchNorm layer is given, and mean and unbiased
variance of that are taken in float64. Then the same from a file without running statistics, and with some layers only. PyTorch
loads what trine writes, and what must not move is compared exactly.
Exit 77 (skipped) where torch or the shared files are missing.
"""
import glob
import os
import sys
import tempfile

from torch_parity import CifarResNet, check, check_exact, failures, run
import numpy as np
import torch
import torch.nn as nn

SHARED = os.environ.get("TRINE_TEST_SHARED", "")
SOURCE = os.path.join(SHARED, "data/weights/resnet20-cifar10.th")
PER_CLASS, BATCH = 10, 32


def layers(model):
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]


def even_batches(x, most):
    """As trine splits them: image i of all stands in batch b if b*all/count <= i < (b+1)*all/count."""
    count = (len(x) + most - 1) // most
    return [x[b * len(x) // count:(b + 1) * len(x) // count] for b in range(count)]


def seen_by(model, wanted, batches):
    """Mean and unbiased variance per channel, in float64, of what the wanted layers are given."""
    seen = {name: [] for name, _ in wanted}
    hooks = [m.register_forward_hook(lambda _m, given, _out, name=name: seen[name].append(
        given[0].double().transpose(0, 1).flatten(1))) for name, m in wanted]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for hook in hooks:
        hook.remove()
    result = {}
    for name, parts in seen.items():
        values = torch.cat(parts, 1)
        result[name] = (values.mean(1), values.var(1, unbiased=True))
    return result


def put(module, statistics):
    module.running_mean.copy_(statistics[0])
    module.running_var.copy_(statistics[1])


def in_batches(model, chosen, batches):
    """One pass, the chosen layers in training mode."""
    model.eval()
    wanted = [(name, m) for name, m in layers(model) if chosen(name)]
    for _, m in wanted:
        m.train()
        m.momentum = 0.0
    return seen_by(model, wanted, batches)


def in_sequence(model, chosen, batches):
    """A pass a layer in evaluation mode, each with the new statistics of those before it."""
    model.eval()
    result = {}
    for name, m in layers(model):
        if chosen(name):
            result.update(seen_by(model, [(name, m)], batches))
            put(m, result[name])
    return result


def fresh(state):
    model = CifarResNet()
    model.load_state_dict(state, strict=False)  # older files have no counters
    return model


def compare(trine, title, source, state, folder, batches, method, globs, chosen):
    out = os.path.join(folder, "out.pth")
    run([trine, "recalibrate", "--weights", source, "--input", os.path.join(folder, "x.npy"), "--batch", str(BATCH), "--method",
         method, "--out", out, "--quiet"] + (["--layers", globs] if globs else []))
    got = torch.load(out)
    model = fresh(state)
    model.load_state_dict(got, strict=True)
    want = (in_batches if method == "batch" else in_sequence)(fresh(state), chosen, batches)
    mean, var = 0.0, 0.0
    for name, (m, v) in want.items():
        mean = np.maximum(mean, ((got[name + ".running_mean"] - m).abs() / v.sqrt()).max().item())
        var = np.maximum(var, ((got[name + ".running_var"] - v).abs() / v).max().item())
        check_exact("%s: %s counted %d batches" % (title, name, len(batches)),
                    got[name + ".num_batches_tracked"].item() == len(batches))
    check("%s: means of %d layers" % (title, len(want)), mean, 1e-5)  # NaN would stay in the maximum and fail
    check("%s: variances" % title, var, 1e-5)
    for name, value in state.items():
        layer, _, part = name.rpartition(".")
        if layer not in want or not (part.startswith("running") or part == "num_batches_tracked"):
            if name in got or part != "num_batches_tracked":
                check_exact("%s: %s" % (title, name), torch.equal(value, got[name]))


def main():
    if not os.path.exists(SOURCE):
        print("skipped: %s is not there" % SOURCE)
        sys.exit(77)
    from PIL import Image
    torch.set_num_threads(1)  # threads that wait for each other are slow beside other tests
    trine = sys.argv[1]
    state = {k[len("module."):]: v for k, v in torch.load(SOURCE, map_location="cpu")["state_dict"].items()}
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
    std = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)
    images = []
    for folder in sorted(glob.glob(os.path.join(SHARED, "data/cifar10/val/*"))):
        for path in sorted(glob.glob(folder + "/*.jpg"))[:PER_CLASS]:
            pixels = np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            images.append((pixels - mean) / std)
    x = torch.from_numpy(np.stack(images))
    batches = even_batches(x, BATCH)
    with tempfile.TemporaryDirectory() as folder:
        np.save(os.path.join(folder, "x.npy"), x.numpy())
        bare = os.path.join(folder, "bare.pth")
        torch.save({k: v for k, v in state.items() if "running_" not in k and "num_batches" not in k}, bare)
        for method in ("batch", "sequential"):
            compare(trine, method, SOURCE, state, folder, batches, method, None, lambda name: True)
            compare(trine, method + ", layer2", SOURCE, state, folder, batches, method, "layer2.*",
                    lambda name: name.startswith("layer2."))
            compare(trine, method + ", from nothing", bare, {k: v for k, v in state.items() if "running_" not in k}, folder,
                    batches, method, None, lambda name: True)
    if failures:
        sys.exit("%d comparisons failed" % len(failures))


main()
