#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""eval's figures against numpy's, written from the definitions, and clusters against scikit-learn's figures of the same clusters."""
import os
import sys

import cli_support as cli

try:
    import numpy as np
except ImportError:
    cli.skip("python3-numpy is not installed")

FIGURES = ("recall_at_1", "recall_at_2", "recall_at_5", "recall_at_10", "precision_at_1", "r_precision", "map_at_r", "map")


def distances(vectors, kind):
    x = vectors.astype(np.float64)
    if kind == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
        return 1 - x @ x.T
    if kind == "dot":
        return -x @ x.T
    return np.stack([((x - row) ** 2).sum(axis=1) for row in x])


def reference(vectors, labels, kind):
    """Every query's whole ranking, sorted."""
    rows, sums, queries, classes = distances(vectors, kind), dict.fromkeys(FIGURES, 0.0), 0, {}
    for i, row in enumerate(rows):
        order = np.argsort(row, kind="stable")
        right = labels[order[order != i]] == labels[i]
        positives = int(right.sum())
        if positives == 0:
            continue
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        one = {f"recall_at_{k}": float(right[:k].any()) for k in (1, 2, 5, 10)}
        one["precision_at_1"] = float(right[0])
        one["r_precision"] = right[:positives].mean()
        one["map_at_r"] = (precision * right)[:positives].sum() / positives
        one["map"] = (precision * right).sum() / positives
        queries += 1
        for key in FIGURES:
            sums[key] += one[key]
        classes.setdefault(int(labels[i]), []).append(one)
    means = {key: value / queries for key, value in sums.items()}
    return queries, means, {k: {key: sum(o[key] for o in each) / len(each) for key in FIGURES} for k, each in classes.items()}


def make(folder, count, dim, classes, spread, seed, grid=0.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    labels[3] = classes + 7  # a class of one
    centres = random.standard_normal((classes + 8, dim))
    vectors = centres[labels] + spread * random.standard_normal((count, dim)) + 3
    if grid:
        vectors = np.round(vectors * grid) / grid
    paths = os.path.join(folder, "e.npy"), os.path.join(folder, "y.npy")
    np.save(paths[0], vectors.astype(np.float32))
    np.save(paths[1], labels.astype(np.int64))
    return vectors.astype(np.float32), labels, *paths


def figures_agree(folder):
    for count, dim, classes, spread, grid in ((900, 24, 9, 1.5, 0), (500, 3, 40, 0.5, 0), (700, 2, 5, 1.0, 2), (300, 700, 2, 6.0, 0)):
        vectors, labels, e, y = make(folder, count, dim, classes, spread, dim, grid)
        for kind in ("euclidean", "squared", "cosine", "dot"):
            if grid and kind == "cosine":
                continue  # ties of different vectors, which rounding decides
            got = cli.Run("eval", "--vectors", e, "--labels", y, "--distance", kind, "--k", "1,2,10", "--per-class", "--json", "-").json()
            queries, means, classes_of = reference(vectors, labels, kind)
            assert got["queries"] == queries == count - 1 and got["count"] == count, got
            for key in FIGURES:
                assert abs(got[key] - means[key]) <= 1e-6, f"{kind} {count} x {dim}: {key} {got[key]}, numpy has {means[key]}"
            assert [c["label"] for c in got["classes"]] == sorted(set(map(int, labels)))
            for row in got["classes"]:
                want = classes_of.get(row["label"])
                assert row["queries"] == (0 if want is None else row["count"]), row
                for key in ("recall_at_1", "r_precision", "map_at_r", "map"):
                    assert want is None and key not in row or abs(row[key] - want[key]) <= 1e-6, (row, want)


def formats_agree(folder):
    """.fvecs and --normalize."""
    vectors, _, e, y = make(folder, 200, 12, 4, 1.0, 3)
    f = os.path.join(folder, "e.fvecs")
    rows = np.empty((200, 13), "<f4")
    rows[:, 0] = np.full(200, 12, "<i4").view("<f4")
    rows[:, 1:] = vectors
    rows.tofile(f)
    one = cli.Run("eval", "--vectors", e, "--labels", y, "--distance", "cosine", "--json", "-").json()
    assert one == cli.Run("eval", "--vectors", f, "--labels", y, "--distance", "cosine", "--json", "-").json()
    scaled = cli.Run("eval", "--vectors", f, "--labels", y, "--normalize", "--json", "-").json()
    assert abs(scaled["map"] - one["map"]) < 1e-5


def clusters_agree(folder):
    try:
        from sklearn.metrics import normalized_mutual_info_score
    except ImportError:
        cli.note("python3-sklearn is not installed: mutual information is compared with numpy alone")
        normalized_mutual_info_score = None
    vectors, labels, e, y = make(folder, 800, 10, 12, 0.7, 5)
    c = os.path.join(folder, "c.npy")
    runs = [cli.Run("eval", "--vectors", e, "--labels", y, "--nmi", "--clusters", c, "--seed", 4, "--json", "-").json() for _ in "12"]
    assert runs[0] == runs[1]
    found = np.load(c)
    assert found.dtype == np.int32 and found.shape == labels.shape and runs[0]["clusters"] == 13
    assert set(found) == set(range(13))
    a, b = np.unique(labels, return_inverse=True)[1], found
    joint = np.zeros((a.max() + 1, 13))
    np.add.at(joint, (a, b), 1 / len(a))
    pa, pb = joint.sum(1), joint.sum(0)
    there = joint > 0
    mutual = (joint[there] * np.log(joint[there] / np.outer(pa, pb)[there])).sum()
    want = mutual / ((-(pa * np.log(pa)).sum() - (pb * np.log(pb)).sum()) / 2)
    assert abs(runs[0]["nmi"] - want) <= 1e-6, (runs[0]["nmi"], want)
    if normalized_mutual_info_score:
        assert abs(runs[0]["nmi"] - normalized_mutual_info_score(labels, found)) <= 1e-6
    # Lloyd has ended: every vector is with the mean it is nearest to
    means = np.stack([vectors[found == k].astype(np.float64).mean(axis=0) for k in range(13)])
    squares = ((vectors[:, None].astype(np.float64) - means) ** 2).sum(axis=2)
    assert (squares[np.arange(len(found)), found] <= squares.min(axis=1) * (1 + 1e-5)).all()


def refusals(folder):
    _, _, e, y = make(folder, 20, 4, 2, 1.0, 1)
    short, bad, other = (os.path.join(folder, name) for name in ("short.npy", "bad.npy", "bad.fvecs"))
    np.save(short, np.zeros(19, np.int32))
    np.save(bad, np.full((20, 4), np.nan, np.float32))
    with open(other, "wb") as file:
        file.write(b"\4\0\0\0" + b"\0" * 15)
    cli.Run("eval", "--vectors", e).fails(2, "--vectors needs --labels")
    cli.Run("eval", "--vectors", e, "--labels", y, "--weights", "w.pth").fails(2, "--vectors")
    cli.Run("eval", "--vectors", e, "--labels", y, "--k", "1,0").fails(2, "--k 1,0")
    cli.Run("eval", "--vectors", e, "--labels", y, "--task", "classify").fails(2, "--vectors")
    cli.Run("eval", "--vectors", e, "--labels", short).fails(4, "19 labels for 20 vectors")
    cli.Run("eval", "--vectors", bad, "--labels", y).fails(4, "NaN")
    cli.Run("eval", "--vectors", other, "--labels", y).fails(4, "truncated")
    cli.Run("eval", "--vectors", y, "--labels", y).fails(4, "float32", "I64")


if __name__ == "__main__":
    sys.exit(cli.main([figures_agree, formats_agree, clusters_agree, refusals]))
