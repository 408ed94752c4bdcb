# SPDX-License-Identifier: MIT
"""What a user gets wrong ends in one clear sentence, the right exit code, and no half-written file."""
import os
import resource
import struct
import sys

from cli_support import (Run, main, make_base, make_folder, read_safetensors, write_npy, write_ppm,
                         write_safetensors)

# A 32x32 grey JPEG, and nothing else in the file.
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb0043000d090a0b0a080d0b0a0b0e0e0d0f13201513121213271c1e17"
    "202e2931302e292d2c333a4a3e333646372c2d405741464c4e525352323e5a615a50604a51524fffc0000b08002000200101"
    "1100ffc400190001010003010000000000000000000000060700010305ffc400231000010304020203010000000000000000"
    "01020305000406411121132212313251ffda0008010100003f00131f1eb2e52d8c8e5faf54a6d986ecad94fbee04140e403b"
    "a9f65338ac92e7c69410193c03fdaf723a37dff34a6dad98b2b653efa820a07201dd4ff25c81fc82e7c16fcb4968f1d6eb23"
    "633d3929ef66a88c5b3164cadfb8504140e403ba9f64b903f905cf82dfe4d25a3c75badc5c67e494f7b34be363094749a213"
    "d92bb929425925909fb0375d22e393d13f7b34ba2e3924a4574c927d38aa5b01b0bf98afffd9")


def usage(folder):
    """Exit 2: commands, options, values."""
    Run("frobnicate", quiet=False).fails(2, "'frobnicate' (see")
    Run("finetun", quiet=False).fails(2, "'finetun': is finetune meant?")
    Run(quiet=False).fails(2)
    Run("train", "--arhc", "resnet18").fails(2, "'--arhc': is --arch meant?")
    Run("train", "--frobnicate=3").fails(2, "'--frobnicate=3' (see")
    Run("train", "--arch", quiet=False).fails(2, "--arch")
    Run("bench", "--batch", 0).fails(2, "--batch", "'0'")
    Run("bench", "--batch", "many").fails(2, "many")
    Run("bench", "--mode", "guess").fails(2, "infer|train")
    Run("bench", "--arch", "resnet19").fails(2, "resnet19")
    Run("inspect").fails(2, "FILE")
    Run("inspect", "a", "b", "c").fails(2, "'c'")
    Run("train", "--layers").fails(2, "--layers")
    Run("bench", "--layers=yes").fails(2, "--layers")
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    Run("eval", "--weights", base).fails(2)
    Run("eval", "--weights", base, "--data", data, "--classes", "0-x").fails(2)
    Run("finetune", "--weights", base, "--data", data, "--freeze", "nothing.like.this").fails(2, "nothing.like.this")
    Run("finetune", "--weights", base, "--data", data, "--bn", "sometimes").fails(2, "sometimes")
    Run("embed", "--weights", base, "--data", data, "--out", os.path.join(folder, "e.npy"), "--bn", "eval:eps=0").fails(2, "eps=0")
    Run("finetune", "--weights", base, "--data", data, "--freeze", "*").fails(2)
    Run("finetune", "--weights", base, "--data", data, "--margin", "-1").fails(2, "--margin")
    for options, said in ((("--loss", "angular", "--margin", 1), "--margin goes with --loss triplet"),
                          (("--loss", "angular", "--distance", "squared"), "--distance squared"),
                          (("--angle", 30), "--angle goes with --loss angular"), (("--temperature", 2), "--temperature goes with"),
                          (("--fraction", 0.5), "hardest-fraction"), (("--mining", "semi-hard", "--window", "1,0"), "--window"),
                          (("--mining", "semi-hard", "--window", "x"), "--window"), (("--negative", "easiest"), "easy-positive"),
                          (("--mining", "distance-weighted", "--draw-range", "1,3"), "--draw-range"),
                          (("--memory-start", 9), "--memory-size"), (("--beta", 3), "multi-similarity"),
                          (("--augment", "flip,blur"), "--augment: 'blur', expected none, or a list of flip, crop,"),
                          (("--augment", "crop,rrc"), "--augment: crop and rrc exclude each other"), (("--ema", 1), "--ema"),
                          (("--accumulate", 0), "--accumulate"),
                          (("--accumulate", 2, "--loss", "nt-xent", "--temperature", "learn"), "one step for each batch")):
        Run("finetune", "--weights", base, "--data", data, *options).fails(2, said)
    Run("finetune", "--weights", base, "--data", data, "--out", os.path.join(folder, "x.zip")).fails(2, "x.zip")
    for option in ("--out", "--json"):
        Run("finetune", "--weights", base, "--data", data, option, "").fails(2, option)
    picture = os.path.join(folder, "d.pdf")
    Run("drift", "--weights", base, "--data", data, "--plot", picture).fails(2, "--plot", picture, ".svg or .png")
    assert not os.path.exists(picture)
    same = os.path.join(folder, "e.npy")
    Run("embed", "--weights", base, "--data", data, "--out", same, "--list", same).fails(2, "--list")


def paths(folder):
    """Exit 4: what is missing or empty."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    missing, empty = os.path.join(folder, "missing"), os.path.join(folder, "empty")
    os.mkdir(empty)
    Run("eval", "--weights", missing, "--data", data).fails(4, missing)
    Run("eval", "--weights", base, "--data", missing).fails(4, missing)
    Run("eval", "--weights", base, "--data", empty).fails(4, empty)
    Run("train", "--arch", "resnet20_cifar", "--data", empty, "--out", os.path.join(folder, "o.pth")).fails(4, empty)
    Run("eval", "--weights", base, "--image", missing).fails(4, missing)
    Run("eval", "--weights", base, "--data", data, "--classes", "7").fails(4)
    Run("inspect", missing).fails(4, missing)
    Run("drift", "--weights", base, "--data", data, "--plot", os.path.join(missing, "d.svg")).fails(1, "--plot", missing)
    assert not os.path.exists(os.path.join(folder, "o.pth"))


def bad_images(folder):
    """A truncated JPEG fails the run or is counted and left out."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    bad = os.path.join(data, "class1", "9.jpg")
    with open(bad, "wb") as file:
        file.write(JPEG[:len(JPEG) // 2])
    out = os.path.join(folder, "e.npy")
    arguments = ["embed", "--weights", base, "--data", data, "--out", out, "--json", "-"]
    Run(*arguments, "--on-bad-image", "fail").fails(4, bad)
    assert not os.path.exists(out)
    result = Run(*arguments, "--on-bad-image", "skip").json()
    assert result["bad_images"] == 1 and result["count"] == 12, result
    talk = Run(*arguments[:-2], quiet=False).ok().err
    assert bad in talk, talk
    only = os.path.join(folder, "only", "class0")
    os.makedirs(only)
    os.rename(bad, os.path.join(only, "0.jpg"))
    for command in (["embed", "--out", out], ["eval"], ["drift"]):
        Run(*command, "--weights", base, "--data", os.path.dirname(only)).fails(4)
    Run("drift", "--weights", base, "--image", os.path.join(only, "0.jpg"), "--on-bad-image", "fail").fails(4, "0.jpg")
    os.remove(os.path.join(only, "0.jpg"))
    with open(os.path.join(only, "0.jpg"), "wb") as file:
        file.write(JPEG)
    Run("embed", "--weights", base, "--data", os.path.dirname(only), "--out", out).ok()


def weights(folder):
    """Exit 4: weights that are truncated, of another network, no weights, or not numbers."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    torch = os.path.join(folder, "base.pth")
    Run("convert", base, torch).ok()
    for name in (base, torch):
        cut = os.path.join(folder, "cut" + os.path.splitext(name)[1])
        with open(name, "rb") as file:
            content = file.read()
        for part in (3, len(content) // 2, len(content) - 1):
            with open(cut, "wb") as file:
                file.write(content[:part])
            Run("eval", "--weights", cut, "--data", data).fails(4, cut)
            Run("convert", cut, os.path.join(folder, "never.pth")).fails(4, cut)
            assert not os.path.exists(os.path.join(folder, "never.pth"))
    Run("eval", "--weights", base, "--data", data, "--arch", "resnet18").fails(4)
    Run("eval", "--weights", base, "--data", data, "--arch", "resnet32_cifar").fails(4)
    Run("eval", "--weights", base, "--data", data, "--arch", "resnet19").fails(2, "resnet19")
    text = os.path.join(folder, "notes.safetensors")
    with open(text, "w", encoding="utf-8") as file:
        file.write("These are notes, not weights.\n" * 20)
    Run("eval", "--weights", text, "--data", data).fails(4, text)
    header, tensors = read_safetensors(base)
    at = header["layer1.0.conv1.weight"]["data_offsets"][0]
    tensors[at:at + 4] = struct.pack("<f", float("nan"))
    broken = os.path.join(folder, "nan.safetensors")
    write_safetensors(broken, header, tensors)
    Run("eval", "--weights", broken, "--data", data).fails(4, "layer1.0.conv1.weight")
    header, tensors = read_safetensors(base)
    for key, value in (("bn", '{"bn9":{"policy":"eval","momentum":0.1}}'), ("freeze", "nothing.*"), ("preprocess", "{"),
                       ("embedding", "head"), ("normalize", "maybe")):
        wrong = {**header, "__metadata__": {**header["__metadata__"], key: value}}
        write_safetensors(broken, wrong, tensors)
        Run("eval", "--weights", broken, "--data", data).fails(4, broken, key)
    header["fc.bogus"] = header.pop("fc.bias")
    write_safetensors(broken, header, tensors)
    Run("eval", "--weights", broken, "--data", data, "--arch", "resnet20_cifar").fails(4, broken, "fc.bias", "fc.bogus")


def labels(folder):
    """Exit 4: labels of another length, of another type, beyond the network's outputs."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    x, y, images, numbers = (os.path.join(folder, name) for name in ("x.npy", "y.npy", "images", "labels"))
    write_npy(x, "<f4", (4, 3, 32, 32), struct.pack("<f", 0.5) * (4 * 3 * 32 * 32))
    for dtype, values in (("<i8", struct.pack("<3q", 0, 0, 1)), ("<i4", struct.pack("<5i", 0, 0, 1, 1, 1))):
        count = len(values) // int(dtype[2])
        write_npy(y, dtype, (count,), values)
        Run("eval", "--weights", base, "--input", x, "--labels", y).fails(4, y, str(count))
        Run("finetune", "--weights", base, "--input", x, "--labels", y).fails(4, y, str(count))
    write_npy(y, "<f4", (4,), bytes(16))
    Run("eval", "--weights", base, "--input", x, "--labels", y).fails(4, y)
    write_npy(y, "<i4", (4,), struct.pack("<4i", 0, 1, 2, 99))
    Run("eval", "--weights", base, "--input", x, "--labels", y, "--task", "classify").fails(4, "99")
    Run("eval", "--weights", base, "--input", x).fails(2, "--labels")
    Run("embed", "--weights", base, "--input", x, "--crop", 8, "--out", y).fails(2, "--crop")
    Run("finetune", "--weights", base, "--input", x, "--labels", y, "--images-per-class", 2).fails(2, "--images-per-class")
    for option in (("--augment", "jitter"), ("--accumulate", 2)):
        Run("finetune", "--weights", base, "--input", x, "--labels", y, *option).fails(2, option[0])
    write_npy(x, "<f4", (4, 3, 32, 32), struct.pack("<f", float("nan")) * (4 * 3 * 32 * 32))
    Run("embed", "--weights", base, "--input", x, "--out", os.path.join(folder, "e.npy")).fails(4, x, "NaN")
    with open(images, "wb") as file:
        file.write(struct.pack(">4i", 0x803, 5, 28, 28) + bytes(5 * 28 * 28))
    with open(numbers, "wb") as file:
        file.write(struct.pack(">2i", 0x801, 4) + bytes(4))
    Run("eval", "--weights", base, "--data", f"idx:{images},{numbers}").fails(4)
    with open(numbers, "wb") as file:
        file.write(struct.pack(">2i", 0x801, 5) + bytes([0, 0, 1, 1, 9]))
    few = os.path.join(folder, "few")
    with open(few, "wb") as file:
        file.write(struct.pack(">2i", 0x801, 5) + bytes([0, 0, 1, 1, 2]))
    out = os.path.join(folder, "never.pth")
    Run("train", "--arch", "resnet20_cifar", "--data", f"idx:{images},{few}", "--val", f"idx:{images},{numbers}", "--out",
        out).fails(4, "class number 9")
    assert not os.path.exists(out)


def no_platform(folder):
    """Exit 3 where no OpenCL platform is installed."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    empty = os.path.join(folder, "vendors")
    os.mkdir(empty)
    env = {"OCL_ICD_VENDORS": empty}
    out = os.path.join(folder, "out.safetensors")
    Run("devices", env=env).fails(3)
    Run("probe", env=env).fails(3)
    Run("bench", env=env).fails(3)
    Run("eval", "--weights", base, "--data", data, env=env).fails(3)
    Run("train", "--arch", "resnet20_cifar", "--data", data, "--out", out, env=env).fails(3)
    Run("eval", "--weights", base, "--data", data, "--device", "no such device").fails(3, "no such device")
    assert not os.path.exists(out)
    assert Run("inspect", base, "--json", "-", env=env).json()["arch"] == "resnet20_cifar"


def unwritable(folder):
    """Exit 1, and nothing new in the folder, where a result cannot be written."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    place = os.path.join(folder, "place")
    os.mkdir(place)
    nowhere = os.path.join(folder, "nowhere", "o.safetensors")
    Run("convert", base, nowhere).fails(1, nowhere)
    Run("finetune", "--weights", base, "--data", data, "--steps", 1, "--out", nowhere).fails(1, nowhere)
    Run("eval", "--weights", base, "--data", data, "--json", os.path.join(folder, "nowhere", "j")).fails(1, "nowhere")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    for name in ("o.safetensors", "o.pth"):
        Run("convert", base, os.path.join(place, name), preexec_fn=limit, restore_signals=False).fails(1, name)
        assert os.listdir(place) == [], os.listdir(place)
    Run("embed", "--weights", base, "--data", data, "--out", os.path.join(place, "e.npy"),
        env={"TRINE_CACHE_DIR": os.path.join(folder, "cache")}, preexec_fn=limit,
        restore_signals=False)  # the cache may fail to be written too: only what is left behind counts here
    assert all(os.path.getsize(os.path.join(place, name)) > 12 * 64 * 4 for name in os.listdir(place))


def mixed_sizes(folder):
    """Exit 4 where images of several sizes make one batch."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    write_ppm(os.path.join(data, "class0", "9.ppm"), 5, side=40)
    for command in ("eval", "drift"):
        Run(command, "--weights", base, "--data", data).fails(4, "9.ppm")
    Run("eval", "--weights", base, "--data", data, "--crop", 32).ok()
    good, out = make_folder(os.path.join(folder, "good")), os.path.join(folder, "kept.safetensors")
    Run("train", "--arch", "resnet20_cifar", "--data", good, "--val", data, "--epochs", 1, "--batch", 6, "--lr", 0.01,
        "--out", out).fails(4, "9.ppm")
    Run("eval", "--weights", out, "--data", good).ok()  # what was trained is not lost


def recalibrate(folder):
    """Options, globs, data and images that do not do; the file of --out stays as it was."""
    data = make_folder(os.path.join(folder, "data"))
    base, kept = make_base(folder, data), os.path.join(folder, "kept.safetensors")
    with open(kept, "wb") as file:
        file.write(b"mine")
    start, out = ["recalibrate", "--weights", base], ["--out", kept]
    Run(*start, "--data", data).fails(2, "--out")
    Run(*start, *out).fails(2, "images")
    Run(*start, "--data", data, "--out", os.path.join(folder, "o.zip")).fails(2, "o.zip")
    Run("recalibrate", "--data", data, *out).fails(2, "--weights")
    Run(*start, "--data", data, *out, "--method", "exact").fails(2, "batch|sequential")
    Run(*start, "--data", data, *out, "--layers", "layer9.*").fails(2, "layer9.*", "BatchNorm")
    Run(*start, "--data", data, *out, "--layers", "bn1,!bn1").fails(2, "bn1,!bn1")
    Run(*start, "--data", data, *out, "--normalize").fails(2, "--normalize")
    bare = os.path.join(folder, "bare.safetensors")
    header, tensors = read_safetensors(base)
    parts, used = {"__metadata__": header["__metadata__"]}, bytearray()
    for name, entry in header.items():
        if name != "__metadata__" and "running_" not in name and "num_batches" not in name:
            first, last = entry["data_offsets"]
            parts[name] = {**entry, "data_offsets": [len(used), len(used) + last - first]}
            used += tensors[first:last]
    write_safetensors(bare, parts, used)
    Run("recalibrate", "--weights", bare, "--data", data, *out, "--layers", "bn1").fails(2, bare, "--layers")
    missing = os.path.join(folder, "missing")
    Run(*start, "--data", missing, *out).fails(4, missing)
    Run(*start, "--image", missing, *out).fails(4, missing)
    Run(*start, "--data", data, "--out", os.path.join(missing, "o.pth")).fails(1, missing)
    x = os.path.join(folder, "x.npy")
    write_npy(x, "<f4", (1, 3, 4, 4), bytes(4 * 48))
    for method in ("batch", "sequential"):
        Run(*start, "--input", x, *out, "--method", method).fails(4, "layer3.0.bn1", "one value per channel")
    write_npy(x, "<f4", (2, 3, 8, 8), struct.pack("<f", 3e38) * (2 * 3 * 64))
    Run(*start, "--input", x, *out).fails(4, "bn1")
    with open(os.path.join(data, "class0", "5.ppm"), "wb") as file:
        file.write(b"P6 no image")
    Run(*start, "--data", data, *out, "--on-bad-image", "fail").fails(4, "5.ppm")
    with open(kept, "rb") as file:
        assert file.read() == b"mine"
    result = Run(*start, "--data", data, *out, "--json", "-").json()
    assert result["bad_images"] == 1 and result["count"] == 12, result


if __name__ == "__main__":
    sys.exit(main([usage, paths, bad_images, weights, labels, no_platform, unwritable, mixed_sizes, recalibrate]))
