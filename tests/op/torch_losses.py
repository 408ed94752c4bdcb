#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Losses, their gradients and optimizers against PyTorch: torch_losses.py LOSS_TOOL

Every case is a line for loss_tool (tests/op/loss_tool.c) and what PyTorch says in float64 on the same float32 numbers; bounds are
relative to the largest value of the compared array. Mined losses are written out here over autograd. Exit 77: no torch, no device.
"""
import math
import os
import subprocess
import sys
import tempfile

SKIP = 77
try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print("SKIP: PyTorch is missing (%s)" % error)
    sys.exit(SKIP)

torch.set_num_threads(1)
torch.manual_seed(17)
SMALL = os.environ.get("TRINE_TEST_SMALL", "0") not in ("", "0")


class Cases:
    """Collects commands with their expected outputs, runs them in one process, compares."""

    def __init__(self, folder):
        self.folder, self.lines, self.wanted, self.batches, self.turns, self.files = folder, [], [], [], [], 0

    def path(self):
        self.files += 1
        return os.path.join(self.folder, "%d.raw" % self.files)

    def add(self, name, words, inputs, outputs):
        """inputs: tensors (float32 or int32); outputs: [(what, expected tensor, relative bound)] with a
        fourth element where only so many leading values are compared"""
        paths = []
        for tensor in inputs:
            paths.append(self.path())
            kind = np.int32 if not tensor.is_floating_point() else np.float32
            tensor.detach().numpy().astype(kind).tofile(paths[-1])
        for what, expected, bound, *leading in outputs:
            paths.append(self.path())
            self.wanted.append((name, what, paths[-1], expected.detach().double().reshape(-1).numpy(), bound,
                                leading[0] if leading else None))
        self.lines.append(" ".join([str(w) for w in words] + paths))

    def add_batches(self, name, words, inputs, losses, gradients, reach, bound, turns=None):
        """A line of many batches: the first of the statistics of each, and its gradient, each to its own scale. A loss may also be off
        by float32's rounding of the numbers that it is a difference of: reach, their size. turns: gradients by log(temperature)."""
        paths = [self.path() for _ in range(4 if turns is None else 5)]
        for path, tensor in zip(paths, inputs):
            tensor.numpy().astype(np.float32 if tensor.is_floating_point() else np.int32).tofile(path)
        self.batches.append((name, paths[2], paths[3], losses.numpy(), gradients.numpy(), reach, bound))
        if turns is not None:
            self.turns.append((name, paths[4], turns.numpy(), bound))
        self.lines.append(" ".join([str(w) for w in words] + paths))

    def compare_batches(self, worst):
        """Failures among the batches; each is judged alone."""
        failed = 0
        for name, losses_path, gradients_path, losses, gradients, reach, bound in self.batches:
            got = np.fromfile(losses_path, np.float32).astype(np.float64).reshape(len(losses), -1)[:, 0]
            got_gradients = np.fromfile(gradients_path, np.float32).astype(np.float64).reshape(gradients.shape)
            for i in range(len(losses)):
                for what, a, b, rounding in (("loss", got[i], losses[i], reach[i] * 2.0**-21), ("de", got_gradients[i], gradients[i], 0)):
                    scale, error = np.abs(b).max(), np.maximum(np.abs(a - b) - rounding, 0).max()
                    error = error / scale if scale > 0 else error
                    family = "%s %s" % (name.split()[0], what)
                    worst[family] = max(worst.get(family, 0), error)
                    if not error <= bound:  # NaN fails
                        failed += 1
                        print("FAIL %s, batch %d: %s differs by %.3g of its largest value, allowed %.3g" % (name, i, what, error, bound))
        for name, path, want, bound in self.turns:
            got = np.fromfile(path, np.float32).astype(np.float64)
            for i, (a, b) in enumerate(zip(got, want)):
                error = abs(a - b) / abs(b) if b else abs(a)
                family = "%s d log(temperature)" % name.split()[0]
                worst[family] = max(worst.get(family, 0), error)
                if not error <= bound:
                    failed += 1
                    print("FAIL %s, batch %d: d log(temperature) %.9g, want %.9g" % (name, i, a, b))
        return failed

    def run(self, tool):
        done = subprocess.run([tool], input="\n".join(self.lines) + "\n", text=True, capture_output=True)
        print(done.stdout, end="")
        if done.returncode == SKIP:
            sys.exit(SKIP)
        if done.returncode != 0:
            sys.exit("loss_tool failed: %s" % done.stderr)
        failed, worst = 0, {}
        for name, what, path, expected, bound, leading in self.wanted:
            got = np.fromfile(path, np.float32).astype(np.float64)[:leading]
            if got.shape != expected.shape:
                sys.exit("%s: %s has %d values, want %d" % (name, what, got.size, expected.size))
            scale = np.abs(expected).max() if expected.size else 0
            error = np.abs(got - expected).max() / scale if scale > 0 else np.abs(got).max() if got.size else 0
            family = "%s %s" % (name.split()[0], what)
            worst[family] = max(worst.get(family, 0), error)
            if not error <= bound:  # NaN fails
                failed += 1
                print("FAIL %s: %s differs by %.3g of its largest value, allowed %.3g" % (name, what, error, bound))
        failed += self.compare_batches(worst)
        for family, error in sorted(worst.items()):
            print("%-40s worst %.2e" % (family, error))
        print("%d comparisons, %d failed" % (len(self.wanted) + 2 * sum(len(b[3]) for b in self.batches), failed))
        return failed


def leaf(tensor):
    """The same numbers in float64 with a gradient."""
    return tensor.double().requires_grad_()


def add_normalize(cases):
    for n, d, cb in [(1, 1, 1), (7, 33, 8), (64, 128, 16), (5, 2048, 1)]:
        x, dy = torch.randn(n, d), torch.randn(n, d)
        x[0] *= 1e-14  # clamped
        xd = leaf(x)
        y = F.normalize(xd)
        y.backward(dy.double())
        rest = slice(1, None) if n > 1 else slice(0, None)
        cases.add("normalize %d %d %d" % (n, d, cb), ["normalize", n, d, cb], [x, dy],
                  [("y", y, 1e-6), ("norms", xd.norm(dim=1), 1e-6), ("dx", xd.grad, 1e-6)])
        if n > 1:  # alone: the clamped row's 1e12 hides the others
            xd2 = leaf(x[rest])
            F.normalize(xd2).backward(dy[rest].double())
            cases.add("normalize rest %d %d %d" % (n, d, cb), ["normalize", n - 1, d, cb], [x[rest], dy[rest]],
                      [("y", F.normalize(xd2), 1e-6), ("norms", xd2.norm(dim=1), 1e-6), ("dx", xd2.grad, 1e-6)])


def add_cross_entropy(cases):
    for n, k, size in [(1, 2, 1), (32, 10, 5), (65, 1000, 3), (16, 77, 50)]:
        z, labels = torch.randn(n, k) * size, torch.randint(0, k, (n,))
        zd = leaf(z)
        loss = torch.nn.CrossEntropyLoss()(zd, labels)
        loss.backward()
        share = (zd.argmax(1) == labels).double().mean()
        cases.add("cross_entropy %d %d" % (n, k), ["cross_entropy", n, k], [z, labels],
                  [("stats", torch.stack([loss, share]), 2e-6), ("dz", zd.grad, 1e-5)])


def add_triplet_margin(cases):
    for n, d, cb in [(1, 5, 1), (16, 24, 8), (33, 130, 16)]:
        rows = [torch.randn(n, d) for _ in range(3)]
        rows[1] = rows[0] + 0.5 * rows[1]
        for p in [2.0, 1.0, 3.0, 1.5, math.inf]:
            for swap in [0, 1]:
                for number, reduction in enumerate(["none", "mean", "sum"]):
                    a, b, c = (leaf(r) for r in rows)
                    margin = 3.0 if p == 2.0 else 1.0
                    loss = F.triplet_margin_loss(a, b, c, margin=margin, p=p, eps=1e-6, swap=bool(swap), reduction="none")
                    total = {"none": loss.sum() * 0, "mean": loss.mean(), "sum": loss.sum()}[reduction]
                    module = torch.nn.TripletMarginLoss(margin=margin, p=p, swap=bool(swap), reduction=reduction)
                    module(a, b, c).sum().backward()
                    cases.add("triplet_margin n %d d %d cb %d p %g swap %d %s" % (n, d, cb, p, swap, reduction),
                              ["triplet_margin", n, d, cb, margin, p, 1e-6, swap, number], rows,
                              [("loss", loss, 1e-5), ("total", total, 1e-5), ("da", a.grad, 2e-5), ("dp", b.grad, 2e-5),
                               ("dn", c.grad, 2e-5)])


def distances(a, b, kind):
    if kind == 2:
        return 1 - F.cosine_similarity(a[:, None], b[None], dim=2)
    squared = ((a[:, None] - b[None]) ** 2).sum(2)
    return squared if kind == 1 else squared.clamp(min=1e-12).sqrt()


def stream(seed, purpose, index):
    """SplitMix64 (Steele, Lea, Flood 2014): the first number of a stream."""
    word, golden = (1 << 64) - 1, 0x9e3779b97f4a7c15

    def mix(z):
        z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & word
        z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & word
        return z ^ (z >> 31)

    state = mix((mix((mix((seed + golden) & word) + purpose) & word) + index) & word)
    return mix((state + golden) & word), mix, golden, word


class Batch:
    """One batch's distances and masks; candidates are the batch and what is remembered."""

    def __init__(self, o, e, labels, remembered, remembered_labels, step):
        self.log_temperature = torch.tensor(math.log(o.get("temperature", 0) or 1), dtype=torch.float64, requires_grad=True)
        self.o, self.n, self.d, self.step = o, len(e), e.shape[1], step
        candidates, self.labels = torch.cat([e, remembered]), torch.cat([labels, remembered_labels])
        self.dist = distances(e, candidates, o.get("distance", 0))
        self.all = distances(candidates, candidates, o.get("distance", 0)) if o.get("swap") or o.get("loss") == 1 else None
        same = labels[:, None] == self.labels[None]
        self.negative = ~same
        same[torch.arange(self.n), torch.arange(self.n)] = False
        self.positive = same
        self.zero = e.sum() * 0

    def far(self, a, p, n):
        """d_an as the loss takes it; torch.minimum shares the gradient where both are equal."""
        return torch.minimum(self.dist[a, n], self.all[p, n]) if self.o.get("swap") else self.dist[a, n]

    def term(self, x):
        t = self.log_temperature.exp()
        return t * F.softplus(x / t, threshold=100) if self.o.get("soft") else F.relu(x + self.o.get("margin", 0))

    def semi_hard(self, a, p):
        near = self.dist[a].detach()
        x = near - near[p]
        lower, upper = self.o.get("window_lower", 0), self.o.get("window_upper", 0)
        inside = self.negative[a] & (x > lower)
        if upper > lower:
            inside &= x < upper
        if inside.any():
            return int(torch.where(inside, near, math.inf).argmin())
        return None if upper > lower else int(torch.where(self.negative[a], near, -math.inf).argmax())

    def draw(self, a, p):
        """The negative, and how near the draw was to another one."""
        kind, d = self.o.get("distance", 0), self.dist[a].detach()
        d = d if kind == 0 else (2 * d if kind == 2 else d).clamp(min=0).sqrt()
        x = d.clamp(min=self.o["weight_lower"])
        logs = (2.0 - self.d) * x.log() - (self.d - 3) / 2 * (1 - x * x / 4).clamp(min=1e-8).log()
        allowed = self.negative[a] & (d < self.o["weight_upper"])
        weights = torch.where(allowed, (logs - logs[allowed].max()).exp(), 0.0) if allowed.any() else self.negative[a].double()
        key, mix, golden, word = stream(self.o.get("seed", 0), 0x64726177, self.step)
        u = (mix((key + golden * (((a << 32) | p) + 1)) & word) >> 40) * 2.0**-24
        sums = weights.cumsum(0)
        target = u * sums[-1]
        return int((sums > target).nonzero()[0]), float((sums - target).abs().min() / sums[-1])

    def triplets(self):
        """[(a, p, n)] and whether the mean counts the positive terms alone."""
        mining, o = self.o.get("mining", 0), self.o
        chosen = []
        for a in range(self.n):
            positives, negatives = self.positive[a].nonzero()[:, 0].tolist(), self.negative[a].nonzero()[:, 0].tolist()
            if not positives or not negatives:
                continue
            d = self.dist[a].detach()
            if mining in (0, 3):
                p = (max if mining == 0 else min)(positives, key=lambda j: d[j].item())
                n = {0: lambda: min(negatives, key=lambda j: d[j].item()), 1: lambda: self.semi_hard(a, p),
                     2: lambda: max(negatives, key=lambda j: d[j].item())}[o.get("negative", 0) if mining == 3 else 0]()
                chosen += [(a, p, n)] if n is not None else []
                continue
            if mining == 5:
                count = min(max(math.ceil(float(np.float32(o["fraction"]) * np.float32(len(negatives)))), 1), len(negatives))
                negatives = sorted(negatives, key=lambda j: (d[j].item(), j))[:count]
            for p in positives:
                if mining in (1, 5):
                    chosen += [(a, p, n) for n in negatives]
                    continue
                n = self.semi_hard(a, p) if mining == 2 else self.draw(a, p)[0]
                chosen += [(a, p, n)] if n is not None else []
        return chosen, mining in (1, 5)

    def loss(self):
        kind = self.o.get("loss", 0)
        if kind == 0:
            chosen, over_active = self.triplets()
            if not chosen:
                return self.zero
            a, p, n = torch.tensor(chosen).T
            terms = self.term(self.dist[a, p] - self.far(a, p, n))
            if over_active and not self.o.get("soft"):
                terms = terms[terms > 0]
            return terms.mean() if len(terms) else self.zero
        if kind == 2:
            return self.multi_similarity()
        pairs = [(a, p) for a, p in self.positive.nonzero().tolist() if self.negative[a].any()]
        terms = []
        for a, p in pairs:
            n = self.negative[a]
            if kind == 3:
                f = (self.dist[a, p] - self.dist[a][n]) / self.log_temperature.exp()
            else:
                t = math.tan(math.radians(self.o["angle"])) ** 2
                f = 4 * t * (2 - self.dist[a][n] - self.all[p][n]) - 2 * (1 + t) * (1 - self.dist[a, p])
            terms.append(torch.logsumexp(torch.cat([f, f.new_zeros(1)]), 0))
        return torch.stack(terms).mean() if terms else self.zero

    def multi_similarity(self):
        """As in the authors' loop over anchors."""
        o, total = self.o, self.zero
        for a in range(self.n):
            s = 1 - self.dist[a]
            positives, negatives = s[self.positive[a]], s[self.negative[a]]
            if not len(positives) or not len(negatives):
                continue
            left = negatives[negatives + o["epsilon"] > positives.min()]
            right = positives[positives - o["epsilon"] < negatives.max()]
            if not len(left) or not len(right):
                continue
            total = total + torch.log1p(torch.exp(-o["alpha"] * (right - o["base"])).sum()) / o["alpha"]
            total = total + torch.log1p(torch.exp(o["beta"] * (left - o["base"])).sum()) / o["beta"]
        return total / self.n


def triplet_options():
    """Every loss and miner, with what goes with it."""
    hinge = [dict(distance=k, margin=0.3) for k in range(3)]
    soft = [dict(distance=0, soft=1), dict(distance=2, soft=1, temperature=0.2)]
    swap = [dict(distance=0, margin=0.3, swap=1), dict(distance=2, soft=1, swap=1, temperature=0.5)]
    minings = [dict(mining=0), dict(mining=1), dict(mining=2), dict(mining=2, window_lower=-0.2, window_upper=0.15),
               dict(mining=3), dict(mining=3, negative=1), dict(mining=3, negative=2),
               dict(mining=4, weight_lower=0.5, weight_upper=1.4, seed=11), dict(mining=5, fraction=0.3)]
    for mining in minings:
        for loss in hinge + soft + swap:
            yield {**mining, **loss}
    yield dict(loss=1, distance=2, angle=45)
    yield dict(loss=1, distance=2, angle=36)
    yield dict(loss=2, distance=2, alpha=2, beta=50, base=0.5, epsilon=0.1)
    yield dict(loss=2, distance=2, alpha=2, beta=10, base=0.2, epsilon=math.inf)
    for kind in range(3):
        yield dict(loss=3, distance=kind, temperature=0.1 + 0.2 * kind)
        yield dict(loss=3, distance=kind, temperature=0.07 + 0.3 * kind, learn_temperature=1)
    for mining in minings:
        yield {**mining, **dict(distance=0, soft=1, temperature=0.4, learn_temperature=1)}
        yield {**mining, **dict(distance=2, soft=1, temperature=0.05, swap=1, learn_temperature=1)}


def triplet_batch(n, d, which, unit):
    """Random embeddings and classes: two images a class or more, classes of one, no positives at all, no negatives at all, copies."""
    e = torch.randn(n, d)
    if unit:
        e = F.normalize(e + 2 * torch.randn(1, d))
    labels = [torch.arange(n) % 4, torch.randint(0, 3, (n,)), torch.randint(0, n, (n,)), torch.arange(n), torch.zeros(n).long(),
              torch.arange(n) // 2][which % 6]
    if which % 3 == 1:
        e[n // 2:n // 2 + 3] = e[:3]
    return e, labels


def add_triplet(cases):
    """Per loss and miner 100 random batches, some of them with a memory of the batches before."""
    batches = 8 if SMALL else 100
    for number, o in enumerate(triplet_options()):
        n, d, cb = [(8, 16, 8), (9, 21, 1), (11, 5, 16)][number % 3]
        generator = torch.Generator().manual_seed(number)
        torch.manual_seed(generator.initial_seed())
        remembered = 0 if number % 2 else 13
        unit = o.get("mining") == 4 or o.get("loss", 0) > 0
        es, labels, losses, gradients, reach, turns = [], [], [], [], [], []
        keep, keep_labels = torch.empty(0, d), torch.empty(0).long()
        ring = 0
        while len(es) < batches:
            e, own = triplet_batch(n, d, len(es), unit)
            ed = leaf(e)
            batch = Batch(o, ed, own, keep.double(), keep_labels, len(es))
            if o.get("mining") == 4 and any(batch.draw(a, p)[1] < 1e-5 for a, p in batch.positive.nonzero().tolist()
                                            if batch.negative[a].any()):
                continue  # float32 may fall on the other side
            loss = batch.loss()
            loss.backward()
            es.append(e)
            labels.append(own)
            losses.append(loss.detach())
            gradients.append(ed.grad)
            reach.append(batch.dist.detach().max().item())
            turn = batch.log_temperature.grad
            turns.append(turn if turn is not None else torch.zeros((), dtype=torch.float64))
            for row in range(n if remembered else 0):  # the oldest is replaced
                if len(keep) < remembered:
                    keep, keep_labels = torch.cat([keep, e[row:row + 1]]), torch.cat([keep_labels, own[row:row + 1]])
                else:
                    keep[ring % remembered], keep_labels[ring % remembered] = e[row], own[row]
                ring += 1
        text = ",".join("%s=%.9g" % pair for pair in sorted(o.items()))
        kind = ["triplet", "angular", "multi_similarity", "nt_xent"][o.get("loss", 0)]
        cases.add_batches("%s/%d %s n %d d %d cb %d memory %d" % (kind, o.get("mining", 0), text, n, d, cb, remembered),
                          ["triplet", batches, n, d, cb, remembered, text], [torch.cat(es), torch.cat(labels)],
                          torch.stack(losses), torch.stack(gradients), reach, 1e-4, torch.stack(turns) if o.get("learn_temperature") else None)


def add_optimizers(cases):
    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    settings = [(0, sgd, dict()), (0, sgd, dict(weight_decay=0.01)), (0, sgd, dict(momentum=0.9)),
                (0, sgd, dict(momentum=0.9, weight_decay=5e-4)), (0, sgd, dict(momentum=0.8, nesterov=True, weight_decay=1e-3)),
                (1, adam, dict()), (1, adam, dict(weight_decay=0.01, betas=(0.8, 0.99), eps=1e-5)),
                (2, adamw, dict()), (2, adamw, dict(weight_decay=0.3, betas=(0.5, 0.95)))]
    count, steps = (500, 20) if SMALL else (5003, 50)
    for kind, make, options in settings:
        start, gradients = torch.randn(count), torch.randn(steps, count)
        rates = torch.tensor([1e-2 if i < steps // 2 else 1e-3 for i in range(steps)])
        p = leaf(start)
        optimizer = make([p], lr=0.1, **options)
        for i in range(steps):
            optimizer.param_groups[0]["lr"] = float("%g" % rates[i].item())
            p.grad = gradients[i].double()
            optimizer.step()
        beta1, beta2 = options.get("betas", (0.9, 0.999))
        decay = options.get("weight_decay", 0.01 if kind == 2 else 0)
        state = optimizer.state[p]
        kept = [state[k] for k in ("momentum_buffer", "exp_avg", "exp_avg_sq") if state.get(k) is not None]
        words = ["optimizer", kind, options.get("momentum", 0), int(options.get("nesterov", False)), decay, beta1, beta2,
                 options.get("eps", 1e-8), count, steps]
        cases.add("%s %s" % (make.__name__, options), words, [rates, start, gradients],
                  [("parameters", p, 1e-6), ("state", torch.cat(kept) if kept else torch.empty(0), 1e-6)])


def main():
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(folder)
        for add in [add_normalize, add_cross_entropy, add_triplet_margin, add_triplet, add_optimizers]:
            add(cases)
        failed = cases.run(sys.argv[1])
    sys.exit(1 if failed else 0)


main()
