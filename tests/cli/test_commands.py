# SPDX-License-Identifier: MIT
"""Every command does its work on a small data set, prints the promised JSON keys, and keeps what it must keep."""
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from xml.etree import ElementTree

from cli_support import TRINE, Run, main, make_base, make_folder, read_safetensors, write_npy, write_safetensors


def digest(path):
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def keys(value, *names):
    """All names are keys of the object."""
    missing = [name for name in names if name not in value]
    assert not missing, f"missing {missing} in {list(value)}"


def help_texts(_folder):
    """--help everywhere, at most 80 columns, on stdout."""
    top = subprocess.run([TRINE, "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  ([a-z]+) ", top, re.M)
    assert len(commands) == 15, commands
    for command in commands:
        done = subprocess.run([TRINE, command, "--help"], capture_output=True, text=True, check=True)
        assert done.stderr == "" and done.stdout.startswith(f"Usage: trine {command}"), done
        assert max(map(len, done.stdout.split("\n"))) <= 80, done.stdout
        assert "--device" in done.stdout and "--json" in done.stdout, done.stdout
    assert max(map(len, top.split("\n"))) <= 80, top
    version = subprocess.run([TRINE, "--version"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"trine \d+\.\d+\.\d+\n", version), version


def devices(_folder):
    """The list names one default and can be chosen from."""
    found = Run("devices", "--json", "-").json()["devices"]
    for device in found:
        keys(device, "index", "platform", "name", "vendor", "type", "driver", "usable", "reason", "default")
    assert sum(device["default"] for device in found) == 1, found
    chosen = [device for device in found if device["default"]][0]
    Run("probe", "--device", chosen["index"]).ok()


def probe(folder):
    """Known answers hold; the JSON file is complete."""
    path = os.path.join(folder, "probe.json")
    Run("probe", "--json", path).ok()
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    keys(result, "ok", "tests", "gflops", "gbps", "launch_us")
    assert result["ok"] is True and len(result["tests"]) > 20, result
    for test in result["tests"]:
        keys(test, "name", "ok", "detail")
        assert test["ok"] is True, test
    assert min(result["gflops"], result["gbps"], result["launch_us"]) > 0, result


def train(folder):
    """A base with its metadata."""
    data = make_folder(os.path.join(folder, "data"))
    out = os.path.join(folder, "o.safetensors")
    result = Run("train", "--arch", "resnet20_cifar", "--data", data, "--val", data, "--epochs", 2, "--batch", 6, "--lr",
                 0.01, "--out", out, "--json", "-").json()
    assert len(result["epochs"]) == 2, result
    for epoch in result["epochs"]:
        keys(epoch, "loss", "accuracy")
    assert 0 <= result["accuracy"] <= 1 and result["count"] == 12, result
    metadata = read_safetensors(out)[0]["__metadata__"]
    keys(metadata, "trine.format", "arch", "preprocess", "embedding", "normalize", "names", "bn", "freeze", "classes",
         "step")
    assert metadata["arch"] == "resnet20_cifar" and metadata["step"] == "4", metadata
    assert json.loads(metadata["classes"]) == {"0": "class0", "1": "class1", "2": "class2"}, metadata
    assert json.loads(metadata["preprocess"])["crop"] == 0, metadata


def finetune(folder):
    """Figures per step, before and after; equal runs give equal bytes; the metadata is used again."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    outs = [os.path.join(folder, name) for name in ("1.safetensors", "2.safetensors")]
    arguments = ["finetune", "--weights", base, "--data", data, "--val", data, "--steps", 5, "--images-per-class", 2,
                 "--seed", 7]
    for out, threads in zip(outs, (1, 8)):
        done = Run(*arguments, "--threads", threads, "--out", out, "--json", "-").ok()
        assert done.err == "", done.err  # --quiet
        result = done.json()
    assert digest(outs[0]) == digest(outs[1])
    assert [step["step"] for step in result["steps"]] == [1, 2, 3, 4, 5], result["steps"]
    for step in result["steps"]:
        keys(step, "step", "loss", "active_fraction", "d_ap", "d_an", "embedding_norm")
    for when in ("before", "after"):
        figures = result[when]
        keys(figures, "count", "queries", "recall_at_1", "recall_at_5", "r_precision", "map_at_r", "cosine", "euclidean")
        assert figures["distance"] == "cosine" and figures["map_at_r"] == figures["cosine"]["map_at_r"], figures
    evaluated = Run("eval", "--weights", outs[0], "--data", data, "--distance", "cosine", "--json", "-").json()
    for name, value in evaluated.items():
        if name not in ("bad_images", "precision"):
            assert abs(value - result["after"]["cosine"][name]) < 1e-9, (name, evaluated, result["after"])
    metadata = read_safetensors(outs[0])[0]["__metadata__"]
    assert metadata["normalize"] == "true" and metadata["embedding"] == "pool", metadata
    assert metadata["preprocess"] == read_safetensors(base)[0]["__metadata__"]["preprocess"], metadata


def losses(folder):
    """Every loss and miner trains, says what it is, and gives the same bytes again."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    for number, (options, said) in enumerate([
            (("--mining", "batch-all", "--margin", "soft", "--temperature", 0.5), "batch-all, euclidean distance, soft margin of temperature 0.5"),
            (("--mining", "semi-hard", "--window", "-0.1,0.3", "--swap"), "semi-hard from -0.1 to 0.3, euclidean distance, margin 0.2, swap"),
            (("--mining", "easy-positive", "--negative", "semi-hard"), "easy-positive with the semi-hard negative"),
            (("--mining", "distance-weighted", "--memory-size", 10), "distance-weighted from 0.5 to 1.4"),
            (("--mining", "hardest-fraction", "--fraction", 0.25), "hardest-fraction of 0.25"),
            (("--loss", "angular", "--angle", 40), "angular, angle 40, cosine distance"),
            (("--loss", "multi-similarity", "--beta", 40), "multi-similarity, alpha 2, beta 40, base 0.5, epsilon 0.1"),
            (("--loss", "nt-xent", "--memory-size", 7, "--memory-start", 2), "nt-xent, temperature 0.1, cosine distance")]):
        out = os.path.join(folder, "loss%d.safetensors" % number)
        done = Run("finetune", "--weights", base, "--data", data, "--steps", 3, "--images-per-class", 2, "--out", out, "--json", "-",
                   *options, quiet=False).ok()
        assert said in done.err, (said, done.err)
        assert ("remembered" in done.err) == ("--memory-size" in options), done.err
        steps = done.json()["steps"]
        assert len(steps) == 3 and all(0 <= s["active_fraction"] <= 1 and s["d_an"] > 0 for s in steps), steps
        first = digest(out)
        Run("finetune", "--weights", base, "--data", data, "--steps", 3, "--images-per-class", 2, "--out", out, *options).ok()
        assert digest(out) == first, options


def policies(folder):
    """The BatchNorm summary and the sentence on frozen layers that move; what is frozen does not change."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    out = os.path.join(folder, "o.safetensors")
    arguments = ["finetune", "--weights", base, "--data", data, "--steps", 2, "--images-per-class", 2, "--out", out,
                 "--freeze", "*,!layer3.2.*"]
    talk = Run(*arguments, quiet=False).ok().err
    assert "19 BatchNorm layers: 17 eval, 2 train" in talk, talk
    assert "parameters   73984 of 269267 train; the loss does not reach fc" in talk, talk
    for word in ("recipe       the default where", "adamw, lr 0.001, weight decay 0.01, schedule cosine", "augmentation none", "batch-hard", "margin 0.2", "seed 0",
                 "freeze       *,!layer3.2.*", out):
        assert word in talk, (word, talk)
    assert "will still move" not in talk, talk
    before, after = read_safetensors(base), read_safetensors(out)
    changed = []
    for name, entry in before[0].items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        start, stop = after[0][name]["data_offsets"]
        if before[1][first:last] != after[1][start:stop]:
            changed.append(name)
    assert changed and all(name.startswith("layer3.2.") for name in changed), changed
    talk = Run(*arguments, "--bn", "torch", quiet=False).ok().err
    assert talk.count("will still move") == 1 and "17 frozen BatchNorm layers (bn1 first) will still move" in talk, talk
    Run(*arguments, "--bn", "auto:eps=1e-3:momentum=0.05").ok()  # kept with the weights
    for row in Run("inspect", out, "--json", "-").json()["batchnorm"]:
        assert abs(row["eps"] - 1e-3) < 1e-9 and abs(row["momentum"] - 0.05) < 1e-8, row
    report = Run("inspect", base, out, "--json", "-").json()
    assert any("running_mean" in row["name"] for row in report["differences"]), report["differences"][:3]


def strange_names(folder):
    """Folders whose names are not UTF-8, or need escapes: the run ends with a file that others can read."""
    data = os.fsencode(os.path.join(folder, "data"))
    make_folder(os.fsdecode(data))
    for old, new in ((b"class0", b"caf\xe9"), (b"class1", b'a "quoted" \\ name'), (b"class2", "h\u00e9".encode())):
        os.rename(os.path.join(data, old), os.path.join(data, new))
    out = os.path.join(folder, "o.safetensors")
    arguments = ["--data", os.fsdecode(data), "--out", out, "--json", "-"]
    Run("train", "--arch", "resnet20_cifar", "--epochs", 1, "--batch", 6, *arguments).json()
    classes = json.loads(read_safetensors(out)[0]["__metadata__"]["classes"])
    assert classes == {"0": 'a "quoted" \\ name', "1": "caf\ufffd", "2": "h\u00e9"}, classes
    Run("finetune", "--weights", out, "--steps", 1, *arguments).json()


def no_triplets(folder):
    """Images of one class make no triplets: the loss is 0, and that is said."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    done = Run("finetune", "--weights", base, "--data", data, "--classes", "1", "--steps", 2, "--images-per-class", 2,
               quiet=False).ok()
    assert done.err.count("the loss is 0") == 1 and "there are no negatives" in done.err, done


def embed(folder):
    """Vectors and their paths; logits have the width of fc."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    out, names = os.path.join(folder, "e.npy"), os.path.join(folder, "e.txt")
    result = Run("embed", "--weights", base, "--data", data, "--out", out, "--list", names, "--json", "-").json()
    assert (result["count"], result["dim"]) == (12, 64), result
    with open(names, encoding="utf-8") as file:
        paths = file.read().split("\n")[:-1]
    assert len(paths) == 12 and paths == sorted(paths) and all(map(os.path.exists, paths)), paths
    assert os.path.getsize(out) == 128 + 12 * 64 * 4, os.path.getsize(out)
    assert Run("embed", "--weights", base, "--data", data, "--layer", "logits", "--out", out, "--json",
               "-").json()["dim"] == 3
    kept = digest(base)
    assert Run("eval", "--weights", base, "--data", data, "--task", "classify", "--json", "-").json()["count"] == 12
    assert digest(base) == kept


def drift(folder):
    """Rows and layers; --max-drift; policies under which nothing moves."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    arguments = ["drift", "--weights", base, "--data", data, "--passes", 3]
    result = Run(*arguments, "--json", "-").json()
    assert [row["step"] for row in result["rows"]] == [0, 1, 2, 3], result
    for row in result["rows"]:
        keys(row, "step", "embedding_norm", "logit_norm", "cosine")
    assert len(result["layers"]) == 19, result
    for layer in result["layers"]:
        keys(layer, "name", "policy", "mean_moved", "var_moved", "mean_distance", "share", "var_distance",
             "mean_distance_before", "var_distance_before", "mean_remaining", "passes_to_1_percent")
        assert layer["policy"] == "train" and layer["mean_moved"] > 0, layer
        assert abs(layer["mean_remaining"] - 0.9**3) < 1e-3 and layer["passes_to_1_percent"] == 41, layer
    for policy in ("eval", "no-update"):
        still = Run(*arguments, "--bn", policy, "--max-drift", 0, "--json", "-").json()
        assert all(row["embedding_norm"] == still["rows"][0]["embedding_norm"] for row in still["rows"]), still
        assert all(layer["mean_moved"] == 0 and layer["var_moved"] == 0 for layer in still["layers"]), still
        assert all(layer["passes_to_1_percent"] is None for layer in still["layers"]), still
        assert {layer["mean_remaining"] for layer in still["layers"]} == {None if policy == "eval" else 1}, still
    path = os.path.join(folder, "d.json")
    Run(*arguments, "--max-drift", 1e-9, "--json", path).fails(5, "--max-drift")
    with open(path, encoding="utf-8") as file:
        assert len(json.load(file)["rows"]) == 4


def drift_text(folder):
    """80 columns; where the statistics head for; what to type; frozen layers that move, in one sentence."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    arguments = ["drift", "--weights", base, "--data", data, "--passes"]
    frozen = "frozen, and moved"
    for more, heads, wanted, unwanted in (
            ([3], "72.9 % of the way left,\n41 more passes to 1 %.", ["--bn eval\n", 'trine_resnet_set_bn(net, "eval")'], frozen),
            ([3, "--freeze", "*,!layer3.*"], "72.9 %", ["\n13 of them are " + frozen, "--bn auto\n"], "remedy "),
            ([3, "--freeze", "*,!layer3.*", "--bn", "auto"], "72.9 %", ["6 of 19 Batch", "--bn eval\n"], frozen),
            ([3, "--remedies"], "72.9 %", ['--bn "train,', "\nWhat to do\n  eval all"], "tried on these images"),
            ([0], "100 % of the way left,\n44 more", ["0 of 19 Batch"], "What to do"),
            ([50], "Each has come to the statistics of this batch: 0.515 %", ["What to do"], "more pass"),
            ([2, "--bn", "train,bn1=train:momentum=0.5"], "25 to 81 % of the way left,\nat most 42 more passes", [], frozen),
            ([2, "--bn", "no-update"], "0 of 19 Batch", [], "of the way left")):
        text = Run(*arguments, *more).ok().out
        assert max(map(len, text.split("\n"))) <= 80, text
        assert all(words in text for words in [heads, *wanted]), (more, text)
        assert unwanted not in text and text.count(frozen) <= 1, (more, text)
    spec = re.search(r'^--bn "((?:[^"]|\n)*)"$', Run(*arguments, 3, "--remedies").ok().out, re.M).group(1)
    Run(*arguments, 1, "--bn", spec.replace("\\\n", "")).ok()


def remedies(folder):
    """Every remedy with its figures; a picture; the network that the rest of the report sees is as it was."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    picture = os.path.join(folder, "d.svg")
    arguments = ["drift", "--weights", base, "--data", data, "--passes", 3]
    result = Run(*arguments, "--remedies", "--plot", picture, "--json", "-").json()
    rows = {row["name"]: row for row in result["remedies"]}
    assert list(rows) == ["nothing", "freeze parameters", "momentum 0", "eval all", "eval chosen layers", "cumulative",
                          "batch of one", "batch of many", "re-estimate", "snapshot and restore"], rows
    for row in rows.values():
        assert sorted(row) == ["depends_on_batch", "drift", "gradient_matches_eval", "name", "statistics_move",
                               "train_equals_eval"], row
    norms = [row["embedding_norm"] for row in result["rows"]]
    assert abs(rows["nothing"]["drift"] - abs(norms[-1] / norms[0] - 1)) < 1e-9 and norms[-1] != norms[0], (rows, norms)
    for name in ("momentum 0", "eval all", "snapshot and restore"):
        assert rows[name]["drift"] == 0 and rows[name]["statistics_move"] is False, rows[name]
    assert rows["eval all"]["train_equals_eval"] is True and rows["eval all"]["gradient_matches_eval"] is True, rows
    plain = Run(*arguments, "--json", "-").json()
    assert "remedies" not in plain and plain["rows"] == result["rows"] and plain["layers"] == result["layers"]
    root = ElementTree.parse(picture).getroot()
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(name in texts for name in rows), texts
    talk = Run(*arguments, "--remedies").ok().out
    table = talk[talk.index("\nremedy"):talk.index("\nWhat to do")].split("\n")
    assert max(map(len, table)) <= 80, table
    assert "--bn eval\n" in talk and 'trine_resnet_set_bn(net, "eval")' in talk, talk
    tiny = os.path.join(folder, "x.npy")
    write_npy(tiny, "<f4", (2, 3, 4, 4), bytes(range(96)) * 4)
    rows = Run("drift", "--weights", base, "--input", tiny, "--passes", 1, "--remedies", "--json", "-").json()["remedies"]
    assert rows[6]["name"] == "batch of one" and rows[6]["drift"] is None, rows
    assert rows[6]["statistics_move"] is None and rows[0]["statistics_move"] is True, rows


def recalibrate(folder):
    """Both methods; what is not chosen stays; parameters and metadata stay; the input file may be the output."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    header, content = read_safetensors(base)
    header["__metadata__"]["note"] = "kept"
    write_safetensors(base, header, content)
    outs = [os.path.join(folder, name) for name in ("1.safetensors", "2.safetensors")]
    arguments = ["recalibrate", "--weights", base, "--data", data, "--batch", 8, "--json", "-"]
    for out in outs:
        result = Run(*arguments, "--out", out).json()
    assert digest(outs[0]) == digest(outs[1])
    keys(result, "count", "bad_images", "batches", "method", "layers", "checkpoint", "embedding_norm_before",
         "embedding_norm_after")
    assert (result["count"], result["bad_images"], result["batches"], result["method"]) == (12, 0, 2, "batch"), result
    assert len(result["layers"]) == 19 and result["checkpoint"] == outs[1], result
    assert all(layer["mean_moved"] > 0 and layer["var_moved"] > 0 for layer in result["layers"]), result
    assert result["embedding_norm_before"] != result["embedding_norm_after"], result
    after = read_safetensors(out)[0]
    assert after["__metadata__"] == header["__metadata__"], (after["__metadata__"], header["__metadata__"])
    moved = [row["name"] for row in Run("inspect", base, out, "--json", "-").json()["differences"]]
    assert len(moved) == 2 * 19 and all("running_" in name for name in moved), moved  # base has seen two batches too
    Run(*arguments, "--out", out, "--layers", "*,!layer3.*", "--method", "sequential").ok()
    moved = [row["name"] for row in Run("inspect", base, out, "--json", "-").json()["differences"]]
    assert len(moved) == 2 * 13 and not any(name.startswith("layer3") for name in moved), moved
    same = [os.path.join(folder, name) for name in ("a.safetensors", "b.safetensors")]
    for batch, out in zip((12, 5), same):
        Run(*arguments[:5], "--batch", batch, "--method", "sequential", "--out", out).ok()
    rows = Run("inspect", *same, "--json", "-").json()["differences"]
    assert all(row["max_abs"] <= 1e-4 for row in rows if "running_" in row["name"]), rows
    x = os.path.join(folder, "x.npy")
    write_npy(x, "<f4", (3, 3, 32, 32), struct.pack("<9216f", *(i % 11 / 4 for i in range(9216))))
    result = Run("recalibrate", "--weights", base, "--input", x, "--out", base, "--layers", "bn1", "--json", "-").json()
    assert [layer["name"] for layer in result["layers"]] == ["bn1"] and result["count"] == 3, result
    assert read_safetensors(base)[0]["__metadata__"] == header["__metadata__"]
    talk = Run(*arguments[:5], "--out", outs[0]).ok().out
    assert "mean moved" in talk and "embedding norm" in talk and f"checkpoint {outs[0]}" in talk, talk


def convert(folder):
    """To PyTorch's format and back: the same tensors."""
    base = make_base(folder, make_folder(os.path.join(folder, "data")))
    there, back = os.path.join(folder, "t.pth"), os.path.join(folder, "b.safetensors")
    Run("convert", base, there).ok()
    Run("convert", there, back).ok()
    assert Run("inspect", base, back, "--json", "-").json()["differences"] == []
    report = Run("inspect", base, "--json", "-").json()
    keys(report, "arch", "tensors", "batchnorm", "metadata")
    assert report["arch"] == "resnet20_cifar" and len(report["batchnorm"]) == 19, report["arch"]
    for row in report["batchnorm"]:
        keys(row, "name", "channels", "mean_min", "var_max", "num_batches_tracked", "policy")
        assert row["tracked"] is True and row["affine"] is True, row
        assert abs(row["eps"] - 1e-5) < 1e-10 and abs(row["momentum"] - 0.1) < 1e-7, row


def cache(folder):
    env = {"TRINE_CACHE_DIR": os.path.join(folder, "cache")}
    empty = Run("cache", "--json", "-", env=env).json()
    keys(empty, "path", "damaged", "programs", "bytes", "limit_bytes")
    assert empty["programs"] == 0 and not os.path.exists(empty["path"]), empty
    Run("bench", "--arch", "resnet20_cifar", "--batch", 1, "--runs", 7, env=env).ok()
    full = Run("cache", "--json", "-", env=env).json()
    assert full["programs"] > 3 and 0 < full["bytes"] < full["limit_bytes"] and not full["damaged"], full
    assert Run("cache", "--clear", "--json", "-", env=env).json()["programs"] == 0
    with open(full["path"], "r+b") as file:
        file.truncate(30)
    assert Run("cache", "--json", "-", env=env).json()["damaged"]
    Run("cache", env={"TRINE_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": ""}).fails(4, "cache")


def bench(_folder):
    """Both modes, and the table of launches; a batch whose activations outweigh the weights that inference keeps prepared."""
    batch, peaks = 8, []
    for mode in (["infer"], ["train"], ["train", "--checkpoint-activations"]):
        result = Run("bench", "--arch", "resnet20_cifar", "--batch", batch, "--runs", 7, "--layers", "--json", "-", "--mode",
                     *mode).json()
        keys(result, "ms_median", "ms_min", "images_per_s", "gflops", "first_run_s", "peak_bytes", "layers")
        assert 0 < result["ms_min"] <= result["ms_median"] and result["peak_bytes"] > 0 and result["layers"], result
        # cross-entropy makes two floats an image at its first use
        assert 0 <= result["peak_bytes"] - result["planned_bytes"] <= 8 * batch, result
        peaks.append(result["peak_bytes"])
    assert peaks[0] < peaks[2] < peaks[1], peaks


if __name__ == "__main__":
    sys.exit(main([help_texts, devices, probe, train, finetune, losses, policies, strange_names, no_triplets, embed, drift, drift_text,
               remedies, recalibrate, convert, cache, bench]))
