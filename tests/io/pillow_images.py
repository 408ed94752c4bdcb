#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Decoding, resizing and preprocessing against Pillow and torchvision, file by file.

Usage: pillow_images.py IMAGE_TOOL. Exit 77 (a visible skip) without Pillow or numpy. The photographs of
$TRINE_TEST_SHARED/data/cifar10 join in where they are; without them a note says so.
"""
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

try:
    import numpy as np
    from PIL import Image
except ImportError as error:
    print(f"SKIP: {error}: Pillow and numpy are needed for this comparison")
    sys.exit(77)

try:
    import torchvision.transforms as transforms
except Exception as error:  # a broken torch raises more than ImportError
    transforms = None
    print(f"note: torchvision is not importable ({error}); preprocessing is compared with numpy alone")

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
rng = np.random.default_rng(20240607)


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *fields):
        """(width, height, pipe) or a sentence."""
        self.process.stdin.write(("\t".join(str(f) for f in fields) + "\n").encode())
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode(errors="replace").rstrip("\n").split("\t")
        if answer[0] == "ok":
            return int(answer[1]), int(answer[2])
        assert answer[0] == "error", f"image_tool died on {fields}"
        return answer[2]

    def array(self, kind, *fields):
        size = self.ask(*fields)
        if isinstance(size, str):
            return size
        count = size[0] * size[1] * 3 * np.dtype(kind).itemsize
        data = np.frombuffer(self.process.stdout.read(count), kind)
        return data.reshape(size[1], size[0], 3) if kind == np.uint8 else data.reshape(3, size[1], size[0])


failures = []
counts = {}


def check(what, name, ok, detail=""):
    counts[what] = counts.get(what, 0) + 1
    if not ok:
        failures.append(f"{what}: {name}: {detail}")


def difference(ours, theirs):
    if isinstance(ours, str):
        return ours
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, Pillow {theirs.shape}"
    where = np.argwhere(ours != theirs)
    if not len(where):
        return ""
    at = tuple(where[0])
    return f"{len(where)} values differ, first at {at}: {ours[at]}, Pillow {theirs[at]}"


# ---- files -------------------------------------------------------------------------------------------------------------

def picture(width, height, channels):
    """Smooth shapes with noise: compresses like a photograph and has every kind of edge."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        a, b, phase = rng.uniform(0.02, 0.5, 3)
        plane = 127 + 90 * np.sin(a * x + phase) * np.cos(b * y) + rng.normal(0, 25, (height, width))
        plane[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2] = 255 * (c % 2)
        planes.append(plane)
    out = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return out[:, :, 0] if channels == 1 else out


def write_jpegs(folder):
    sizes = [(1, 1), (2, 3), (7, 5), (8, 8), (17, 33), (64, 48), (129, 97), (250, 1), (1, 250)]
    for w, h in sizes:
        rgb = Image.fromarray(picture(w, h, 3))
        for sub in (0, 1, 2):
            for progressive in (False, True):
                rgb.save(f"{folder}/rgb_{w}x{h}_s{sub}_p{int(progressive)}.jpg", quality=int(rng.integers(30, 98)),
                         subsampling=sub, progressive=progressive)
        Image.fromarray(picture(w, h, 1)).save(f"{folder}/grey_{w}x{h}.jpg", quality=80)
        Image.fromarray(picture(w, h, 4), "CMYK").save(f"{folder}/cmyk_{w}x{h}.jpg", quality=90)
    photo = Image.fromarray(picture(90, 60, 3))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(f"{folder}/exif_{orientation}.jpg", exif=exif)
    photo.save(f"{folder}/restart.jpg", restart_marker_blocks=3)
    photo.save(f"{folder}/optimized.jpg", optimize=True, quality=100)
    photo.save(f"{folder}/comment.jpg", comment=b"a comment", dpi=(300, 300))
    data = io.BytesIO()
    photo.save(data, "JPEG")
    data = data.getvalue()
    open(f"{folder}/noise_after_end.jpg", "wb").write(data + bytes(rng.integers(0, 256, 500, dtype=np.uint8)))
    # Adobe segment: transform 0 makes three components RGB, 2 makes four YCCK
    for transform, mode, channels in ((0, "RGB", 3), (1, "RGB", 3), (2, "CMYK", 4), (0, "CMYK", 4)):
        data = io.BytesIO()
        Image.fromarray(picture(40, 30, channels), mode).save(data, "JPEG", subsampling=0, quality=95)
        data = bytearray(data.getvalue())
        at = data.find(b"\xff\xeeAdobe"[:2] + b"\x00\x0eAdobe")
        if at >= 0:
            data[at + 15] = transform
        else:
            app = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
            jfif = 2 + 2 + struct.unpack(">H", data[4:6])[0]
            data = data[:2] + app + data[jfif:]  # instead of JFIF, which would win
        open(f"{folder}/adobe_{mode}_{transform}.jpg", "wb").write(data)
    # every pair of ink and black
    grid = np.zeros((256, 256, 4), np.uint8)
    grid[:, :, 0] = np.arange(256)[None, :]
    grid[:, :, 1] = 255 - np.arange(256)[None, :]
    grid[:, :, 3] = np.arange(256)[:, None]
    Image.fromarray(grid, "CMYK").save(f"{folder}/cmyk_grid.jpg", quality=100, subsampling=0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, raw_rows, interlace=0, before=b"", split=0):
    """raw_rows: for each pass, packed rows without filter bytes; every filter type 0..4 is used in turn."""
    body = b""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    unit = max(1, depth * channels // 8)
    for rows in raw_rows:
        previous = None
        for i, row in enumerate(rows):
            row = np.frombuffer(row, np.uint8).astype(int)
            up = np.zeros_like(row) if previous is None else previous
            left = np.concatenate([np.zeros(unit, int), row])[: len(row)]
            corner = np.concatenate([np.zeros(unit, int), up])[: len(row)]
            kind = i % 5
            p = left + up - corner
            near = np.stack([abs(p - left), abs(p - up), abs(p - corner)]).argmin(0)
            paeth = np.choose(near, [left, up, corner])
            guess = [0 * row, left, up, (left + up) // 2, paeth][kind]
            body += bytes([kind]) + ((row - guess) & 255).astype(np.uint8).tobytes()
            previous = row
    body = zlib.compress(body)
    parts = [body[i:i + split] for i in range(0, len(body), split)] if split else [body]
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + b"".join(chunk(b"IDAT", p) for p in parts)
            + chunk(b"IEND", b""))


def pack_rows(samples, depth):
    """samples [h][w * channels] integers."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in samples]
    bits = (samples[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def write_pngs(folder):
    kinds = [(d, 0) for d in (1, 2, 4, 8, 16)] + [(d, 2) for d in (8, 16)] + [(d, 3) for d in (1, 2, 4, 8)]
    kinds += [(d, c) for c in (4, 6) for d in (8, 16)]
    for depth, color in kinds:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
        for w, h in ((1, 1), (3, 2), (13, 9), (33, 70)):
            samples = rng.integers(0, 1 << depth, (h, w, channels))
            if depth == 16 and color == 0:
                samples[::2] = rng.integers(0, 300, samples[::2].shape)  # around the clamp
            before = b""
            if color == 3:
                before += chunk(b"PLTE", bytes(rng.integers(0, 256, 3 << depth, dtype=np.uint8)))
            for interlace in (0, 1):
                if interlace:
                    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
                    rows = [pack_rows(p.reshape(p.shape[0], -1), depth) if p.size else [] for p in passes]
                else:
                    rows = [pack_rows(samples.reshape(h, -1), depth)]
                stem = f"{folder}/d{depth}_c{color}_{w}x{h}_i{interlace}"
                open(stem + ".png", "wb").write(png(w, h, depth, color, rows, interlace, before, 50))
                trns = {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: bytes(range(0, min(250, 10 << depth), 10))[:1 << depth]}
                if color in trns and w == 13:
                    with_alpha = before + chunk(b"tRNS", trns[color])
                    extra = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"sBIT", b"\1" * (3 if color == 3 else channels))
                    open(stem + "_trns.png", "wb").write(png(w, h, depth, color, rows, interlace, extra + with_alpha))
    samples = rng.integers(0, 256, (9, 9))  # indices beyond a short palette
    plte = chunk(b"PLTE", bytes(rng.integers(0, 256, 30, dtype=np.uint8)))
    open(f"{folder}/short_palette.png", "wb").write(png(9, 9, 8, 3, [pack_rows(samples, 8)], 0, plte))
    ordinary = Image.fromarray(picture(120, 80, 4), "RGBA")
    ordinary.save(f"{folder}/saved_rgba.png")
    ordinary.convert("P").save(f"{folder}/saved_p.png")
    ordinary.convert("1").save(f"{folder}/saved_1.png")
    ordinary.convert("LA").save(f"{folder}/saved_la.png")


def write_pnms(folder):
    def put(name, head, body):
        open(f"{folder}/{name}", "wb").write(head + body)

    for w, h in ((1, 1), (9, 4), (16, 3), (31, 17)):
        bits = rng.integers(0, 2, (h, w))
        put(f"p1_{w}x{h}.pbm", b"P1\n# made by a test\n%d %d\n" % (w, h), b"".join(b"%d" % b for b in bits.reshape(-1)))
        put(f"p1_spaced_{w}x{h}.pbm", b"P1 %d # width\n%d\n" % (w, h), b" ".join(b"%d" % b for b in bits.reshape(-1)))
        put(f"p4_{w}x{h}.pbm", b"P4\n%d %d\n" % (w, h), np.packbits(bits.astype(np.uint8), axis=1).tobytes())
        for maxval in (1, 3, 100, 254, 255, 256, 1000, 4095, 65534, 65535):
            for channels, plain, raw, ending in ((1, b"P2", b"P5", "pgm"), (3, b"P3", b"P6", "ppm")):
                v = rng.integers(0, maxval + 1, (h, w, channels))
                if maxval > 255 and channels == 1:
                    v[::2] = v[::2] % 300 % (maxval + 1)
                stem = f"m{maxval}_{w}x{h}.{ending}"
                head = b"%d %d\n# a comment\n%d\n" % (w, h, maxval)
                lines = [b" ".join(b"%d" % s for s in row.reshape(-1)) for row in v]
                put("plain_" + stem, plain + b"\n" + head, b"\n# rows\n".join(lines))
                put("raw_" + stem, raw + b" " + head, v.astype(">u2" if maxval > 255 else np.uint8).tobytes())
    put("above_maxval.pgm", b"P5 16 16 99\n", bytes(range(256)))
    put("crlf.ppm", b"P6\r2 1\r255\r", bytes(range(6)))
    put("tail.ppm", b"P6 2 1 255\n", bytes(range(60)))


def write_broken(folder, sources):
    """Truncated and damaged files: both must refuse, or both must agree. One exception, counted: Pillow 9 fills plain PNM
    that ends early with black and reads PNG without the last bytes of its stream; trine calls both truncated."""
    for path in sources:
        data = open(path, "rb").read()
        base, ending = os.path.splitext(os.path.basename(path))
        for part in (0, 2, 20, len(data) // 3, len(data) // 2, len(data) * 9 // 10, len(data) - 20, len(data) - 12,
                     len(data) - 3, len(data) - 2, len(data) - 1):
            if 0 <= part < len(data):
                open(f"{folder}/{base}_cut{part}{ending}", "wb").write(data[:part])
        if ending == ".png":  # Pillow ignores checksums of pixels and damage behind the last row; trine may refuse it
            continue
        for i in range(30):
            broken = bytearray(data)
            for _ in range(3):
                broken[int(rng.integers(2, len(data)))] = int(rng.integers(0, 256))
            open(f"{folder}/{base}_hit{i}{ending}", "wb").write(broken)


# ---- comparisons -------------------------------------------------------------------------------------------------------

def open_rgb(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def compare_decode(tool, path):
    theirs = open_rgb(path)
    detail = difference(tool.array(np.uint8, "decode", path), np.asarray(theirs))
    check("decode", path, not detail, detail)
    return theirs


def compare_broken(tool, path):
    try:
        theirs = open_rgb(path)
        if theirs.width * theirs.height > 1 << 24:
            return
    except Exception:
        theirs = None
    ours = tool.array(np.uint8, "decode", path)
    if theirs is None:
        ok = isinstance(ours, str) and ours.startswith(path + ": ")
        check("broken", path, ok, f"Pillow refuses, trine says {ours if isinstance(ours, str) else ours.shape}")
    else:
        if isinstance(ours, str) and ours.startswith(path + ": is truncated") and path.endswith((".png", ".ppm")):
            counts["stricter"] = counts.get("stricter", 0) + 1
            return
        detail = difference(ours, np.asarray(theirs))
        check("broken", path, not detail, f"Pillow reads it: {detail}")


def compare_resize(tool, path, theirs, sizes):
    for w, h in sizes:
        want = np.asarray(theirs.resize((w, h), Image.BILINEAR))
        detail = difference(tool.array(np.uint8, "resize", path, w, h), want)
        check("resize", f"{path} to {w}x{h}", not detail, detail)


def compare_preprocess(tool, path, theirs, resize, crop):
    ours = tool.array(np.float32, "preprocess", path, resize, 0, crop)
    if isinstance(ours, str):
        check("preprocess", path, False, ours)
        return
    if transforms:
        steps = [transforms.Resize(resize)] if resize else []
        steps += [transforms.CenterCrop(crop)] if crop else []
        cropped = transforms.Compose(steps)(theirs)
        normal = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN.tolist(), STD.tolist())])
        floats = normal(cropped).numpy()
    else:
        image = theirs
        if resize:
            w, h = image.size
            size = (resize, int(resize * h / w)) if w <= h else (int(resize * w / h), resize)
            image = image.resize(size, Image.BILINEAR)
        if crop:
            w, h = image.size
            box = Image.new("RGB", (max(w, crop), max(h, crop)))
            box.paste(image, ((max(w, crop) - w) // 2, (max(h, crop) - h) // 2))
            left, top = int(round((box.width - crop) / 2)), int(round((box.height - crop) / 2))
            image = box.crop((left, top, left + crop, top + crop))
        cropped = image
        floats = ((np.asarray(cropped, np.float32) / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
    name = f"{path} resize {resize} crop {crop}"
    if ours.shape != floats.shape:
        check("preprocess", name, False, f"shape {ours.shape}, torchvision {floats.shape}")
        return
    worst = float(np.abs(ours - floats).max())
    check("preprocess", name, worst <= 1e-6, f"largest difference {worst}")
    back = np.rint((ours.transpose(1, 2, 0) * STD + MEAN) * 255).astype(np.uint8)
    detail = difference(back, np.asarray(cropped))
    check("preprocessed pixels", name, not detail, detail)


def random_sizes(count, limit):
    return [(random.randint(1, limit), random.randint(1, limit)) for _ in range(count)]


def compare_photographs(tool):
    shared = os.environ.get("TRINE_TEST_SHARED", "")
    folder = os.path.join(shared, "data", "cifar10")
    paths = sorted(os.path.join(d, f) for d, _, names in os.walk(folder, followlinks=True) for f in names)
    paths = [p for p in paths if p.lower().endswith((".jpg", ".jpeg", ".png"))]
    if not paths:
        print(f"note: no photographs under '{folder}'; only generated files were compared")
        return
    for i, path in enumerate(paths):
        theirs = compare_decode(tool, path)
        compare_resize(tool, path, theirs, random_sizes(1, 100))
        if i % 25 == 0:
            compare_preprocess(tool, path, theirs, 256, 224)


def main():
    random.seed(7)
    warnings.simplefilter("ignore")
    tool = Tool(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="trine-images-") as root:
        good = []
        for name, write in (("jpeg", write_jpegs), ("png", write_pngs), ("pnm", write_pnms)):
            folder = os.path.join(root, name)
            os.mkdir(folder)
            write(folder)
            good += [os.path.join(folder, f) for f in sorted(os.listdir(folder))]
        for path in good:
            theirs = compare_decode(tool, path)
            compare_resize(tool, path, theirs, random_sizes(2, 150))
            if min(theirs.size) > 1 or max(theirs.size) < 100:
                compare_preprocess(tool, path, theirs, random.choice([0, 24, 33, 64]), random.choice([0, 15, 28, 57]))
        broken = os.path.join(root, "broken")
        os.mkdir(broken)
        kinds = ("rgb_64x48_s2_p0.jpg", "rgb_64x48_s1_p1.jpg", "grey_64x48.jpg", "cmyk_64x48.jpg", "saved_rgba.png",
                 "saved_p.png", "d16_c2_33x70_i1.png", "plain_m100_31x17.ppm", "raw_m4095_31x17.ppm", "p4_31x17.pbm")
        write_broken(broken, [p for p in good if os.path.basename(p) in kinds])
        for f in sorted(os.listdir(broken)):
            compare_broken(tool, os.path.join(broken, f))
        for w, h in ((641, 480), (333, 500), (200, 1200)):
            path = os.path.join(root, f"large_{w}x{h}.jpg")
            Image.fromarray(picture(w, h, 3)).save(path, quality=92)
            theirs = compare_decode(tool, path)
            grid = [(1, 1), (w, 1), (1, h), (w, h), (w - 1, h), (w, h + 1), (2 * w, 2 * h), (w // 2, h // 2), (224, 224), (7, 900)]
            compare_resize(tool, path, theirs, grid + random_sizes(10, 900))
            for resize, crop in ((256, 224), (232, 224), (0, 0), (0, 224), (256, 0), (255, 300), (100, 99)):
                compare_preprocess(tool, path, theirs, resize, crop)
    compare_photographs(tool)
    print(", ".join(f"{n} {what}" for what, n in counts.items()), f"compared with Pillow {Image.__version__}")
    for line in failures[:40]:
        print("FAIL:", line)
    if failures:
        print(f"{len(failures)} comparisons failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
