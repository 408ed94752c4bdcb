#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`trine drift --bn torch` beside PyTorch at every pass, on deep and wide networks of random weights.

  torch_drift.py TRINE cifar        resnet56_cifar and resnet110_cifar, 32x32
  torch_drift.py TRINE resnet18     torchvision's, 224x224, arrays and an image file
  torch_drift.py TRINE resnet50     the same of a deeper one

Weights are drawn, and their running statistics warmed by some training-mode passes over other images. Norms of
embedding and logits within 1e-4 of themselves, cosines within 1e-4; with --remedies as torch_remedies.py. 20 passes, fewer
with --remedies, which make some ten times as many.
Exit 77 (skipped) where torch is missing.
"""
import copy
import os
import sys
import tempfile

from torch_parity import CifarResNet, check, failures, imagenet_features, make_model, smooth_input
from torch_remedies import compare, drift
import numpy as np
import torch

BOUND = 1e-4


class Network:
    """A PyTorch model, its weights file for trine, and the two halves of its forward pass."""

    def __init__(self, name, model, features, head, folder, ending):
        self.name, self.model, self.features, self.head = name, model, features, head
        self.weights = os.path.join(folder, name + ending)

    def warm(self, size):
        """Running statistics as after a little training; then the file."""
        self.model.train()
        with torch.no_grad():
            for _ in range(4):
                self.model(smooth_input(8 if size < 64 else 4, size, size))
        torch.save({"state_dict": self.model.state_dict()} if self.weights.endswith(".th") else self.model.state_dict(),
                   self.weights)
        return self


def cifar(name, blocks, folder):
    torch.manual_seed(11)
    return Network(name, CifarResNet(blocks), CifarResNet.features, "linear", folder, ".th").warm(32)


def imagenet(name, folder):
    return Network(name, make_model(name), imagenet_features, "fc", folder, ".pth").warm(224)


def rows(network, x, passes):
    """(embedding norm, logit norm, cosine with row 0) before any pass and after each, as the report has them."""
    model, found, first = copy.deepcopy(network.model), [], None
    with torch.no_grad():
        for step in range(passes + 1):
            if step > 0:
                model.train()
                network.features(model, x)
            model.eval()
            e = network.features(model, x)
            z = getattr(model, network.head)(e).double()
            e = e.double()
            first = e if first is None else first
            cosine = torch.nn.functional.cosine_similarity(e, first, dim=1, eps=0)
            found.append((e.norm(dim=1).mean().item(), z.norm(dim=1).mean().item(), cosine.mean().item()))
    return found


def furthest(got, want):
    """Of the three figures over all rows: the largest relative difference of norms, and of cosines. NaN stays NaN."""
    a, b = np.array(got), np.array(want)
    return [np.abs(a[:, 0] / b[:, 0] - 1).max(), np.abs(a[:, 1] / b[:, 1] - 1).max(), np.abs(a[:, 2] - b[:, 2]).max()]


def compare_rows(title, report, want, passes):
    if [row["step"] for row in report["rows"]] != list(range(passes + 1)):
        sys.exit("%s: other rows than expected: %s" % (title, report["rows"]))
    got = [(row["embedding_norm"], row["logit_norm"], row["cosine"]) for row in report["rows"]]
    for what, value in zip(("embedding norm", "logit norm", "cosine"), furthest(got, want)):
        check("%s: %s at %d passes (norm %.4g to %.4g)" % (title, what, passes, want[0][0], want[-1][0]), value, BOUND)


def plain(trine, network, x, passes):
    title = "%s, batch of %d" % (network.name, len(x))
    compare_rows(title, drift(trine, network.weights, x, passes), rows(network, x, passes), passes)


def with_remedies(trine, network, x, passes):
    title = "%s, batch of %d" % (network.name, len(x))
    report = drift(trine, network.weights, x, passes, "--remedies")
    compare_rows(title, report, rows(network, x, passes), passes)
    compare(title, report, network.model, network.features, x, passes)


def one_image(trine, network, folder, passes):
    """A PNG and --preprocess imagenet, beside torchvision's transforms."""
    from PIL import Image
    from torchvision import transforms
    picture = os.path.join(folder, "photograph.png")
    pixels = smooth_input(1, 300, 260)[0].permute(1, 2, 0).mul(40).add(128).clamp(0, 255).byte().numpy()
    Image.fromarray(pixels).save(picture)
    steps = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
                                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    x = steps(Image.open(picture).convert("RGB"))[None]
    report = drift(trine, network.weights, ["--image", picture, "--preprocess", "imagenet"], passes)
    compare_rows("%s, a PNG" % network.name, report, rows(network, x, passes), passes)


def main():
    trine, what = sys.argv[1:3]
    torch.set_num_threads(2)
    torch.manual_seed(5)
    with tempfile.TemporaryDirectory() as folder:
        if what == "cifar":
            deep, deeper = cifar("resnet56_cifar", 9, folder), cifar("resnet110_cifar", 18, folder)
            plain(trine, deep, smooth_input(1, 32, 32), 20)
            plain(trine, deeper, smooth_input(1, 32, 32), 20)
            plain(trine, deeper, smooth_input(4, 32, 32), 20)
            with_remedies(trine, deep, smooth_input(4, 32, 32), 10)
        elif what == "resnet18":
            small = imagenet("resnet18", folder)
            one_image(trine, small, folder, 20)
            with_remedies(trine, small, smooth_input(4, 224, 224), 3)
            plain(trine, small, smooth_input(1, 224, 224), 20)
            plain(trine, small, smooth_input(4, 224, 224), 20)
        else:
            large = imagenet("resnet50", folder)
            plain(trine, large, smooth_input(1, 224, 224), 20)
            plain(trine, large, smooth_input(4, 224, 224), 20)
            with_remedies(trine, large, smooth_input(1, 224, 224), 2)
    if failures:
        sys.exit("%d comparisons failed" % len(failures))


if __name__ == "__main__":
    main()
