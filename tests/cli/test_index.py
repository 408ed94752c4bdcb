#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""index: build, add, search, duplicates, export; search against numpy and, where it is installed, FAISS."""
import os
import shutil
import sys

import cli_support as cli

try:
    import numpy as np
except ImportError:
    cli.skip("python3-numpy is not installed")


def vectors_file(folder, count, dim, seed):
    path = os.path.join(folder, f"{seed}.npy")
    random = np.random.default_rng(seed)
    vectors = (random.standard_normal((count, dim)) + 2).astype(np.float32)
    np.save(path, vectors)
    return vectors, path


def results(got):
    return (np.array([[r["index"] for r in q["results"]] for q in got["queries"]]),
            np.array([[r["distance"] for r in q["results"]] for q in got["queries"]]))


def search_agrees(folder):
    try:
        import faiss
    except ImportError:
        cli.note("python3-faiss is not installed: search is compared with numpy alone")
        faiss = None
    base, e = vectors_file(folder, 5000, 48, 1)
    queries, q = vectors_file(folder, 60, 48, 2)
    i, f = os.path.join(folder, "x.index"), os.path.join(folder, "x.fvecs")
    cli.Run("index", "build", "--vectors", e, "--out", i).ok()
    for kind in ("euclidean", "squared", "cosine", "dot"):
        at, distances = results(cli.Run("index", "search", "--index", i, "--vectors", q, "--k", 9, "--distance", kind, "--json", "-").json())
        a, b = queries.astype(np.float64), base.astype(np.float64)
        if kind == "cosine":
            a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        full = np.stack([((b - row) ** 2).sum(axis=1) for row in a]) if kind in ("euclidean", "squared") else -(a @ b.T)
        order = np.argsort(full, axis=1, kind="stable")[:, :9]
        want = np.take_along_axis(full, order, axis=1)
        want = np.sqrt(want) if kind == "euclidean" else want + 1 if kind == "cosine" else want
        assert (at == order).all() and np.abs(distances - want).max() <= 1e-9, kind
        if faiss is None or kind == "euclidean":
            continue
        # what FAISS reads is what trine wrote
        cli.Run("index", "export", "--index", i, "--out", f).ok()
        rows = np.fromfile(f, dtype="<i4").reshape(-1, 49)
        assert (rows[:, 0] == 48).all()
        exported = np.ascontiguousarray(rows[:, 1:]).view("<f4")
        assert (exported == base).all()
        theirs = faiss.IndexFlatL2(48) if kind == "squared" else faiss.IndexFlatIP(48)
        theirs.add(b.astype(np.float32) if kind == "cosine" else exported)
        near, indices = theirs.search(a.astype(np.float32) if kind == "cosine" else queries, 9)
        near = near if kind == "squared" else 1 - near if kind == "cosine" else -near
        assert (indices == at).mean() > 0.995, f"FAISS agrees in {(indices == at).mean():.4f} of the places ({kind})"
        # FAISS takes |a|^2 + |b|^2 - 2ab in single precision: where it differs, the distances are that near
        assert np.abs(near - distances).max() <= 2e-6 * np.abs(a).max() ** 2 * 48, kind


def images(folder):
    data = cli.make_folder(os.path.join(folder, "data"), classes=3, images=4)
    base = cli.make_base(folder, data)
    i = os.path.join(folder, "x.index")
    got = cli.Run("index", "build", "--weights", base, "--data", data, "--classes", "0-1", "--normalize", "--out", i, "--json", "-").json()
    assert (got["count"], got["dim"], got["bad_images"]) == (8, 64, 0), got
    with open(i, "rb") as file:
        first = file.read()
    cli.Run("index", "build", "--weights", base, "--data", data, "--classes", "0-1", "--normalize", "--out", i).ok()
    with open(i, "rb") as file:
        assert first == file.read()
    got = cli.Run("index", "add", "--index", i, "--weights", base, "--data", data, "--classes", "2", "--json", "-").json()
    assert (got["added"], got["count"]) == (4, 12), got
    image = os.path.join(data, "class1", "2.ppm")
    got = cli.Run("index", "search", "--index", i, "--weights", base, "--image", image, "--k", 3, "--json", "-").json()
    best = got["queries"][0]["results"][0]
    assert got["queries"][0]["query"] == image and len(got["queries"][0]["results"]) == 3
    assert best["path"] == image and best["class"] == "class1" and best["distance"] < 1e-6, best
    text = cli.Run("index", "search", "--index", i, "--weights", base, "--image", image, "--k", 3).ok().out
    assert text.startswith(image) and "(class1)" in text
    # the vectors are those of embed
    e, x, names = (os.path.join(folder, name) for name in ("e.npy", "x.npy", "names.txt"))
    cli.Run("embed", "--weights", base, "--data", data, "--normalize", "--out", e, "--list", names + "2").ok()
    cli.Run("index", "export", "--index", i, "--out", x, "--list", names).ok()
    assert np.abs(np.load(x) - np.load(e)).max() < 1e-6
    with open(names, encoding="utf-8") as one, open(names + "2", encoding="utf-8") as two:
        assert one.read() == two.read()
    # and back from the two files, with their names
    j = os.path.join(folder, "y.index")
    cli.Run("index", "build", "--vectors", x, "--list", names, "--out", j).ok()
    got = cli.Run("index", "search", "--index", j, "--vectors", x, "--k", 1, "--json", "-").json()
    assert [q["results"][0]["path"] for q in got["queries"]][6] == image


def duplicates(folder):
    random = np.random.default_rng(8)
    vectors = random.standard_normal((2500, 20)).astype(np.float32)
    vectors[1700] = vectors[3]
    vectors[2000] = vectors[3] + np.float32(1e-3)
    vectors[9] = vectors[8]
    e, i = os.path.join(folder, "e.npy"), os.path.join(folder, "x.index")
    np.save(e, vectors)
    cli.Run("index", "build", "--vectors", e, "--out", i).ok()
    got = cli.Run("index", "duplicates", "--index", i, "--threshold", 0.01, "--json", "-").json()
    assert [(p["first"], p["second"]) for p in got["pairs"]] == [(3, 1700), (3, 2000), (8, 9), (1700, 2000)], got["pairs"]
    assert got["pairs"][0]["distance"] == 0 and abs(got["pairs"][1]["distance"] - 1e-3 * 20 ** 0.5) < 1e-6
    assert [[r["index"] for r in g] for g in got["groups"]] == [[3, 1700, 2000], [8, 9]]
    assert cli.Run("index", "duplicates", "--index", i, "--threshold", 0, "--json", "-").json()["groups"][1][0]["index"] == 8


def refusals(folder):
    data = cli.make_folder(os.path.join(folder, "data"), classes=2, images=3)
    base = cli.make_base(folder, data)
    i, bad = os.path.join(folder, "x.index"), os.path.join(folder, "bad.index")
    image = os.path.join(data, "class0", "0.ppm")
    _, e = vectors_file(folder, 10, 5, 3)
    cli.Run("index", "build", "--weights", base, "--data", data, "--out", i).ok()
    other = os.path.join(folder, "other.safetensors")
    cli.Run("recalibrate", "--weights", base, "--data", data, "--out", other).ok()
    cli.Run("index", "search", "--index", i, "--weights", other, "--image", image).fails(4, "another network", "x.index")
    cli.Run("index", "add", "--index", i, "--weights", other, "--data", data).fails(4, "another network")
    cli.Run("index", "search", "--index", i, "--vectors", e).fails(4, "5 values", "64")
    cli.Run("index", "search", "--index", i, "--weights", base, "--image", image, "--normalize").fails(2, "the index says")
    cli.Run("index", "search", "--index", base, "--weights", base, "--image", image).fails(4, "not an index")
    cli.Run("index", "search", "--index", os.path.join(folder, "no.index"), "--vectors", e).fails(4, "no.index")
    with open(i, "rb") as file:
        content = bytearray(file.read())
    content[-40] ^= 8
    with open(bad, "wb") as file:
        file.write(content)
    cli.Run("index", "search", "--index", bad, "--weights", base, "--image", image).fails(4, "bad.index", "damaged")
    with open(bad, "wb") as file:
        file.write(content[:-7])
    cli.Run("index", "search", "--index", bad, "--weights", base, "--image", image).fails(4, "bad.index", "truncated")
    cli.Run("index", "fetch").fails(2, "unknown action 'fetch'")
    cli.Run("index", "search", "--vectors", e).fails(2, "--index")
    cli.Run("index", "duplicates", "--index", i).fails(2, "--threshold")
    cli.Run("index", "build", "--vectors", e, "--out", os.path.join(folder, "x.npy")).fails(2, ".index or .safetensors")
    names = os.path.join(folder, "names.txt")
    with open(names, "w", encoding="utf-8") as file:
        file.write("a\nb\n")
    cli.Run("index", "build", "--vectors", e, "--list", names, "--out", bad).fails(4, "2 lines for 10 vectors")
    # a full failure leaves the old index
    shutil.copy(i, bad)
    cli.Run("index", "add", "--index", bad, "--vectors", e).fails(4, "5 values")
    with open(i, "rb") as one, open(bad, "rb") as two:
        assert one.read() == two.read()


if __name__ == "__main__":
    sys.exit(cli.main([search_agrees, images, duplicates, refusals]))
