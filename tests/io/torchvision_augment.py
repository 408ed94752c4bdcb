#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Random changes of images against torchvision on Pillow images, given the numbers that were drawn: the same bytes and the same floats.

Usage: torchvision_augment.py AUGMENT_TOOL. Exit 77 (a visible skip) without torchvision, Pillow or numpy.
"""
import itertools
import math
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import torchvision.transforms as transforms
    import torchvision.transforms.functional as functional
    from PIL import Image
except Exception as error: # a broken torch raises more than ImportError
    print(f"SKIP: {error}: torchvision, Pillow and numpy are needed for this comparison")
    sys.exit(77)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
rng = np.random.default_rng(20261129)


class Tool:
    """One augment_tool."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *fields):
        """Width and height."""
        self.process.stdin.write((" ".join(map(str, fields)) + "\n").encode())
        self.process.stdin.flush()
        answer = self.line()
        assert answer[:1] == ["ok"], (fields, answer)
        return int(answer[1]), int(answer[2])

    def line(self):
        """Words of a line of the answer."""
        return self.process.stdout.readline().decode().split()

    def read(self, kind, count):
        """Raw numbers of the answer."""
        return np.frombuffer(self.process.stdout.read(count * np.dtype(kind).itemsize), kind)


def change(image, order, factors):
    """ColorJitter.forward() with these numbers."""
    steps = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation, functional.adjust_hue)
    for k in order:
        if not math.isnan(factors[k]):
            image = steps[k](image, factors[k])
    return image


def jitter(tool, path, image, order, factors):
    """One image through both."""
    width, height = tool.ask("jitter", path, "".join(map(str, order)), *factors)
    got = tool.read(np.uint8, 3 * width * height).reshape(height, width, 3)
    want = np.asarray(change(image, order, factors))
    assert np.array_equal(got, want), (path, order, factors, np.abs(got.astype(int) - want).max(), (got != want).sum())


def colors(tool, folder):
    """Every change alone over a grid of all colours' combinations and random ones, then in all orders on small images."""
    grid = np.stack(np.meshgrid(*[np.r_[0:256:9, 1, 254, 255]] * 3), -1).reshape(-1, 3)
    grid = np.concatenate([grid, rng.integers(0, 256, (60000, 3)), 128 + rng.integers(-3, 4, (3000, 3))]).astype(np.uint8)
    grid = grid[:len(grid) // 251 * 251].reshape(-1, 251, 3)
    path = os.path.join(folder, "grid.ppm")
    image = Image.fromarray(grid)
    image.save(path)
    none = [math.nan] * 4
    for k in range(3):
        for factor in (0.0, 0.3, 0.999, 1.0, 1.7, 3.2):
            jitter(tool, path, image, (0, 1, 2, 3), none[:k] + [factor] + none[k + 1:])
    for factor in (-0.5, -0.31, -0.001, 0.0, 0.004, 0.1, 0.5):
        jitter(tool, path, image, (0, 1, 2, 3), none[:3] + [factor])
    small = [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((1, 1, 3), (1, 9, 3), (13, 7, 3))]
    grey = Image.fromarray(np.repeat(rng.integers(0, 256, (11, 6, 1), dtype=np.uint8), 3, 2))
    for i, image in enumerate(small + [grey, Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (255, 255, 255))]):
        path = os.path.join(folder, f"small{i}.ppm")
        image.save(path)
        for order in itertools.permutations(range(4)):
            jitter(tool, path, image, order, [*rng.uniform(0, 2, 3), rng.uniform(-0.5, 0.5)])


def pipeline(image, text, words, size):
    """torchvision's transforms with the numbers that were drawn."""
    mirrored, left, top, width, height = map(int, words[:5])
    order, factors = [int(c) for c in words[5]], [float(w) for w in words[6:10]]
    eleft, etop, ewidth, eheight = map(int, words[10:14])
    if "rrc" in text:
        image = functional.resized_crop(image, top, left, height, width, size[::-1], transforms.InterpolationMode.BILINEAR)
    if mirrored:
        image = functional.hflip(image)
    x = transforms.Normalize(MEAN, STD)(transforms.ToTensor()(change(image, order, factors)))
    if "random" not in text:
        return functional.erase(x, etop, eleft, eheight, ewidth, torch.zeros(1, 1, 1)).numpy(), None
    mask = functional.erase(torch.zeros_like(x), etop, eleft, eheight, ewidth, torch.ones(1, 1, 1)).numpy() > 0
    return x.numpy(), mask


def whole(tool, folder):
    """All of preprocessing with every kind of change, on images of odd sizes."""
    counts = {"mirrored": 0, "erased": 0, "parts": 0}
    sizes = ((1, 1), (1, 37), (37, 1), (33, 47), (64, 64), (75, 50), (131, 97))
    for i, (width, height) in enumerate(sizes):
        path = os.path.join(folder, f"whole{i}.ppm")
        noise = rng.integers(0, 256, (height, width, 3))
        ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None]
        image = Image.fromarray(((noise + ramp) // 2 % 256).astype(np.uint8))
        image.save(path)
        for text in ("flip,rrc", "rrc:scale=0.3-0.6:ratio=0.5-2,jitter", "flip,rrc,jitter,erase:p=0.9",
                     "flip,rrc:scale=1-1,erase:p=1:value=random", "jitter:saturation=0.9,flip,erase"):
            crop = 24 if "rrc" in text else 0
            for slot in range(25):
                size = tool.ask("augment", path, text, 30 if crop else 0, 0, crop, 5, slot)
                assert size == ((crop, crop) if crop else (width, height)), size
                words = tool.line()
                got = tool.read(np.float32, 3 * size[0] * size[1]).reshape(3, size[1], size[0])
                want, free = pipeline(image, text, words, size)
                same = (got == want) if free is None else (got == want) | free
                assert same.all(), (path, text, slot, words, np.abs(got - want).max())
                assert free is None or not free.any() or abs(got[free]).max() < 7
                counts["mirrored"] += words[0] == "1"
                counts["erased"] += int(words[12]) * int(words[13]) > 0
                counts["parts"] += int(words[3]) not in (0, width)
    assert all(count > 100 for count in counts.values()), counts
    print(counts)


def view(tool, folder):
    """Colours change in what the crop shows, its black border included: the mean grey of contrast is that of the view."""
    path = os.path.join(folder, "view.ppm")
    image = Image.fromarray(rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    image.save(path)
    for slot in range(10):
        size = tool.ask("augment", path, "jitter", 0, 0, 40, 6, slot)
        words = tool.line()
        got = tool.read(np.float32, 3 * size[0] * size[1]).reshape(3, size[1], size[0])
        want, _ = pipeline(transforms.CenterCrop(40)(image), "jitter", words, size)
        assert np.array_equal(got, want), (slot, np.abs(got - want).max())


def main():
    """All comparisons."""
    tool = Tool(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        colors(tool, folder)
        whole(tool, folder)
        view(tool, folder)
    tool.process.stdin.close()
    assert tool.process.wait() == 0


if __name__ == "__main__":
    main()
