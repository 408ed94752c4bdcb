# SPDX-License-Identifier: MIT
"""Helpers of the command line's tests: run the program, make small images, weights and arrays."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

SKIP = 77
TRINE = os.environ.get("TRINE_PROGRAM", "trine")


class Run:
    """One run of the program: exit code, stdout, stderr."""

    def __init__(self, *args, env=None, quiet=True, **options):
        words = [TRINE, *map(str, args)] + (["--quiet"] if quiet else [])
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False,
                              timeout=600, **options)
        self.words, self.code, self.out, self.err = words, done.returncode, done.stdout, done.stderr

    def __str__(self):
        return f"{' '.join(self.words)}\nexit {self.code}\nstdout: {self.out}\nstderr: {self.err}"

    def ok(self):
        assert self.code == 0, str(self)
        return self

    def json(self):
        return json.loads(self.ok().out)

    def fails(self, code, *words):
        """It ended with this exit code and exactly one sentence, which has all the words in it."""
        assert self.code == code, f"want exit {code}: {self}"
        lines = self.err.strip("\n").split("\n")
        assert len(lines) == 1 and lines[0].startswith("trine"), f"want one sentence: {self}"
        for word in words:
            assert word in lines[0], f"want '{word}' in the sentence: {self}"
        return self


def write_ppm(path, seed, side=32):
    """A small colour image that depends on the seed."""
    pixels = bytearray()
    state = seed * 7919 + 1
    for i in range(side * side):
        for channel in range(3):
            state = (state * 1103515245 + 12345) % (1 << 31)
            pixels.append(((seed * 37 + channel * 60) % 160 + (state >> 16) % 64 + i * channel // side) % 256)
    with open(path, "wb") as file:
        file.write(b"P6\n%d %d\n255\n" % (side, side) + bytes(pixels))


def make_folder(root, classes=3, images=4):
    """A data set: a folder per class."""
    for k in range(classes):
        os.makedirs(os.path.join(root, f"class{k}"))
        for i in range(images):
            write_ppm(os.path.join(root, f"class{k}", f"{i}.ppm"), 10 * k + i)
    return root


def write_npy(path, dtype, shape, data):
    """A .npy file of format 1.0."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {tuple(shape)!r}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data)


def read_safetensors(path):
    """Header and data of a safetensors file."""
    with open(path, "rb") as file:
        content = file.read()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + size]), bytearray(content[8 + size:])


def write_safetensors(path, header, data):
    """The reverse."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + bytes(data))


def make_base(folder, data):
    """A resnet20_cifar trained for one epoch."""
    path = os.path.join(folder, "base.safetensors")
    Run("train", "--arch", "resnet20_cifar", "--data", data, "--epochs", 1, "--batch", 6, "--lr", 0.01, "--out",
        path).ok()
    return path


def main(tests):
    """Run every function of the list in a folder of its own; the first failure ends the program."""
    for test in tests:
        folder = tempfile.mkdtemp(prefix="trine-cli-")
        try:
            test(folder)
            print(f"ok {test.__name__}", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def note(reason):
    """What a test leaves out, visibly, while the rest of it runs."""
    print(f"left out: {reason}", flush=True)


def skip(reason):
    """Leave with meson's code for a skipped test."""
    print(f"skipped: {reason}")
    sys.exit(SKIP)
