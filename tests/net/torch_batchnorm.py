#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""BatchNorm's semantics in a whole network beside PyTorch doing the same things in float64, statement by statement.

  torch_batchnorm.py TRINE BN_TOOL STATEMENT...      none given: all of them

Each statement sets a resnet20 up as a user of PyTorch would, runs training-mode passes, evaluations and SGD steps on both sides
(tests/net/bn_tool.c), and compares
  outputs      1e-4 of the largest
  gradients    1e-4 of each tensor's norm; and which parameters have any. A value that float32 has on the other side of a ReLU's
               0 costs up to 3e-2 of a tensor, so a step's images are drawn until float64 has none within EDGE of one
  statistics   1e-5 of each tensor's norm (after passes); counters exactly
  changes      as gradients, of each tensor's change, less float32's rounding of the value
  the rest     what must not move: every byte; what must move: that it does
Exit 77 (skipped) where torch is missing.
"""
import copy
import os
import subprocess
import sys
import tempfile
from unittest import mock

from torch_parity import SLACK, CifarResNet, check, failures, smooth_input
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.ops import FrozenBatchNorm2d

OUTPUT, STATISTIC, GRADIENT = 1e-4, 1e-5, 1e-4
EDGE, DRAWS = 1e-5, 500  # of the mean size of the ReLU's inputs, several times float32's error there
PASSES, STEPS, RATE = 3, 3, 1e-3
BATCH, SIZE = 6, 16  # few activations: fewer beside a ReLU's 0
BN_PARAMETERS = "bn1.*,*.bn?.*"


def batchnorms(model):
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]


def each(model, **settings):
    """The settings on every BatchNorm module of a built model."""
    for _, m in batchnorms(model):
        for key, value in settings.items():
            setattr(m, key, value)


def network(make=nn.BatchNorm2d):
    """A resnet20 whose BatchNorm layers come from `make`, with affine parameters and statistics that are not the identity."""
    torch.manual_seed(7)
    model = CifarResNet()
    for block in [model] + [b for stage in (model.layer1, model.layer2, model.layer3) for b in stage]:
        for name in ("bn1", "bn2"):
            if hasattr(block, name):
                setattr(block, name, make(getattr(block, name).num_features))
    for name, m in model.named_modules():
        if getattr(m, "weight", None) is not None and not isinstance(m, (nn.Conv2d, nn.Linear)):
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.uniform_(-0.3, 0.3)
        if getattr(m, "running_mean", None) is not None:
            m.running_mean.uniform_(-0.3, 0.3)
            m.running_var.uniform_(0.5, 1.5)
        if getattr(m, "num_batches_tracked", None) is not None:
            m.num_batches_tracked.fill_(5)
    return model


def is_counter(name):
    return name.endswith("num_batches_tracked")


def is_statistic(name):
    return name.endswith(("running_mean", "running_var"))


def is_bn(name):
    return is_counter(name) or is_statistic(name) or "bn" in name


def holds(name, good):
    """A statement that is true or not."""
    if good:
        print("%-72s yes" % name, flush=True)
    else:
        fail(name)


def fail(sentence):
    print("%s FAILED" % sentence, flush=True)
    failures.append(sentence)


def command(*words):
    """The program, run."""
    return subprocess.run([sys.argv[1]] + list(words), text=True, capture_output=True)


def error(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def evaluated(model, x):
    with torch.no_grad():
        return model.double().eval()(x.double())


def check_errors(title, errors):
    """Of trained tensors; NaN is worse than anything."""
    check("%s: worst of %d" % (title, len(errors)), max(errors, key=lambda e: (e != e, e)), GRADIENT)


def nearest_edge(model, x):
    """How close to 0 any ReLU's input comes in a training-mode pass, over the mean size of that ReLU's inputs. The model stays."""
    nearest = []
    relu = F.relu

    def watched(v):
        nearest.append((v.abs().min() / v.abs().mean()).item())
        return relu(v)
    with torch.no_grad(), mock.patch.object(F, "relu", watched):
        copy.deepcopy(model)(x.double())
    return min(nearest)


class Pair:
    """One network on both sides. What PyTorch does is done at once, what trine does when run() is called, and then compared."""

    def __init__(self, title, tool, model, bn, training, freeze=None, state=None):
        """training(model): puts the model into training mode as the user of the remedy does, before every training pass.
        state: what the file holds, if that is not the model's state_dict()."""
        self.title, self.tool, self.training = title, tool, training
        self.folder = tempfile.TemporaryDirectory()
        self.files, self.lines, self.later = 0, [], []
        self.first = {k: v.clone() for k, v in (state or model.state_dict()).items()}
        weights = self.path("pth")
        torch.save(self.first, weights)
        self.lines = ["open " + weights, "bn " + bn] + (["freeze " + freeze] if freeze else [])
        self.model = model.double()
        torch.manual_seed(11)
        self.inputs = [smooth_input(BATCH, SIZE, SIZE) for _ in range(PASSES + STEPS)]
        self.directions = [torch.randn(BATCH, 10) / BATCH for _ in range(STEPS)]

    def path(self, ending):
        self.files += 1
        return os.path.join(self.folder.name, "%d.%s" % (self.files, ending))

    def write(self, array):
        path = self.path("npy")
        np.save(path, array.numpy())
        return path

    def compare_output(self, what, want):
        path = self.path("npy")
        name = "%s: %s" % (self.title, what)
        self.later.append(lambda: check(name, error(torch.from_numpy(np.load(path)), want), OUTPUT))
        return path

    def train(self, x, what="training-mode output"):
        self.training(self.model)
        with torch.no_grad():
            y = self.model(x.double())
        self.lines.append("train %s %s" % (self.write(x), self.compare_output(what, y)))

    def evaluate(self, x, what="evaluation output"):
        self.model.eval()
        with torch.no_grad():
            y = self.model(x.double())
        self.lines.append("eval %s %s" % (self.write(x), self.compare_output(what, y)))

    def clear_images(self, x):
        """x, or the first of other images on which no ReLU is undecided, by the reference alone."""
        for _ in range(DRAWS):
            if nearest_edge(self.model, x) > EDGE:
                return x
            x = smooth_input(BATCH, SIZE, SIZE)
        sys.exit("%s: %d draws of images, each with a value at a ReLU's edge" % (self.title, DRAWS))

    def step(self, x, d):
        self.training(self.model)
        x = self.clear_images(x)
        for p in self.model.parameters():
            p.grad = None
        y = self.model(x.double())
        (y * d.double()).sum().backward()
        want = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            for p in self.model.parameters():
                if p.grad is not None:
                    p -= RATE * p.grad
        words = ["step", self.write(x), self.write(d), str(RATE), self.compare_output("output of a step", y.detach())]
        path = self.path("pth")
        self.lines.append(" ".join(words + [path]))
        self.later.append(lambda: self.compare_gradients(want, {k.replace("fc.", "linear."): v for k, v in
                                                                torch.load(path).items()}))

    def compare_gradients(self, want, got):
        if set(want) != set(got):
            fail("%s: gradients of %s" % (self.title, sorted(set(want) ^ set(got))))
            return
        check_errors("%s: gradients" % self.title, [((got[k].double() - v).norm() / v.norm()).item() for k, v in want.items()])

    def state(self, what, still, moves, stepped):
        """Compare the whole state now. still(name): equal to the file's bytes; moves(name): not equal to them; stepped: optimizer
        steps have been taken, so that changes are compared and not values."""
        want = {k: v.clone() for k, v in self.model.state_dict().items()}
        path = self.path("pth")
        self.lines.append("save " + path)
        self.later.append(lambda: self.compare_state("%s, %s" % (self.title, what), want, torch.load(path), still, moves,
                                                     stepped))

    def compare_state(self, title, want, got, still, moves, stepped):
        missing = set(want) - set(got)
        extra = {k for k in set(got) - set(want) if not is_counter(k)}  # FrozenBatchNorm2d drops the counters
        if missing or extra:
            fail("%s: tensors %s" % (title, sorted(missing | extra)))
            return
        for name in got:
            if name in self.first and still(name) and not torch.equal(self.first[name], got[name]):
                fail("%s: %s moved" % (title, name))
            if name in self.first and moves(name) and torch.equal(self.first[name], got[name]):
                fail("%s: %s did not move" % (title, name))
            if is_counter(name) and name in want and not torch.equal(want[name], got[name]):
                fail("%s: %s is %d, expected %d" % (title, name, got[name], want[name]))
        values, changes = [0.0], []
        for name, value in want.items():
            if is_counter(name):
                continue
            difference, size = (got[name].double() - value).norm().item(), value.norm().item()
            change = (value - self.first[name].double()).norm().item() if name in self.first else 0
            if change > 0:
                changes.append(max(0.0, difference - SLACK * size) / change if difference == difference else difference)
            if not (stepped and change > 0):
                values.append(difference / size)
        if changes:
            check_errors(title, changes)
        check("%s: worst of %d values" % (title, len(values) - 1), max(values, key=lambda e: (e != e, e)), STATISTIC)
        self.model.load_state_dict(got, strict=True)

    def run(self):
        done = subprocess.run([self.tool], input="\n".join(self.lines) + "\n", text=True, capture_output=True)
        if done.returncode == 77:
            print(done.stdout)
            sys.exit(77)
        if done.returncode != 0:
            fail("%s: %s" % (self.title, done.stderr.strip()))
            return
        for compare in self.later:
            compare()


def none_of(name):
    return False


def protocol(pair, still=none_of, moves=none_of, trained=lambda name: True):
    """Passes, evaluations and steps. still, moves: of the state after the passes; of the BatchNorm buffers after the steps too.
    trained(name): the parameter trains."""
    pair.evaluate(pair.inputs[0][:4], "evaluation before any pass")
    for x in pair.inputs[:PASSES]:
        pair.train(x)
    pair.evaluate(pair.inputs[0][:4], "evaluation after %d passes" % PASSES)
    pair.state("after %d passes" % PASSES, lambda name: still(name) or not (is_statistic(name) or is_counter(name)), moves, False)
    for x, d in zip(pair.inputs[PASSES:], pair.directions):
        pair.step(x, d)
    pair.evaluate(pair.inputs[1][:4], "evaluation after %d steps" % STEPS)
    pair.state("after %d steps" % STEPS,
               lambda name: still(name) or not (is_statistic(name) or is_counter(name) or trained(name)),
               lambda name: moves(name) or (trained(name) and not (still(name) or is_statistic(name) or is_counter(name))), True)
    pair.run()


def plain(tool):
    """Nothing is done about it: every training-mode forward pass moves mean, variance and counter, optimizer or not."""
    pair = Pair("none", tool, network(), "train", lambda m: m.train())
    protocol(pair, moves=lambda name: is_statistic(name) or is_counter(name))


def frozen_parameters(tool):
    """requires_grad=False: statistics move all the same, here under trine's policy of that meaning (torch)."""
    model = network()
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith("linear"))
    pair = Pair("requires_grad=False", tool, model, "torch", lambda m: m.train(), "*,!fc.*")
    protocol(pair, moves=lambda name: is_statistic(name) or is_counter(name), trained=lambda name: name.startswith("linear"))


def momentum_zero(tool):
    """momentum=0: statistics stay, the counter counts."""
    model = network()
    each(model, momentum=0.0)
    pair = Pair("momentum=0", tool, model, "train:momentum=0", lambda m: m.train())
    protocol(pair, still=is_statistic, moves=is_counter)


def untracked_later(tool):
    """track_running_stats=False on a built module: batch statistics in training, the old ones in evaluation; no counting."""
    model = network()
    each(model, track_running_stats=False)
    pair = Pair("track_running_stats=False set later", tool, model, "no-update", lambda m: m.train())
    protocol(pair, still=lambda name: is_statistic(name) or is_counter(name))


def untracked(tool):
    """track_running_stats=False at construction: batch statistics in evaluation as well, whatever the policy; no buffers in
    files. An image alone and in a batch give different results."""
    for policy in ("train", "eval", "cumulative", "auto"):
        model = network(lambda c: nn.BatchNorm2d(c, track_running_stats=False))
        pair = Pair("track_running_stats=False, bn %s" % policy, tool, model, policy,
                    (lambda m: m.eval()) if policy == "eval" else (lambda m: m.train()))
        pair.evaluate(pair.inputs[0][:4], "evaluation of 4")
        pair.evaluate(pair.inputs[0][:1], "evaluation of the first alone")
        protocol(pair)
        with torch.no_grad():
            apart = (pair.model(pair.inputs[0][:1].double()) - pair.model(pair.inputs[0][:4].double())[:1]).norm().item()
        holds("track_running_stats=False: an image's output depends on its mates", apart > 1e-2)


def untracked_commands(tool):
    """The same network through the program: embed gives PyTorch's evaluation output and warns, finetune writes what loads, and
    recalibrate makes it a network with statistics, without a warning."""
    model = network(lambda c: nn.BatchNorm2d(c, track_running_stats=False))
    x = smooth_input(BATCH, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        weights, images, labels, out = (os.path.join(folder, name) for name in ("w.pth", "x.npy", "y.npy", "out"))
        torch.save(model.state_dict(), weights)
        np.save(images, x.numpy())
        np.save(labels, (np.arange(BATCH) // 2).astype(np.int32))
        common = ["--weights", weights, "--input", images, "--out"]
        done = command("embed", *common, out + ".npy", "--layer", "logits")
        check("embed", error(torch.from_numpy(np.load(out + ".npy")), evaluated(model, x)), OUTPUT)
        holds("embed warns in one sentence", done.stderr.count("depends on its batch mates") == 1 and
                    "trine recalibrate" in done.stderr)
        done = command("finetune", *common, out + ".pth", "--labels", labels, "--steps", "2")
        holds("finetune names the layers (%d)" % done.returncode, "19 untracked" in done.stderr)
        model.load_state_dict(torch.load(out + ".pth"), strict=True)
        command("recalibrate", *common, weights)
        tracked = network()
        tracked.load_state_dict(torch.load(weights), strict=True)
        done = command("embed", *common, out + ".npy", "--layer", "logits")
        check("recalibrated", error(torch.from_numpy(np.load(out + ".npy")), evaluated(tracked, x)), OUTPUT)
        holds("recalibrated: no warning", done.returncode == 0 and "batch mates" not in done.stderr)


def evaluation(tool):
    """bn.eval(): outputs of evaluation, nothing moves, parameters train. model.train() undoes it, nothing undoes trine's."""
    def training(model):
        model.train()
        for _, m in batchnorms(model):
            m.eval()
    pair = Pair("bn.eval()", tool, network(), "eval", training)
    protocol(pair, still=lambda name: is_statistic(name) or is_counter(name))
    undone = network()
    training(undone)
    before = undone.bn1.running_mean.clone()
    undone.eval()
    undone.train()  # somebody evaluates between two epochs
    with torch.no_grad():
        undone(pair.inputs[0])
    holds("bn.eval(): model.train() has undone it in PyTorch", not torch.equal(before, undone.bn1.running_mean))


def frozen_module(tool):
    """FrozenBatchNorm2d: no counters in the file, outputs of evaluation, nothing of the layer moves or trains."""
    pair = Pair("FrozenBatchNorm2d", tool, network(FrozenBatchNorm2d), "auto", lambda m: m.train(), BN_PARAMETERS)
    protocol(pair, still=is_bn, trained=lambda name: not is_bn(name))


def cumulative(tool):
    """momentum=None: 1/k by the counter: from 0 the first pass replaces everything, from a large one next to nothing happens."""
    for count in (0, 5, 10000, 2 ** 24 + 1, 2 ** 40 + 3, 2 ** 53 + 1):
        model = network()
        each(model, momentum=None)
        for _, m in batchnorms(model):
            m.num_batches_tracked.fill_(count)
        pair = Pair("momentum=None, counter %d" % count, tool, model, "cumulative", lambda m: m.train())
        protocol(pair, moves=lambda name: is_counter(name) or (count < 2 ** 20 and is_statistic(name)))


def old_file(tool):
    """A state dict of before the counters: they begin at 0."""
    model = network()
    state = {k: v for k, v in model.state_dict().items() if not is_counter(k)}
    fresh = network()
    fresh.load_state_dict(state, strict=True)  # no version: PyTorch fills 0
    pair = Pair("no counters in the file", tool, fresh, "train", lambda m: m.train(), state=state)
    protocol(pair, moves=is_statistic)


def unbiased(tool):
    """The output is normalised with the biased variance, the running variance is the unbiased one: n is 8 in the last stage."""
    model = network()
    each(model, momentum=1.0)
    pair = Pair("unbiased running variance", tool, model, "train:momentum=1", lambda m: m.train())
    x = pair.inputs[0][:2, :, :8, :8].contiguous()
    pair.train(x)
    z = pair.model.conv1(x.double())
    want, biased = z.var((0, 2, 3), unbiased=True), z.var((0, 2, 3), unbiased=False)
    pair.state("one pass", lambda name: not is_statistic(name) and not is_counter(name), is_statistic, False)
    check("unbiased: PyTorch's is the unbiased one", (pair.model.bn1.running_var - want).abs().max().item(), 1e-12)
    holds("unbiased: the two differ", ((want - biased) / want).abs().min().item() > 1e-3)
    pair.run()


def eps(tool):
    """Another eps; Keras's layers (eps 1e-3, its momentum 0.99 is 0.01 here), training and with trainable=False; one for some."""
    for title, bn, settings in (("eps 1e-2", "train:eps=1e-2", {"eps": 1e-2}),
                                ("Keras", "train:momentum=0.01:eps=1e-3", {"eps": 1e-3, "momentum": 0.01}),
                                ("Keras, trainable=False", "eval:eps=1e-3", {"eps": 1e-3}),
                                ("eps 0.5 under eval", "eval:eps=0.5", {"eps": 0.5})):
        model = network()
        each(model, **settings)

        def training(m, frozen=bn.startswith("eval")):
            m.eval() if frozen else m.train()
        protocol(Pair(title, tool, model, bn, training))
    model = network()
    for name, m in batchnorms(model):
        if name.startswith("layer2."):
            m.eps = 0.1
    protocol(Pair("eps of layer2", tool, model, "train,layer2.*=train:eps=0.1", lambda m: m.train()))
    model, x = network(), smooth_input(BATCH, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder:  # a checkpoint of PyTorch's has no place for it: embed takes it as an option
        weights, images, out = (os.path.join(folder, name) for name in ("w.pth", "x.npy", "out.npy"))
        torch.save(model.state_dict(), weights)
        np.save(images, x.numpy())
        command("embed", "--weights", weights, "--input", images, "--layer", "logits", "--bn", "eval:eps=1e-1", "--out", out)
        each(model, eps=1e-1)
        check("embed --bn eval:eps=1e-1", error(torch.from_numpy(np.load(out)), evaluated(model, x)), OUTPUT)


def no_affine(tool):
    """affine=False: no such tensors, the rest trains; with and without statistics, under train and under eval."""
    for title, settings, bn in (("affine=False", {}, "train"), ("affine=False, bn eval", {}, "eval"),
                                ("affine=False, track_running_stats=False", {"track_running_stats": False}, "train")):
        model = network(lambda c: nn.BatchNorm2d(c, affine=False, **settings))
        protocol(Pair(title, tool, model, bn, lambda m: m.eval() if bn == "eval" else m.train()))


def mixture(tool):
    """Some layers in evaluation, some without update, the rest as usual."""
    def training(model):
        model.train()
        for name, m in batchnorms(model):
            if name.startswith("layer1."):
                m.eval()
            if name.startswith("layer2."):
                m.track_running_stats = False
    pair = Pair("mixture", tool, network(), "train,layer1.*=eval,layer2.*=no-update", training)

    def stays(name):
        return name.startswith(("layer1.", "layer2.")) and (is_statistic(name) or is_counter(name))
    protocol(pair, still=stays, moves=lambda name: (is_statistic(name) or is_counter(name)) and not stays(name))


def construction(tool):
    """Networks that trine builds without the parts are what PyTorch's of the same construction load."""
    for what, settings in (("plain", {}), ("no-affine", {"affine": False}), ("no-statistics", {"track_running_stats": False}),
                           ("neither", {"affine": False, "track_running_stats": False})):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "w.pth")
            done = subprocess.run([tool], input="create resnet20_cifar %s\nsave %s\n" % (what, path), text=True,
                                  capture_output=True)
            if done.returncode != 0:
                sys.exit("bn_tool: %s" % done.stderr)
            state = {k.replace("fc.", "linear."): v for k, v in torch.load(path).items()}
            model = network(lambda c: nn.BatchNorm2d(c, **settings))
            model.load_state_dict(state, strict=True)
            holds("built by trine, %s: as many tensors" % what, len(state) == len(model.state_dict()))


STATEMENTS = {f.__name__: f for f in (plain, frozen_parameters, momentum_zero, untracked_later, untracked, untracked_commands,
                                      evaluation, frozen_module, cumulative, old_file, unbiased, eps, no_affine, mixture,
                                      construction)}


def main():
    torch.set_num_threads(1)  # threads that wait for each other are slow beside other tests
    for name in sys.argv[3:] or STATEMENTS:
        STATEMENTS[name](sys.argv[2])
    if failures:
        sys.exit("%d comparisons failed" % len(failures))


main()
