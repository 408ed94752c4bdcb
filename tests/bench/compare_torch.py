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
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

WORKER = "--torch-worker"


def torch_worker(arch, batch, size, mode, repeats):
    """Print the times in ms of each of PyTorch's variants as JSON."""
    import torch
    import torchvision
    torch.manual_seed(1)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = getattr(torchvision.models, arch)()
    x = torch.randn(batch, 3, size, size)
    labels = torch.zeros(batch, dtype=torch.long)
    times = {}

    def measure(name, run):
        run()
        run()
        times[name] = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)

    if mode == "infer":
        model.eval()
        with torch.no_grad():
            scripted = torch.jit.optimize_for_inference(torch.jit.script(model))
            measure("scripted", lambda: scripted(x))
            measure("eager", lambda: model(x))
            model, xc = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
            measure("channels_last", lambda: model(xc))
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


def last_json(arguments):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return json.loads(done.stdout[done.stdout.index("{"):])


def compare(trine, arch, batch, size, mode, rounds, repeats):
    ours, theirs = [], {}
    memory = [0, 0]
    for _ in range(rounds):
        t = last_json([trine, "bench", "--arch", arch, "--batch", str(batch), "--size", str(size), "--mode", mode, "--quiet",
                       "--json", "-"])
        ours.append(t["ms_median"])
        memory[0] = max(memory[0], t["peak_bytes"] / 2**20)
        p = last_json(["/usr/bin/python3", os.path.abspath(__file__), WORKER, arch, str(batch), str(size), mode, str(repeats)])
        for name, values in p["times"].items():
            theirs.setdefault(name, []).append(statistics.median(values))
        memory[1] = max(memory[1], p["peak_kib"] / 1024)
    best = min(theirs, key=lambda name: statistics.median(theirs[name]))
    a, b = statistics.median(ours), statistics.median(theirs[best])
    variants = ", ".join("%s %.0f" % (n, statistics.median(v)) for n, v in sorted(theirs.items()))
    print("| %s | %s | %d | %.1f | %.1f (%s) | %.2f | %.0f | %.0f | %s |" % (arch, mode, batch, a, b, best, b / a, memory[0],
                                                                         memory[1], variants), flush=True)


def main():
    if len(sys.argv) > 1 and sys.argv[1] == WORKER:
        torch_worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], int(sys.argv[6]))
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
    print("%s, %s, %d processors, %d alternating rounds; ms are medians, ratio is PyTorch over trine\n" %
          (time.strftime("%Y-%m-%d"), platform.processor() or platform.machine(), len(os.sched_getaffinity(0)), o.rounds))
    print("| network | mode | batch | trine ms | PyTorch's best ms | ratio | trine device MiB | PyTorch process MiB | PyTorch's variants, ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for arch in o.arch:
        for mode in o.modes.split(","):
            compare(o.trine, arch, o.batch, o.size, mode, o.rounds, o.repeats)


main()
