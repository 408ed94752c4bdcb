# SPDX-License-Identifier: MIT
"""What the comparisons with PyTorch share: its processes, its clock, its variants for inference, and the table's words."""
import json
import os
import platform
import statistics
import subprocess
import sys
import time

WORKER = "--torch-worker"


def processors():
    return len(os.sched_getaffinity(0))


def last_json(arguments):
    """The JSON object that a program prints."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return json.loads(done.stdout[done.stdout.index("{"):])


def torch_process(script, *words):
    """Run the script again as PyTorch's process (worker_words() tells it so); its JSON."""
    return last_json(["/usr/bin/python3", os.path.abspath(script), WORKER] + [str(word) for word in words])


def worker_words():
    """The words after --torch-worker, None in the process that compares."""
    return sys.argv[2:] if sys.argv[1:2] == [WORKER] else None


def milliseconds(run):
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def inference_variants(torch, model):
    """PyTorch's ways to run a network in evaluation mode: name, function, whether it takes channels_last images."""
    scripted = torch.jit.optimize_for_inference(torch.jit.script(model))
    yield "scripted", scripted, False
    yield "eager", model, False
    yield "channels_last", model.to(memory_format=torch.channels_last), True


def best_of(times):
    """The name and the median of the fastest variant of {name: [times]}."""
    name = min(times, key=lambda key: statistics.median(times[key]))
    return name, statistics.median(times[name])


def title(rounds, words):
    print("%s, %s, %d processors, %d alternating rounds; %s\n" %
          (time.strftime("%Y-%m-%d"), platform.processor() or platform.machine(), processors(), rounds, words))


def row(*cells):
    print("| %s |" % " | ".join(cells), flush=True)


def header(*cells):
    row(*cells)
    print("|" + "---|" * len(cells), flush=True)
