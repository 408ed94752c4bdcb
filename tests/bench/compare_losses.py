#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Times trine's mined losses and PyTorch's in turn on the same processors, loss and gradient, and prints a Markdown table.

  compare_losses.py LOSS_TOOL [--rounds 5] [--batch 4096] [--dim 128] [--per-class 8] LOSS...

LOSS_TOOL is build/tests/op/loss_tool; LOSS one of batch-hard, easy-positive, multi-similarity, nt-xent, batch-all, semi-hard. Each round
starts one process of each, one after the other. PyTorch's are what people write, over whole matrices and masks, with distances from
torch.cdist and from one matrix product; batch-all takes N^3 memory there and is left out above 256. Memory is trine's workspace, and
what PyTorch's process takes more at its peak than before the loss. Reports only; no bound is checked here.
"""
import argparse
import json
import resource
import statistics
import subprocess

from bench_support import best_of, header, milliseconds, processors, row, title, torch_process, worker_words

OPTIONS = {"batch-hard": "margin=0.2", "easy-positive": "mining=3,margin=0.2", "semi-hard": "mining=2,margin=0.2",
           "batch-all": "mining=1,margin=0.2", "nt-xent": "loss=3,distance=2,temperature=0.1",
           "multi-similarity": "loss=2,distance=2,alpha=2,beta=50,base=0.5,epsilon=0.1"}


def torch_loss(torch, name, dist, same, own):
    """The loss from distances [n][n]; same: of one class; own: the diagonal."""
    inf = float("inf")
    positive = same & ~own
    if name in ("batch-hard", "easy-positive"):
        p = dist.masked_fill(~positive, -inf).amax(1) if name == "batch-hard" else dist.masked_fill(~positive, inf).amin(1)
        return torch.relu(p - dist.masked_fill(same, inf).amin(1) + 0.2).mean()
    if name == "batch-all":
        x = torch.relu(dist[:, :, None] - dist[:, None, :] + 0.2)[positive[:, :, None] & ~same[:, None, :]]
        return x.sum() / (x > 0).sum()
    s = 1 - dist
    if name == "multi-similarity":
        left = positive & (s < s.masked_fill(same, -inf).amax(1, True) + 0.1)
        right = ~same & (s > s.masked_fill(~positive, inf).amin(1, True) - 0.1)
        up = torch.log1p(torch.exp(-2 * (s - 0.5)).masked_fill(~left, 0).sum(1)) / 2
        return (up + torch.log1p(torch.exp(50 * (s - 0.5)).masked_fill(~right, 0).sum(1)) / 50).mean()
    a, p = positive.nonzero(as_tuple=True)
    if name == "nt-xent":
        rest = torch.logsumexp((s / 0.1).masked_fill(same, -inf), 1)
        return torch.nn.functional.softplus(rest[a] - s[a, p] / 0.1).mean()
    near = dist.detach()[a].masked_fill(same[a], inf)
    beyond = near.masked_fill(near <= dist.detach()[a, p][:, None], inf)
    closest, n = beyond.min(1)
    n = torch.where(closest < inf, n, near.masked_fill(near == inf, -inf).argmax(1))
    return torch.relu(dist[a, p] - dist[a, n] + 0.2).mean()


def torch_worker(name, batch, dim, per_class, repeats):
    import torch
    torch.manual_seed(1)
    torch.set_num_threads(processors())
    e = torch.nn.functional.normalize(torch.randn(batch, dim)).requires_grad_()
    labels = torch.arange(batch) // per_class
    same, own = labels[:, None] == labels[None], torch.eye(batch, dtype=torch.bool)
    cosine = "distance=2" in OPTIONS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def product():
        s = e @ e.T
        return 1 - s if cosine else (2 - 2 * s).clamp(min=1e-12).sqrt()

    def cdist():
        d = torch.cdist(e, e)
        return d * d / 2 if cosine else d

    def step(distances):
        e.grad = None
        torch_loss(torch, name, distances(), same, own).backward()

    times = {}
    for kind, distances in (("product", product), ("cdist", cdist)):
        step(distances)
        times[kind] = [milliseconds(lambda distances=distances: step(distances)) for _ in range(repeats)]
        if kind == "product":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"times": times, "mib": (peak - before) / 1024}))


def trine(tool, name, batch, dim, per_class, repeats):
    line = "time_triplet %d %d 16 %d %d %s\n" % (batch, dim, per_class, repeats, OPTIONS[name])
    done = subprocess.run([tool], input=line, stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return json.loads(done.stdout[done.stdout.index("{"):])


def main():
    words = worker_words()
    if words is not None:
        torch_worker(words[0], *[int(word) for word in words[1:5]])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("loss", nargs="+", choices=sorted(OPTIONS))
    for option, preset in (("rounds", 5), ("repeats", 5), ("batch", 4096), ("dim", 128), ("per-class", 8)):
        parser.add_argument("--" + option, type=int, default=preset)
    o = parser.parse_args()
    sizes = (o.batch, o.dim, o.per_class, o.repeats)
    title(o.rounds, "ms are medians of loss and gradient")
    header("loss", "batch", "trine ms", "PyTorch, product, ms", "PyTorch, cdist, ms", "ratio to the faster", "trine workspace MiB", "PyTorch MiB")
    for name in o.loss:
        ours, theirs, memory = [], {}, [0, 0]
        for _ in range(o.rounds):
            t = trine(o.tool, name, *sizes)
            ours.append(statistics.median(t["ms"]))
            memory[0] = t["workspace_bytes"] / 2**20
            if name == "batch-all" and o.batch > 256:
                continue
            p = torch_process(__file__, name, *sizes)
            memory[1] = max(memory[1], p["mib"])
            for kind, values in p["times"].items():
                theirs.setdefault(kind, []).append(statistics.median(values))
        a = statistics.median(ours)
        best = best_of(theirs)[1] if theirs else 0
        cells = ["%.0f" % statistics.median(theirs[kind]) if theirs else "-" for kind in ("product", "cdist")]
        row(name, "%d x %d" % (o.batch, o.dim), "%.1f" % a, *cells, "%.1f" % (best / a) if best else "-", "%.1f" % memory[0],
            "%.0f" % memory[1] if theirs else "-")


main()
