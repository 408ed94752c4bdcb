#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Gradient accumulation and the running average of weights beside PyTorch: the same batches, backward passes added up, then a step.

Usage: torch_recipe.py TRINE. Exit 77 (a visible skip) without torch. The data are 10 images in batches of 4, so that a pass has 3 batches, the
last of 2; by twos the second step of an epoch has one. err = max(0, |difference| - 8*6e-8*|value|) / |change| per tensor (norms),
as in tests/net/torch_parity.py, whose bound for five steps holds here for four, of the weights and of their average. Batches of two images
and random weights are badly conditioned: minimal filtering's rounding (1e-5) puts ReLUs on their other side, with or without accumulation, so
the convolutions are direct ones.
"""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "cli"), os.path.join(HERE, "..", "net")]
os.environ["TRINE_PROGRAM"] = sys.argv[1]
os.environ["TRINE_ALGORITHMS"] = "conv2d_direct,*"
try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as missing:
    print("skipped: %s" % missing)
    sys.exit(77)
from cli_support import Run, make_folder, read_safetensors
from torch_parity import CifarResNet

IMAGES, BATCH, EPOCHS, ACCUMULATE, EMA, LR, SEED = 10, 4, 2, 2, 0.8, 1e-3, 5
MASK = (1 << 64) - 1


def mix(z):
    """SplitMix64's finish."""
    z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & MASK
    return z ^ (z >> 31)


def order(epoch):
    """The images of an epoch as the sampler shuffles them."""
    state = mix((mix((mix((SEED + 0x9e3779b97f4a7c15) & MASK) + 0x65706f636873) & MASK) + epoch) & MASK)
    items = list(range(IMAGES))
    for i in range(IMAGES, 1, -1):
        state = (state + 0x9e3779b97f4a7c15) & MASK
        j = mix(state) % i # the bias that the sampler avoids is 1 in 10^18
        items[i - 1], items[j] = items[j], items[i - 1]
    return items


def tensors(path, prefix=""):
    """Those of a file whose names begin with the prefix, without it."""
    header, content = read_safetensors(path)
    header.pop("__metadata__")
    kinds, out = {"F32": np.float32, "I64": np.int64}, {}
    for name, t in header.items():
        if not name.startswith(prefix) or t["dtype"] not in kinds:
            continue
        first, last = t["data_offsets"]
        values = np.frombuffer(bytes(content[first:last]), kinds[t["dtype"]]).reshape(t["shape"])
        out[name[len(prefix):].replace("fc.", "linear.")] = torch.from_numpy(values.copy())
    return out


def images(folder):
    """What the network sees, and the labels."""
    x, labels = [], []
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for label in range(2):
        for i in range(IMAGES // 2):
            with open(os.path.join(folder, f"class{label}", f"{i}.ppm"), "rb") as file:
                pixels = np.frombuffer(file.read()[-32 * 32 * 3:], np.uint8).reshape(32, 32, 3)
            x.append((pixels.transpose(2, 0, 1).astype(np.float32) / 255 - mean) / std)
            labels.append(label)
    return torch.from_numpy(np.stack(x)), torch.tensor(labels)


def torch_run(model, x, labels):
    """The run, and the average of the state dict as timm's ModelEmaV2 keeps it."""
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    model.train()
    for epoch in range(EPOCHS):
        batches = [order(epoch)[i:i + BATCH] for i in range(0, IMAGES, BATCH)]
        for first in range(0, len(batches), ACCUMULATE):
            step = batches[first:first + ACCUMULATE]
            optimizer.zero_grad()
            for batch in step:
                (F.cross_entropy(model(x[batch]), labels[batch]) / len(step)).backward()
            optimizer.step()
            for k, v in model.state_dict().items():
                average[k] = EMA * average[k] + (1 - EMA) * v if v.is_floating_point() else v.clone()
    return {k: v.clone() for k, v in model.state_dict().items()}, average


def compare(title, before, want, got, bound):
    """Every tensor; what counts exactly."""
    worst = (0.0, "")
    for name, value in want.items():
        if not value.is_floating_point():
            assert torch.equal(value, got[name]), (title, name, value, got[name])
            continue
        change = (value - before[name]).double().norm().item()
        difference = (value.double() - got[name].double()).norm().item()
        assert change > 0, (title, name)
        worst = max(worst, (max(0.0, difference - 8 * 6e-8 * value.double().norm().item()) / change, name))
    print(f"{title}: worst {worst[1]} {worst[0]:.3g} <= {bound:g}", flush=True)
    assert worst[0] <= bound, worst


def main():
    """Both runs from the same values: those of a run whose rate is 0, whose running statistics are the first ones."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data, begin, out = (os.path.join(folder, name) for name in ("data", "begin.safetensors", "out.safetensors"))
        make_folder(data, 2, IMAGES // 2)
        common = ["train", "--arch", "resnet20_cifar", "--data", data, "--epochs", EPOCHS, "--batch", BATCH, "--momentum", 0.9,
                  "--weight-decay", 5e-4, "--schedule", "constant", "--augment", "none", "--seed", SEED]
        Run(*common, "--lr", 0, "--bn", "eval", "--out", begin).ok()
        Run(*common, "--lr", LR, "--accumulate", ACCUMULATE, "--ema", EMA, "--save-every", 100, "--out", out).ok()
        before = tensors(begin)
        model = CifarResNet()
        model.linear = torch.nn.Linear(64, 2)
        model.load_state_dict(before, strict=True)
        values, average = torch_run(model, *images(data))
        compare("weights", before, values, tensors(out + ".state", "network."), 5e-3)
        compare("average", before, average, tensors(out), 5e-3)


if __name__ == "__main__":
    main()
