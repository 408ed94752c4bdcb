# SPDX-License-Identifier: MIT
"""drift --plot: the SVG's labels keep apart, the PNG is the same picture, and bad names leave no file."""
import os
import re
import sys
from xml.etree import ElementTree

from cli_support import Run, main, make_base, make_folder, skip, write_npy

try:
    from PIL import Image
except ImportError as missing:
    skip(f"pictures are read with Pillow: {missing}")

SVG = "{http://www.w3.org/2000/svg}"
LINE = 14  # least distance of two lines of text


def drift(folder, name, *more):
    """Run drift on the folder's network; the path of the picture."""
    base, data = os.path.join(folder, "base.safetensors"), os.path.join(folder, "data")
    if not os.path.exists(base):
        make_base(folder, make_folder(data))
    picture = os.path.join(folder, name)
    source = [] if "--input" in more else ["--data", data]
    return Run("drift", "--weights", base, *source, "--plot", picture, *more), picture


def labels_of(root):
    """(text, y) of the remedies' names, from top to bottom."""
    names = [text for text in root.iter(SVG + "text") if text.get("class") == "name"]
    return sorted(((text.text, float(text.get("y"))) for text in names), key=lambda label: label[1])


def labels(folder):
    """Every remedy is named once, whatever became of it, and no name lies on another or outside."""
    tiny, huge = os.path.join(folder, "tiny.npy"), os.path.join(folder, "huge.npy")
    write_npy(tiny, "<f4", (2, 3, 4, 4), bytes(range(96)) * 4)
    write_npy(huge, "<f4", (2, 3, 32, 32), bytes([1, 2, 3, 113]) * 1537 + bytes([9, 2, 3, 241]) * (3 * 2048 - 1537))
    for passes, more, ending in ((0, [], ""), (1, [], ""), (20, [], ""), (3, ["--input", tiny], "batch of one: not possible"),
                                 (3, ["--input", huge], "nothing: not a number")):
        run, picture = drift(folder, "d.svg", "--passes", passes, *more)
        run.ok()
        root = ElementTree.parse(picture).getroot()
        found = labels_of(root)
        assert len({text.split(":")[0] for text, _ in found}) == 10 == len(found), found
        assert not ending or ending in [text for text, _ in found], found
        assert all(b[1] - a[1] >= LINE for a, b in zip(found, found[1:])), found
        height = float(root.get("height"))
        assert all(LINE < y < height for _, y in found), found
        with open(picture, encoding="utf-8") as file:
            assert not re.search(r"\b(nan|inf)\b", file.read())
        left = [text for text in root.iter(SVG + "text") if text.get("text-anchor") == "end"]
        assert len({text.text for text in left}) == len(left) >= 2 and max(len(text.text) for text in left) <= 8, left


def darkest(image, left, top, right, bottom):
    """Of the pixels in a box, in the SVG's units."""
    return image.crop((int(2 * left), int(2 * top), int(2 * right), int(2 * bottom))).getextrema()[0]


def png(folder):
    """Two pixels a unit; dark where the SVG has text, lines and dots, white around it; equal runs give equal bytes."""
    pictures = []
    for name in ("d.svg", "d.png", "e.png"):
        run, picture = drift(folder, name, "--passes", 5)
        run.ok()
        pictures.append(picture)
    root = ElementTree.parse(pictures[0]).getroot()
    image = Image.open(pictures[1])
    image.load()
    assert (image.format, image.mode) == ("PNG", "RGB"), image
    width, height = int(root.get("width")), int(root.get("height"))
    assert image.size == (2 * width, 2 * height), image.size
    grey = image.convert("L")
    for box in ((0, 0, width, 10), (0, 0, 4, height), (width - 4, 0, width, height), (0, height - 4, width, height)):
        assert darkest(grey, *box) == 255, box  # nothing is cut off
    for text in root.iter(SVG + "text"):
        if text.get("x") is None:
            continue
        x, y = float(text.get("x")), float(text.get("y"))
        x -= {"end": 14, "middle": 7}.get(text.get("text-anchor"), 0)
        assert darkest(grey, x, y - 9, x + 14, y) < 80, text.text
    for dot in root.iter(SVG + "circle"):
        assert grey.getpixel((int(2 * float(dot.get("cx"))), int(2 * float(dot.get("cy"))))) < 40, dot.attrib
    lines = [path for path in root.iter(SVG + "path") if path.get("class") == "line"]
    assert lines
    for path in lines:
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d"))
        for x, y in ((float(x), float(y)) for x, y in points[1:]):
            assert darkest(grey, x - 16, y - 30, x + 1, y + 30) < 80, (path.attrib, x, y)
    with open(pictures[1], "rb") as first, open(pictures[2], "rb") as second:
        assert first.read() == second.read()


def nowhere(folder):
    """Names under which no picture can be: one sentence, and no file."""
    place = os.path.join(folder, "place.png")
    os.mkdir(place)
    for name, code in (("place.png", 1), ("missing/d.png", 1), ("place.png/d.gif", 2), ("place.png/png", 2)):
        run, picture = drift(folder, name, "--passes", 1)
        run.fails(code, "--plot", picture)
    assert os.listdir(place) == [] and not os.path.exists(os.path.join(folder, "missing"))


def without_png(folder):
    """A build without PNG plots says so before it works."""
    run, picture = drift(folder, "d.png", "--passes", 1)
    run.fails(2, "--plot", picture, "this build has no PNG plots", ".svg")
    assert not os.path.exists(picture)


if __name__ == "__main__":
    if sys.argv[1:] == ["no-png"]:
        sys.exit(main([labels, without_png]))
    sys.exit(main([labels, png, nowhere]))
