#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Losses, their gradients and optimizers against PyTorch: torch_losses.py LOSS_TOOL

Every case is a line for loss_tool (tests/op/loss_tool.c) and what PyTorch says in float64 on the same float32 numbers; bounds are
relative to the largest value of the compared array. Mined losses are written out here over autograd. Exit 77: no torch, no device.
"""
import math
import os
import subprocess
import sys
import tempfile

SKIP = 77
try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print("SKIP: PyTorch is missing (%s)" % error)
    sys.exit(SKIP)

torch.set_num_threads(1)
torch.manual_seed(17)
SMALL = os.environ.get("TRINE_TEST_SMALL", "0") not in ("", "0")


class Cases:
    """Collects commands with their expected outputs, runs them in one process, compares."""

    def __init__(self, folder):
        self.folder, self.lines, self.wanted, self.files = folder, [], [], 0

    def path(self):
        self.files += 1
        return os.path.join(self.folder, "%d.raw" % self.files)

    def add(self, name, words, inputs, outputs):
        """inputs: tensors (float32 or int32); outputs: [(what, expected tensor, relative bound)] with a
        fourth element where only so many leading values are compared"""
        paths = []
        for tensor in inputs:
            paths.append(self.path())
            kind = np.int32 if not tensor.is_floating_point() else np.float32
            tensor.detach().numpy().astype(kind).tofile(paths[-1])
        for what, expected, bound, *leading in outputs:
            paths.append(self.path())
            self.wanted.append((name, what, paths[-1], expected.detach().double().reshape(-1).numpy(), bound,
                                leading[0] if leading else None))
        self.lines.append(" ".join([str(w) for w in words] + paths))

    def run(self, tool):
        done = subprocess.run([tool], input="\n".join(self.lines) + "\n", text=True, capture_output=True)
        print(done.stdout, end="")
        if done.returncode == SKIP:
            sys.exit(SKIP)
        if done.returncode != 0:
            sys.exit("loss_tool failed: %s" % done.stderr)
        failed, worst = 0, {}
        for name, what, path, expected, bound, leading in self.wanted:
            got = np.fromfile(path, np.float32).astype(np.float64)[:leading]
            if got.shape != expected.shape:
                sys.exit("%s: %s has %d values, want %d" % (name, what, got.size, expected.size))
            scale = np.abs(expected).max() if expected.size else 0
            error = np.abs(got - expected).max() / scale if scale > 0 else np.abs(got).max() if got.size else 0
            family = "%s %s" % (name.split()[0], what)
            worst[family] = max(worst.get(family, 0), error)
            if not error <= bound:  # NaN fails
                failed += 1
                print("FAIL %s: %s differs by %.3g of its largest value, allowed %.3g" % (name, what, error, bound))
        for family, error in sorted(worst.items()):
            print("%-40s worst %.2e" % (family, error))
        print("%d comparisons, %d failed" % (len(self.wanted), failed))
        return failed


def leaf(tensor):
    """The same numbers in float64 with a gradient."""
    return tensor.double().requires_grad_()


def add_normalize(cases):
    for n, d, cb in [(1, 1, 1), (7, 33, 8), (64, 128, 16), (5, 2048, 1)]:
        x, dy = torch.randn(n, d), torch.randn(n, d)
        x[0] *= 1e-14  # clamped
        xd = leaf(x)
        y = F.normalize(xd)
        y.backward(dy.double())
        rest = slice(1, None) if n > 1 else slice(0, None)
        cases.add("normalize %d %d %d" % (n, d, cb), ["normalize", n, d, cb], [x, dy],
                  [("y", y, 1e-6), ("norms", xd.norm(dim=1), 1e-6), ("dx", xd.grad, 1e-6)])
        if n > 1:  # alone: the clamped row's 1e12 hides the others
            xd2 = leaf(x[rest])
            F.normalize(xd2).backward(dy[rest].double())
            cases.add("normalize rest %d %d %d" % (n, d, cb), ["normalize", n - 1, d, cb], [x[rest], dy[rest]],
                      [("y", F.normalize(xd2), 1e-6), ("norms", xd2.norm(dim=1), 1e-6), ("dx", xd2.grad, 1e-6)])


def add_cross_entropy(cases):
    for n, k, size in [(1, 2, 1), (32, 10, 5), (65, 1000, 3), (16, 77, 50)]:
        z, labels = torch.randn(n, k) * size, torch.randint(0, k, (n,))
        zd = leaf(z)
        loss = torch.nn.CrossEntropyLoss()(zd, labels)
        loss.backward()
        share = (zd.argmax(1) == labels).double().mean()
        cases.add("cross_entropy %d %d" % (n, k), ["cross_entropy", n, k], [z, labels],
                  [("stats", torch.stack([loss, share]), 2e-6), ("dz", zd.grad, 1e-5)])


def add_triplet_margin(cases):
    for n, d, cb in [(1, 5, 1), (16, 24, 8), (33, 130, 16)]:
        rows = [torch.randn(n, d) for _ in range(3)]
        rows[1] = rows[0] + 0.5 * rows[1]
        for p in [2.0, 1.0, 3.0, 1.5, math.inf]:
            for swap in [0, 1]:
                for number, reduction in enumerate(["none", "mean", "sum"]):
                    a, b, c = (leaf(r) for r in rows)
                    margin = 3.0 if p == 2.0 else 1.0
                    loss = F.triplet_margin_loss(a, b, c, margin=margin, p=p, eps=1e-6, swap=bool(swap), reduction="none")
                    total = {"none": loss.sum() * 0, "mean": loss.mean(), "sum": loss.sum()}[reduction]
                    module = torch.nn.TripletMarginLoss(margin=margin, p=p, swap=bool(swap), reduction=reduction)
                    module(a, b, c).sum().backward()
                    cases.add("triplet_margin n %d d %d cb %d p %g swap %d %s" % (n, d, cb, p, swap, reduction),
                              ["triplet_margin", n, d, cb, margin, p, 1e-6, swap, number], rows,
                              [("loss", loss, 1e-5), ("total", total, 1e-5), ("da", a.grad, 2e-5), ("dp", b.grad, 2e-5),
                               ("dn", c.grad, 2e-5)])


def distances(e, kind):
    if kind == 2:
        return 1 - F.cosine_similarity(e[:, None], e[None], dim=2)
    squared = ((e[:, None] - e[None]) ** 2).sum(2)
    return squared if kind == 1 else squared.clamp(min=1e-12).sqrt()


def mined_loss(e, labels, mining, kind, soft, margin):
    dist = distances(e, kind)
    same = labels[:, None] == labels[None]
    positive, negative = same & ~torch.eye(len(e), dtype=torch.bool), ~same
    if mining == 1:
        x = dist[:, :, None] - dist[:, None, :] + margin
        terms = x[positive[:, :, None] & negative[:, None, :]]
        active = terms[terms > 0]
        return active.mean() if active.numel() else e.sum() * 0
    chosen = []
    for a in range(len(e)):
        if not positive[a].any() or not negative[a].any():
            continue
        far, near = dist[a][positive[a]], dist[a][negative[a]]
        if mining == 0:
            chosen.append(far.max() - near.min())
            continue
        for d in far:
            beyond = near[near > d]
            chosen.append(d - (beyond.min() if beyond.numel() else near.max()))
    if not chosen:
        return e.sum() * 0
    x = torch.stack(chosen)
    return F.softplus(x).mean() if soft else (x + margin).clamp(min=0).mean()


def add_triplet(cases):
    for n, d, cb, classes in [(12, 16, 8, 3), (40, 70, 1, 5), (9, 3, 16, 9)]:
        e, labels = torch.randn(n, d), torch.arange(n) % classes
        for mining in range(3):
            for kind in range(3):
                for soft in range(1 if mining == 1 else 2):
                    margin = 0.3
                    ed = leaf(e)
                    loss = mined_loss(ed, labels, mining, kind, soft, margin)
                    loss.backward()
                    name = "triplet n %d d %d cb %d mining %d distance %d soft %d" % (n, d, cb, mining, kind, soft)
                    cases.add(name, ["triplet", n, d, cb, mining, kind, soft, margin], [e, labels],
                              [("loss", loss, 5e-6, 1), ("de", ed.grad, 2e-5)])


def add_optimizers(cases):
    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    settings = [(0, sgd, dict()), (0, sgd, dict(weight_decay=0.01)), (0, sgd, dict(momentum=0.9)),
                (0, sgd, dict(momentum=0.9, weight_decay=5e-4)), (0, sgd, dict(momentum=0.8, nesterov=True, weight_decay=1e-3)),
                (1, adam, dict()), (1, adam, dict(weight_decay=0.01, betas=(0.8, 0.99), eps=1e-5)),
                (2, adamw, dict()), (2, adamw, dict(weight_decay=0.3, betas=(0.5, 0.95)))]
    count, steps = (500, 20) if SMALL else (5003, 50)
    for kind, make, options in settings:
        start, gradients = torch.randn(count), torch.randn(steps, count)
        rates = torch.tensor([1e-2 if i < steps // 2 else 1e-3 for i in range(steps)])
        p = leaf(start)
        optimizer = make([p], lr=0.1, **options)
        for i in range(steps):
            optimizer.param_groups[0]["lr"] = float("%g" % rates[i].item())
            p.grad = gradients[i].double()
            optimizer.step()
        beta1, beta2 = options.get("betas", (0.9, 0.999))
        decay = options.get("weight_decay", 0.01 if kind == 2 else 0)
        state = optimizer.state[p]
        kept = [state[k] for k in ("momentum_buffer", "exp_avg", "exp_avg_sq") if state.get(k) is not None]
        words = ["optimizer", kind, options.get("momentum", 0), int(options.get("nesterov", False)), decay, beta1, beta2,
                 options.get("eps", 1e-8), count, steps]
        cases.add("%s %s" % (make.__name__, options), words, [rates, start, gradients],
                  [("parameters", p, 1e-6), ("state", torch.cat(kept) if kept else torch.empty(0), 1e-6)])


def main():
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(folder)
        for add in [add_normalize, add_cross_entropy, add_triplet_margin, add_triplet, add_optimizers]:
            add(cases)
        failed = cases.run(sys.argv[1])
    sys.exit(1 if failed else 0)


main()
