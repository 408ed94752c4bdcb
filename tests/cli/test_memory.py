# SPDX-License-Identifier: MIT
"""The memory that a run is said to take before it starts is what it takes, on the device and, where that is the host, of the process."""
import json
import os
import subprocess
import sys

from cli_support import TRINE, main

MIB = 1 << 20
BESIDE = 150 * MIB  # what a process may take beside the device's memory and an almost empty run's
SLACK = 8 * 8  # two floats an image, which cross-entropy takes at its first use


def bench(*words):
    """bench's figures, and the most memory that its process took; of the second of two runs, which compiles nothing."""
    command = [TRINE, "bench", *map(str, words), "--runs", "7", "--json", "-", "--quiet"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return json.loads(text), usage.ru_maxrss * 1024


def limits(_):
    """ResNet-50, batch 8 at 224x224."""
    figures, resident = bench("--arch", "resnet20_cifar", "--batch", 1)
    empty = resident - figures["peak_bytes"]
    for limit, words in ((200, ["--mode", "infer"]), (900, ["--mode", "train"]), (600, ["--mode", "train", "--checkpoint-activations"])):
        figures, resident = bench("--arch", "resnet50", "--batch", 8, *words)
        told = f"{words}: {figures}, {resident} bytes resident, {empty} of them without a network"
        assert 0 <= figures["peak_bytes"] - figures["planned_bytes"] <= SLACK, told
        assert figures["peak_bytes"] <= limit * MIB, told
        assert resident <= empty + figures["peak_bytes"] + BESIDE, told


if __name__ == "__main__":
    sys.exit(main([limits]))
