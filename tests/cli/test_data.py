#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Data of one's own: lists and arrays instead of folders, limits on classes, and what is said before the first step."""
import os
import shutil
import struct
import sys

from cli_support import Run, main, make_base, make_folder, write_npy, write_ppm


def finetune(base, *more, quiet=True):
    return Run("finetune", "--weights", base, "--steps", 1, "--images-per-class", 2, "--json", "-", *more, quiet=quiet)


def test_sources(folder):
    """A folder, a list of its files and an array of its pixels give the same vectors."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    pixels, labels = b"", b""
    with open(os.path.join(folder, "list.csv"), "w", encoding="utf-8") as rows:
        rows.write("label,path\n")
        for k in range(3):
            for i in range(4):
                rows.write(f'class{k},"data/class{k}/{i}.ppm"\r\n')
                with open(os.path.join(data, f"class{k}", f"{i}.ppm"), "rb") as file:
                    pixels += file.read()[-32 * 32 * 3:]
                labels += struct.pack("<i", k)
    write_npy(os.path.join(folder, "x.npy"), "|u1", (12, 32, 32, 3), pixels)
    write_npy(os.path.join(folder, "y.npy"), "<i4", (12,), labels)
    vectors = []
    arrays = f"npy:{folder}/x.npy,{folder}/y.npy"
    for source in (data, os.path.join(folder, "list.csv"), arrays):
        out = os.path.join(folder, "e.npy")
        Run("embed", "--weights", base, "--data", source, "--out", out).ok()
        with open(out, "rb") as file:
            vectors.append(file.read())
    assert vectors[0] == vectors[1] == vectors[2]
    got = Run("eval", "--weights", base, "--data", os.path.join(folder, "list.csv"), "--classes", "class[12]", "--json",
              "-").json()
    assert got["count"] == 8, got
    finetune(base, "--data", os.path.join(folder, "list.csv"), "--val", arrays).ok()
    Run("embed", "--weights", base, "--data", f"npy:{folder}/x.npy", "--out", out).fails(2, "npy:IMAGES,LABELS")
    with open(os.path.join(folder, "list.csv"), "a", encoding="utf-8") as rows:
        rows.write("class0\n")
    Run("embed", "--weights", base, "--data", os.path.join(folder, "list.csv"), "--out", out).fails(4, "list.csv:14")


def test_report(folder):
    """Single images, uneven classes, broken files and copies are told of; a sound set is not."""
    data, val = make_folder(os.path.join(folder, "data"), images=5), os.path.join(folder, "val")
    base = make_base(folder, data)
    sound = finetune(base, "--data", data, quiet=False).ok()
    assert "15 images of 3 classes in" in sound.err and "5 images a class, all 32x32" in sound.err, sound
    assert "warning" not in sound.err, sound
    shutil.copytree(data, val)
    os.makedirs(os.path.join(data, "lone"))
    write_ppm(os.path.join(data, "lone", "x.ppm"), 77)
    with open(os.path.join(data, "class1", "broken.ppm"), "wb") as file:
        file.write(b"P6\n32 32\n255\nshort")
    got = finetune(base, "--data", data, "--val", val, quiet=False).ok()
    for words in ("1 image cannot be read", "broken.ppm", "1 of 4 classes have one image only", "--min-per-class 2",
                  "validation images look like one of --data"):
        assert words in got.err, (words, str(got))
    report = got.json()["data_report"]
    assert report["training"]["unreadable"] == 1 and report["training"]["single_image_classes"] == 1, report
    assert report["likely_duplicates_of_training"] == 15 and len(report["duplicates_of_training"]) == 3, report
    assert "data_report" not in finetune(base, "--data", data, "--no-data-report").json()
    limited = finetune(base, "--data", data, "--min-per-class", 2, "--max-per-class", 3).json()["data_report"]["training"]
    assert limited["images"] == 9 and limited["classes"] == 3, limited
    finetune(base, "--data", data, "--min-per-class", 100).fails(4, "no class has 100 images")


def test_odd_sizes(folder):
    """Images of other sizes than a small network's are brought to it where nothing says how they were meant."""
    data = make_folder(os.path.join(folder, "data"))
    base = os.path.join(folder, "base.pth")  # which says nothing of preprocessing
    Run("convert", make_base(folder, data), base).ok()
    for k, side in enumerate((20, 45, 70)):
        write_ppm(os.path.join(data, f"class{k}", "odd.ppm"), 50 + k, side)
    got = finetune(base, "--data", data, "--val", data, quiet=False).ok()
    assert "resize 32, crop 32" in got.err and "20 to 70 wide" in got.err, got
    assert Run("eval", "--weights", base, "--data", data, "--json", "-").json()["count"] == 15
    Run("eval", "--weights", base, "--data", data, "--preprocess", "cifar").fails(4)
    Run("eval", "--weights", base, "--data", data, "--crop", 16).ok()


def test_hostile(folder):
    """What no image file is gets left out and named, nothing waits for a pipe, and names are any bytes."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    bad = os.path.join(data, "class1")
    os.mkfifo(os.path.join(bad, "pipe.jpg"))
    os.symlink("/dev/zero", os.path.join(bad, "device.png"))
    os.symlink("loop.png", os.path.join(bad, "loop.png"))
    os.symlink("missing", os.path.join(bad, "dangling.png"))
    os.mkdir(os.path.join(bad, "folder.png"))
    for name, content in (("empty.jpg", b""), ("text.jpg", b"hello\n"), ("huge.pgm", b"P5\n60000 60000\n255\n")):
        with open(os.path.join(bad, name), "wb") as file:
            file.write(content)
    for name in ("\u65e5" * 60, "-x", "a\nb'\"", os.fsdecode(b"latin\xe9")):
        os.makedirs(os.path.join(data, name))
        for i in range(2):
            write_ppm(os.path.join(data, name, "\u00e9" * 100 + f"{i}.ppm"), 90 + i)
    out, index = os.path.join(folder, "e.npy"), os.path.join(folder, "i.index")
    got = Run("embed", "--weights", base, "--data", data, "--out", out, "--json", "-", quiet=False)
    assert got.json()["count"] == 20 and got.json()["bad_images"] == 7, got
    for words in ("pipe.jpg: skipped: is not a regular file", "device.png: skipped: is not a regular file", "empty.jpg: skipped: is empty",
                  "text.jpg: skipped: is not a JPEG, PNG or PNM image", "60000x60000 pixels exceeds"):
        assert words in got.err, (words, str(got))
    Run("index", "build", "--weights", base, "--data", data, "--out", index).ok()
    assert len(Run("index", "search", "--weights", base, "--data", data, "--index", index, "--json", "-").json()["queries"]) == 20
    finetune(base, "--data", data, "--val", data).ok()
    Run("inspect", os.path.join(bad, "pipe.jpg")).fails(4, "pipe.jpg: is not a regular file")


def test_nothing_to_measure(folder):
    """One image of each class cannot be measured, which is said before a step; nor are there images a folder deeper."""
    data, lone = make_folder(os.path.join(folder, "data")), make_folder(os.path.join(folder, "lone"), images=1)
    base = make_base(folder, data)
    out = os.path.join(folder, "out.safetensors")
    finetune(base, "--data", lone).ok()
    finetune(base, "--data", data, "--val", lone, "--out", out).fails(4, f"--val {lone}: 3 images of 3 classes, one of each")
    Run("eval", "--weights", base, "--data", lone).fails(4, "3 vectors, each the only one of its class")
    deeper = os.path.join(folder, "deeper")
    os.makedirs(deeper)
    os.rename(data, os.path.join(deeper, "all"))
    finetune(base, "--data", deeper, "--out", out).fails(4, deeper, "class0 in all")
    assert not os.path.exists(out)


if __name__ == "__main__":
    sys.exit(main([test_sources, test_report, test_odd_sizes, test_hostile, test_nothing_to_measure]))
