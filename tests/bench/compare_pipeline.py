#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Times what a user waits for, trine and PyTorch in turn on the same processors, and prints a Markdown table.

  compare_pipeline.py TRINE SHARED PHOTOS [--rounds 3] [--parts finetune,embed,start]

finetune  200 steps of triplet loss (batch-hard, 10 classes x 8 images) from SHARED/data/weights/resnet20-cifar10.th
embed     PHOTOS (a folder per class) to vectors: resnet18, shorter side to 256, centre crop 224
start     one photograph through a resnet50: trine with empty caches, trine again, PyTorch

trine's times are those of whole processes. PyTorch's are at its best: of finetune and embed only the loop counts, without imports
and reading of weights, images are decoded once and kept (finetune) or come from a DataLoader of 2 workers (embed), and the fastest
variant counts. Reports only; no bound is checked here.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from bench_support import best_of, header, inference_variants, milliseconds, processors, row, title, torch_process, worker_words

CLASSES, EACH, MARGIN, LEARNING_RATE = 10, 8, 0.2, 0.01
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def batch_hard(F, torch, e, labels):
    """triplet loss on unit vectors: each anchor with its furthest positive and its nearest negative."""
    e = F.normalize(e)
    d = torch.cdist(e, e)
    same = labels[:, None] == labels[None, :]
    furthest = d.masked_fill(~same, 0).amax(1)
    nearest = d.masked_fill(same, float("inf")).amin(1)
    return F.relu(furthest - nearest + MARGIN).mean()


def torch_finetune(shared, steps, layout):
    """Seconds of `steps` steps: decoding all images once included."""
    import torch
    import torch.nn.functional as F
    import torchvision
    torch.set_num_threads(processors())
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "net"))
    from torch_parity import CifarResNet
    state = torch.load(os.path.join(shared, "data/weights/resnet20-cifar10.th"), map_location="cpu")["state_dict"]
    model = CifarResNet()
    model.load_state_dict({k[len("module."):]: v for k, v in state.items()})
    layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = model.to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(1)
    transform = torchvision.transforms.Compose([torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(MEAN, STD)])
    losses = []

    def run():
        data = torchvision.datasets.ImageFolder(os.path.join(shared, "data/cifar10/train"), transform)
        images = torch.stack([image for image, _ in data])
        targets = torch.tensor(data.targets)
        members = [torch.nonzero(targets == c).flatten() for c in range(CLASSES)]
        for _ in range(steps):
            rows = torch.cat([m[torch.randperm(len(m), generator=generator)[:EACH]] for m in members])
            optimizer.zero_grad()
            loss = batch_hard(F, torch, CifarResNet.features(model, images[rows].contiguous(memory_format=layout)), targets[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    return milliseconds(run) / 1e3


def photo_transform():
    from torchvision import transforms as t
    return t.Compose([t.Resize(256), t.CenterCrop(224), t.ToTensor(), t.Normalize(MEAN, STD)])


def torch_embed(weights, photos, count, batch, only):
    """Images per second over the first `count` photographs, by variant: `only` one of them, or all for "any"."""
    import torch
    import torchvision
    torch.set_num_threads(processors())
    model = torchvision.models.resnet18()
    model.load_state_dict(torch.load(weights))
    model.fc = torch.nn.Identity()
    model.eval()
    data = torchvision.datasets.ImageFolder(photos, photo_transform())
    data = torch.utils.data.Subset(data, range(min(count, len(data))))
    rates = {}
    with torch.no_grad():
        for name, variant, channels_last in inference_variants(torch, model):
            if only not in ("any", name):
                continue
            layout = torch.channels_last if channels_last else torch.contiguous_format
            warm = torch.randn(batch, 3, 224, 224).contiguous(memory_format=layout)
            variant(warm)
            variant(warm)
            vectors = []

            def run():
                loader = torch.utils.data.DataLoader(data, batch_size=batch, num_workers=2)
                for x, _ in loader:
                    vectors.append(variant(x.contiguous(memory_format=layout)))

            rates[name] = len(data) / milliseconds(run) * 1e3
    return rates


def torch_start(weights, photo):
    """From the imports to the first vector; the process that measures adds the interpreter's start."""
    import torch
    import torchvision
    from PIL import Image
    torch.set_num_threads(processors())
    model = torchvision.models.resnet50()
    model.load_state_dict(torch.load(weights))
    model.eval()
    with torch.no_grad():
        return float(model(photo_transform()(Image.open(photo).convert("RGB"))[None]).sum())


def torch_weights(folder):
    """Networks drawn at random, with running statistics, as PyTorch saves them."""
    import torch
    import torchvision
    torch.manual_seed(1)
    for arch in ("resnet18", "resnet50"):
        model = getattr(torchvision.models, arch)()
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(4, 3, 224, 224))
        torch.save(model.state_dict(), os.path.join(folder, arch + ".pth"))


def work(words):
    if words[0] == "finetune":
        result = {"seconds": torch_finetune(words[1], int(words[2]), words[3])}
    elif words[0] == "embed":
        result = {"rates": torch_embed(words[1], words[2], int(words[3]), int(words[4]), words[5])}
    elif words[0] == "start":
        result = {"sum": torch_start(words[1], words[2])}
    else:
        result = {"folder": torch_weights(words[1])}
    print(json.dumps(result))


def process_seconds(*arguments, env=None):
    return milliseconds(lambda: subprocess.run([str(a) for a in arguments], stdout=subprocess.DEVNULL, check=True,
                                               env=dict(os.environ, **(env or {})))) / 1e3


def seconds_to_file(path, *arguments, env):
    """Seconds until `path` is there, and until the program has ended."""
    start = time.perf_counter()
    program = subprocess.Popen([str(a) for a in arguments], stdout=subprocess.DEVNULL, env=dict(os.environ, **env))
    while not os.path.exists(path) and program.poll() is None:
        time.sleep(0.002)
    first = time.perf_counter() - start
    if program.wait() != 0:
        sys.exit("%s: exit %d" % (" ".join(str(a) for a in arguments), program.returncode))
    return first, time.perf_counter() - start


def line(what, unit, ours, theirs, variant, higher_is_better):
    """A row of medians; the ratio says how much better trine is."""
    a, b = statistics.median(ours), statistics.median(theirs)
    row(what, unit, "%.2f" % a, "%.2f (%s)" % (b, variant), "%.2f" % (a / b if higher_is_better else b / a),
        ", ".join("%.2f" % v for v in ours), ", ".join("%.2f" % v for v in theirs))


def finetune(o, folder):
    command = [o.trine, "finetune", "--weights", os.path.join(o.shared, "data/weights/resnet20-cifar10.th"), "--data",
               os.path.join(o.shared, "data/cifar10/train"), "--classes-per-batch", CLASSES, "--images-per-class", EACH, "--steps",
               o.steps, "--optimizer", "sgd", "--lr", LEARNING_RATE, "--weight-decay", 1e-4, "--schedule", "constant", "--augment", "none",
               "--margin", MARGIN, "--quiet", "--out", os.path.join(folder, "tuned.safetensors")]
    process_seconds(*command)  # programs into the cache
    ours, theirs = [], {}
    for _ in range(o.rounds):
        ours.append(process_seconds(*command))
        for layout in ("eager", "channels_last"):
            theirs.setdefault(layout, []).append(torch_process(__file__, "finetune", o.shared, o.steps, layout)["seconds"])
    best, _ = best_of(theirs)
    line("%d steps of fine-tuning, resnet20, batch %d" % (o.steps, CLASSES * EACH), "s", ours, theirs[best], best, False)


def embed(o, folder):
    weights = os.path.join(folder, "resnet18.pth")
    photos = os.path.join(folder, "photos")
    found = sorted(glob.glob(os.path.join(o.photos, "*", "*.jpg")))[:o.images]
    os.makedirs(os.path.join(photos, "all"))
    for i, path in enumerate(found):
        os.symlink(os.path.abspath(path), os.path.join(photos, "all", "%06d.jpg" % i))
    command = [o.trine, "embed", "--weights", weights, "--data", photos, "--quiet", "--out", os.path.join(folder, "e.npy")]
    process_seconds(*command)
    trial = torch_process(__file__, "embed", weights, photos, min(o.images, 256), o.batch, "any")["rates"]
    best = max(trial, key=trial.get)
    ours, theirs = [], []
    for _ in range(o.rounds):
        ours.append(len(found) / process_seconds(*command))
        theirs.append(torch_process(__file__, "embed", weights, photos, o.images, o.batch, best)["rates"][best])
    line("%d photographs to vectors, resnet18" % len(found), "images/s", ours, theirs, "%s, batch %d" % (best, o.batch), True)


def start(o, folder):
    pth, weights = (os.path.join(folder, "resnet50" + ending) for ending in (".pth", ".safetensors"))
    process_seconds(o.trine, "convert", pth, weights, "--quiet")
    photo = sorted(glob.glob(os.path.join(o.photos, "*", "*.jpg")))[0]
    out = os.path.join(folder, "one.npy")
    cold, ended, warm, theirs = [], [], [], []
    for _ in range(o.rounds):
        with tempfile.TemporaryDirectory() as caches:
            env = {"TRINE_CACHE_DIR": os.path.join(caches, "trine"), "POCL_CACHE_DIR": os.path.join(caches, "pocl")}
            command = [o.trine, "embed", "--weights", weights, "--image", photo, "--quiet", "--out", out]
            first, end = seconds_to_file(out, *command, env=env)
            cold.append(first)
            ended.append(end)
            for _ in range(3):
                os.unlink(out)
                warm.append(seconds_to_file(out, *command, env=env)[0])
            os.unlink(out)
        for _ in range(3):
            theirs.append(process_seconds("/usr/bin/python3", os.path.abspath(__file__), "--torch-worker", "start", pth, photo))
    line("resnet50, empty caches: start to first vector", "s", cold, theirs, "warm", False)
    line("the same: to the end of the process", "s", ended, theirs, "warm", False)
    line("resnet50, second process: start to first vector", "s", warm, theirs, "warm", False)


def main():
    words = worker_words()
    if words is not None:
        work(words)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("trine")
    parser.add_argument("shared")
    parser.add_argument("photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default="finetune,embed,start")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32, help="PyTorch's batch for embed")
    o = parser.parse_args()
    title(o.rounds, "medians; ratio above 1: trine is better")
    header("what", "unit", "trine", "PyTorch", "ratio", "trine's rounds", "PyTorch's rounds")
    with tempfile.TemporaryDirectory() as folder:
        torch_process(__file__, "weights", folder)
        for part in o.parts.split(","):
            {"finetune": finetune, "embed": embed, "start": start}[part](o, folder)


main()
