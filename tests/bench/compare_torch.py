#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Times trine and PyTorch in turn on the same processors and prints a Markdown table of medians and ratios.

  compare_torch.py TRINE [--rounds 7] [--batch 8] [--size 224] [--modes infer,train] ARCH...

Each round starts one process of each, one after the other, so that a slow spell of the machine meets both. PyTorch is taken at its
best: scripted and optimised for inference, eager NCHW and eager channels_last are timed and the fastest median counts (training:
NCHW and channels_last). Reports only; no bound is checked here.
"""
import argparse
import json
import resource
import statistics

from bench_support import (best_of, header, inference_variants, last_json, milliseconds, processors, row, title, torch_process,
                           worker_words)


def torch_worker(arch, batch, size, mode, repeats):
    """Print the times in ms of each of PyTorch's variants as JSON."""
    import torch
    import torchvision
    torch.manual_seed(1)
    torch.set_num_threads(processors())
    model = getattr(torchvision.models, arch)()
    x = torch.randn(batch, 3, size, size)
    labels = torch.zeros(batch, dtype=torch.long)
    times = {}

    def measure(name, run):
        run()
        run()
        times[name] = [milliseconds(run) for _ in range(repeats)]

    if mode == "infer":
        model.eval()
        with torch.no_grad():
            for name, variant, channels_last in inference_variants(torch, model):
                xl = x.contiguous(memory_format=torch.channels_last) if channels_last else x
                measure(name, lambda: variant(xl))
    else:
        model.train()
        for name, layout in (("eager", torch.contiguous_format), ("channels_last", torch.channels_last)):
            model, xl = model.to(memory_format=layout), x.contiguous(memory_format=layout)
            optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

            def step():
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(xl), labels).backward()
                optimizer.step()

            measure(name, step)
    print(json.dumps({"times": times, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def compare(trine, arch, batch, size, mode, rounds, repeats):
    ours, theirs = [], {}
    memory = [0, 0]
    for _ in range(rounds):
        t = last_json([trine, "bench", "--arch", arch, "--batch", str(batch), "--size", str(size), "--mode", mode, "--quiet",
                       "--json", "-"])
        ours.append(t["ms_median"])
        memory[0] = max(memory[0], t["peak_bytes"] / 2**20)
        p = torch_process(__file__, arch, batch, size, mode, repeats)
        for name, values in p["times"].items():
            theirs.setdefault(name, []).append(statistics.median(values))
        memory[1] = max(memory[1], p["peak_kib"] / 1024)
    best, b = best_of(theirs)
    a = statistics.median(ours)
    variants = ", ".join("%s %.0f" % (n, statistics.median(v)) for n, v in sorted(theirs.items()))
    row(arch, mode, "%d" % batch, "%.1f" % a, "%.1f (%s)" % (b, best), "%.2f" % (b / a), "%.0f" % memory[0], "%.0f" % memory[1],
        variants)


def main():
    words = worker_words()
    if words is not None:
        torch_worker(words[0], int(words[1]), int(words[2]), words[3], int(words[4]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("trine")
    parser.add_argument("arch", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--modes", default="infer,train")
    o = parser.parse_args()
    title(o.rounds, "ms are medians, ratio is PyTorch over trine")
    header("network", "mode", "batch", "trine ms", "PyTorch's best ms", "ratio", "trine device MiB", "PyTorch process MiB",
           "PyTorch's variants, ms")
    for arch in o.arch:
        for mode in o.modes.split(","):
            compare(o.trine, arch, o.batch, o.size, mode, o.rounds, o.repeats)


main()
