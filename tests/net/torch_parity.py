#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""trine beside PyTorch: logits, one training step, five training steps.

  torch_parity.py TRINE logits VARIANT...      random weights, 224x224 and 197x243: 1e-4 of the largest logit
  torch_parity.py TRINE half VARIANT...        the same with --precision fp16: 2e-2 of the largest
  torch_parity.py TRINE step VARIANT...        one step: per tensor err; median <= 1e-4, worst <= 6e-2
  torch_parity.py TRINE five                   five steps of the shared resnet20: <= 5e-3 (lr 1e-3), <= 2e-2 (lr 1e-2)

err = max(0, |difference| - 8*6e-8*|parameter|) / |change| per tensor (norms). What must not move is compared byte by byte.
Exit 77 (skipped) where torch or the shared files are missing.
"""
import glob
import os
import statistics
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait are slow beside other tests
try:
    import numpy as np
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    import torchvision
except ImportError as missing:
    print("skipped: %s" % missing)
    sys.exit(77)

SLACK = 8 * 6e-8
failures = []


def check(name, value, bound):
    good = value <= bound  # NaN fails
    print("%-72s %.3g <= %.0e %s" % (name, value, bound, "" if good else "FAILED"), flush=True)
    if not good:
        failures.append(name)


def check_exact(name, good):
    print("%-72s %s" % (name, "unchanged" if good else "MOVED: FAILED"), flush=True)
    if not good:
        failures.append(name)


def run(arguments):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode != 0:
        print(done.stderr)
        sys.exit("%s: exit %d" % (" ".join(arguments), done.returncode))
    return done.stdout


def smooth_input(n, h, w):
    """0.5*randn + 1.5*(randn 6x6 enlarged bilinearly): neighbouring pixels agree, as in photographs."""
    low = F.interpolate(torch.randn(n, 3, 6, 6), size=(h, w), mode="bilinear", align_corners=False)
    return 0.5 * torch.randn(n, 3, h, w) + 1.5 * low


def batch_all(e, labels, margin):
    e = F.normalize(e)
    d = (e[:, None] - e[None]).pow(2).sum(-1).clamp_min(1e-12).sqrt()
    same = labels[:, None] == labels[None]
    eye = torch.eye(len(e), dtype=torch.bool)
    loss = d[:, :, None] - d[:, None, :] + margin
    valid = (same & ~eye)[:, :, None] & ~same[:, None, :]
    active = valid & (loss > 0)
    return loss[active].sum() / active.sum().clamp_min(1)


def torch_step(model, x, labels, policy, fc_only, lr, features):
    """One SGD step as `trine finetune` does it."""
    model.train()
    if policy == "eval":
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
    for name, p in model.named_parameters():
        p.requires_grad_(not fc_only or name.startswith("fc"))
        p.grad = None
    loss = batch_all(model(x) if fc_only else features(model, x), labels, 1.0)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= lr * p.grad


def imagenet_features(m, x):
    x = m.maxpool(m.relu(m.bn1(m.conv1(x))))
    return torch.flatten(m.avgpool(m.layer4(m.layer3(m.layer2(m.layer1(x))))), 1)


def compare_states(title, before, want, got, median_bound, worst_bound):
    errors = []
    for name, value in want.items():
        change = (value.double() - before[name].double()).norm().item()
        if change == 0:
            check_exact("%s: %s" % (title, name), torch.equal(before[name], got[name]))
            continue
        if name.endswith("num_batches_tracked"):
            check_exact("%s: %s" % (title, name), torch.equal(value, got[name]))
            continue
        difference = (value.double() - got[name].double()).norm().item()
        errors.append((max(0.0, difference - SLACK * value.double().norm().item()) / change, name))
    errors.sort()
    check("%s: median of %d tensors" % (title, len(errors)), statistics.median(e for e, _ in errors), median_bound)
    check("%s: worst (%s)" % (title, errors[-1][1]), errors[-1][0], worst_bound)


def finetune(trine, folder, weights, steps, lr, policy, fc_only):
    out = os.path.join(folder, "after.pth")
    run([trine, "finetune", "--weights", weights, "--input", os.path.join(folder, "x.npy"), "--labels",
         os.path.join(folder, "y.npy"), "--mining", "batch-all", "--margin", "1", "--normalize", "--distance", "euclidean",
         "--steps", str(steps), "--optimizer", "sgd", "--lr", str(lr), "--momentum", "0", "--weight-decay", "0", "--schedule",
         "constant", "--bn", policy, "--quiet", "--out", out] +
        (["--embedding", "fc", "--freeze", "*,!fc*"] if fc_only else []))
    return torch.load(out)


def save_batch(folder, x, labels):
    np.save(os.path.join(folder, "x.npy"), x.numpy())
    np.save(os.path.join(folder, "y.npy"), labels.numpy().astype(np.int32))


def make_model(variant):
    if not hasattr(torchvision.models, variant):
        print("skipped: this torchvision has no %s" % variant)
        return None
    torch.manual_seed(7)
    return getattr(torchvision.models, variant)()


def half(trine, variant):
    logits(trine, variant, ["--precision", "fp16"], 2e-2)


def logits(trine, variant, options=(), bound=1e-4):
    model = make_model(variant)
    if model is None:
        return
    for h, w in ((224, 224), (197, 243)):
        model.train()
        with torch.no_grad():
            for _ in range(3):
                model(smooth_input(4, h, w))
            model.eval()
            x = smooth_input(2, h, w)
            want = model(x)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(model.state_dict(), os.path.join(folder, "w.pth"))
            np.save(os.path.join(folder, "x.npy"), x.numpy())
            run([trine, "embed", "--weights", os.path.join(folder, "w.pth"), "--input", os.path.join(folder, "x.npy"), "--layer",
                 "logits", "--no-normalize", "--quiet", "--out", os.path.join(folder, "e.npy"), *options])
            got = torch.from_numpy(np.load(os.path.join(folder, "e.npy")))
        check("%s logits at %dx%d" % (" ".join([variant, *options]), h, w), ((got - want).abs().max() / want.abs().max()).item(), bound)


def step(trine, variant):
    model = make_model(variant)
    if model is None:
        return
    for name, p in model.named_parameters():
        last = "bn3.weight" if model.layer1[0].__class__.__name__ == "Bottleneck" else "bn2.weight"
        if name.endswith(last):
            nn.init.constant_(p, 0.2)
    size, count = 64, 16
    x = smooth_input(count, size, size)
    labels = torch.arange(count) // 4
    model.train()
    with torch.no_grad():
        for _ in range(30):
            model(x)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        save_batch(folder, x, labels)
        weights = os.path.join(folder, "w.pth")
        torch.save(before, weights)
        for policy in ("torch", "eval"):
            for fc_only in (False, True):
                model.load_state_dict(before)
                torch_step(model, x, labels, policy, fc_only, 1e-2, imagenet_features)
                got = finetune(trine, folder, weights, 1, 1e-2, policy, fc_only)
                model_after = {k: v.clone() for k, v in model.state_dict().items()}
                model.load_state_dict(got, strict=True)
                compare_states("%s bn %s %s" % (variant, policy, "fc only" if fc_only else "all"), before, model_after, got,
                               1e-4, 6e-2)


class Block(nn.Module):
    def __init__(self, inp, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.pad = (out - inp) // 2
        self.stride = stride

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """resnet20_cifar with 3 blocks a stage, resnet56_cifar with 9, resnet110_cifar with 18."""

    def __init__(self, blocks=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(blocks)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), *[Block(32, 32, 1) for _ in range(blocks - 1)])
        self.layer3 = nn.Sequential(Block(32, 64, 2), *[Block(64, 64, 1) for _ in range(blocks - 1)])
        self.linear = nn.Linear(64, 10)

    def features(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, x):
        return self.linear(self.features(x))


def five(trine):
    shared = os.environ.get("TRINE_TEST_SHARED", "")
    source = os.path.join(shared, "data/weights/resnet20-cifar10.th")
    if not os.path.exists(source):
        print("skipped: %s is not there" % source)
        sys.exit(77)
    from PIL import Image
    state = {k[len("module."):]: v for k, v in torch.load(source, map_location="cpu")["state_dict"].items()}
    model = CifarResNet()
    model.load_state_dict(state)
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
    std = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)
    images, labels = [], []
    for number, folder in enumerate(sorted(glob.glob(os.path.join(shared, "data/cifar10/train/*")))):
        for path in sorted(glob.glob(folder + "/*.jpg"))[:6]:
            pixels = np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            images.append((pixels - mean) / std)
            labels.append(number)
    x, labels = torch.from_numpy(np.stack(images)), torch.tensor(labels)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        save_batch(folder, x, labels)
        weights = os.path.join(folder, "w.pth")
        torch.save(before, weights)
        for policy in ("torch", "eval"):
            for lr, bound in ((1e-3, 5e-3), (1e-2, 2e-2)):
                model.load_state_dict(before)
                for _ in range(5):
                    torch_step(model, x, labels, policy, False, lr, CifarResNet.features)
                want = {k: v.clone() for k, v in model.state_dict().items()}
                got = finetune(trine, folder, weights, 5, lr, policy, False)
                compare_states("resnet20 five steps bn %s lr %g" % (policy, lr), before, want, got, bound, bound)


def main():
    trine, what, variants = sys.argv[1], sys.argv[2], sys.argv[3:]
    torch.set_num_threads(2)
    if what == "five":
        torch.manual_seed(7)
        five(trine)
    for variant in variants:
        {"logits": logits, "half": half, "step": step}[what](trine, variant)
    if failures:
        sys.exit("%d comparisons failed" % len(failures))


if __name__ == "__main__":
    main()
