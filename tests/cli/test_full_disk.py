# SPDX-License-Identifier: MIT
"""A disk that is full when the result is saved: exit 1, one sentence, no half-written file. Mounts a small tmpfs."""
import os
import subprocess
import sys

from cli_support import Run, main, make_base, make_folder, skip


def full_disk(folder):
    """64 KiB of disk for a 1 MiB checkpoint."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    disk = os.path.join(folder, "disk")
    os.mkdir(disk)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True,
                           check=False)
    if mount.returncode != 0:
        skip("a small file system cannot be mounted here: " + mount.stderr.strip())
    try:
        for name in ("o.safetensors", "o.pth"):
            out = os.path.join(disk, name)
            Run("convert", base, out).fails(1, out)
            Run("finetune", "--weights", base, "--data", data, "--steps", 1, "--images-per-class", 2, "--out",
                out).fails(1, out)
            Run("train", "--arch", "resnet20_cifar", "--data", data, "--epochs", 1, "--batch", 6, "--out",
                out).fails(1, out)
        results = os.path.join(disk, "r.json")
        with open(os.path.join(disk, "filler"), "wb") as file:
            try:
                file.write(bytes(1 << 20))
            except OSError:
                pass
        Run("inspect", base, "--json", results).fails(1, results)
        for name in ("d.svg", "d.png"):
            picture = os.path.join(disk, name)
            done = Run("drift", "--weights", base, "--data", data, "--passes", 1, "--plot", picture)
            if "this build has no PNG plots" not in done.err:
                done.fails(1, "--plot", picture)
        assert os.listdir(disk) == ["filler"], os.listdir(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.path.exists("/bin/mount"):
        skip("mounting a small file system needs root")
    sys.exit(main([full_disk]))
