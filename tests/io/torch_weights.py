#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""torch_weights.py TOOL: checkpoints of the installed PyTorch through trine and back, byte for byte.

Exit 77 where torch or torchvision is missing."""
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
from collections import OrderedDict

try:
    import torch
    import torchvision
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

TOOL = sys.argv[1]
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16",
          torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
          torch.bool: "BOOL"}


def raw(tensor):
    """The dense bytes of a tensor; through integers, because numpy has no bfloat16."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy().tobytes()


def read_safetensors(path):
    """[(name, dtype, shape, bytes)] in the header's order, every rule of the format checked."""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    assert length % 8 == 0, "header not padded"
    pairs = json.loads(data[8:8 + length], object_pairs_hook=list)
    body, at, tensors = data[8 + length:], 0, []
    for name, entry in pairs:
        if name == "__metadata__":
            continue
        entry = dict(entry)
        begin, end = entry["data_offsets"]
        assert begin == at, f"{name}: hole"
        tensors.append((name, entry["dtype"], tuple(entry["shape"]), body[begin:end]))
        at = end
    assert at == len(body), "bytes after the last tensor"
    return tensors


def run(*arguments, status=0):
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True)
    assert done.returncode == status, f"{arguments}: exit {done.returncode}, {done.stdout}{done.stderr}"
    return done.stdout.strip() if status == 0 else done.stderr.strip()


def same(loaded, expected, what):
    assert isinstance(loaded, OrderedDict), what
    assert list(loaded) == list(expected), f"{what}: names {list(loaded)[:3]}"
    for name, tensor in expected.items():
        other = loaded[name]
        assert other.dtype == tensor.dtype and other.shape == tensor.shape, f"{what}: {name}"
        assert other.is_contiguous(), f"{what}: {name} is not dense"
        assert raw(other) == raw(tensor), f"{what}: {name} differs"


def check(folder, label, checkpoint, expected, **options):
    """Save checkpoint, read it, compare all that trine writes with the state dictionary `expected`."""
    source, first = os.path.join(folder, "in.pth"), os.path.join(folder, "a.pth")
    second, third = os.path.join(folder, "a.safetensors"), os.path.join(folder, "b.pth")
    for zipped in (True, False):
        what = f"{label} ({'zip' if zipped else 'legacy'})"
        torch.save(checkpoint, source, _use_new_zipfile_serialization=zipped, **options)
        said = run(source, first, second)
        assert said == f"torch {'zip' if zipped else 'legacy'} {len(expected)}", f"{what}: {said}"
        same(torch.load(first), expected, what)
        got = read_safetensors(second)
        want = [(n, DTYPES[t.dtype], tuple(t.shape), raw(t)) for n, t in expected.items()]
        assert got == want, f"{what}: safetensors differ"
        assert run(second, third).startswith("safetensors")
        with open(first, "rb") as a, open(third, "rb") as b:
            assert a.read() == b.read(), f"{what}: not the same bytes by way of safetensors"
        print(f"ok: {what}")
    return torch.load(first)


def small_state():
    torch.manual_seed(0)
    shared = torch.randn(6, 4)
    return OrderedDict([
        ("f32", torch.randn(2, 3, 5)), ("f64", torch.randn(3).double()), ("f16", torch.randn(7).half()),
        ("bf16", torch.randn(5).bfloat16()), ("i64", torch.tensor(1 << 40)), ("i32", torch.arange(-3, 3).int()),
        ("i16", torch.arange(4).short()), ("i8", torch.arange(-2, 2).char()), ("u8", torch.arange(5).byte()),
        ("bool", torch.tensor([True, False, True])), ("scalar", torch.tensor(2.5)), ("empty", torch.zeros(0, 3)),
        ("transposed", torch.randn(4, 6).t()), ("channels_last", torch.randn(2, 3, 4, 5).contiguous(
            memory_format=torch.channels_last)), ("expanded", torch.randn(3, 1).expand(3, 4)),
        ("shared.all", shared), ("shared.rows", shared[2:5]), ("shared.columns", shared[:, 1:3]),
        ("step", torch.randn(20)[3::4]), ("parameter", torch.nn.Parameter(torch.randn(3))),
        ("\u00fcn\u00ef\"quoted\\", torch.ones(2)),
    ])


def wrapped(state):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {"epoch": 3, "arch": "resnet50", "best_acc1": torch.tensor(91.5), "lr": 0.1, "none": None, "flag": True,
            "size": torch.Size([1, 2]), "type": torch.float32, "tuple": (1, 2, 3, 4), "list": [1, "a", 2.5, 1 << 70, -5],
            "state_dict": OrderedDict(("module." + n, t) for n, t in state.items()),
            "optimizer": optimizer.state_dict()}


def models(folder):
    for name in ("resnet18", "resnet50"):
        torch.manual_seed(1)
        model = getattr(torchvision.models, name)(weights=None)
        state = model.state_dict()
        again = check(folder, name, state, state)
        torch.manual_seed(2)
        other = getattr(torchvision.models, name)(weights=None)
        other.load_state_dict(again, strict=True)
        same(other.state_dict(), state, f"{name} after load_state_dict")


def refusals(folder):
    path = os.path.join(folder, "bad.pth")

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {folder}/owned",))

    for zipped in (True, False):
        torch.save({"state_dict": {"a": torch.ones(2)}, "x": Evil()}, path, _use_new_zipfile_serialization=zipped)
        assert "posix.system" in run(path, status=4)
        torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
        assert "torch.nn.modules.linear.Linear" in run(path, status=4)
        torch.save({"epoch": 1}, path, _use_new_zipfile_serialization=zipped)
        assert "no state dictionary" in run(path, status=4)
        torch.save(OrderedDict(a=torch.ones(1000), b=torch.ones(1000)), path, _use_new_zipfile_serialization=zipped)
        os.truncate(path, 5000)
        said = run(path, status=4)
        assert said.startswith(path + ": truncated"), said
        assert zipped or "' needs 4000 bytes up to byte" in said, said  # a or b: torch sorts storages by address
    assert not os.path.exists(os.path.join(folder, "owned"))
    with open(path, "wb") as file:
        pickle.dump({"a": 1}, file)
    assert run(path, status=4) == f"{path}: not a weights file (expected safetensors or a PyTorch checkpoint)"
    print("ok: refusals")


def main():
    with tempfile.TemporaryDirectory() as folder:
        state = small_state()
        check(folder, "small", state, state)
        check(folder, "plain dict", dict(state), state)
        check(folder, "wrapped", wrapped(state), state)
        check(folder, "two wrappers", {"model": {"state_dict": {"_orig_mod.module." + n: t for n, t in state.items()}}},
              state)
        check(folder, "one unprefixed", {"module.a": state["f32"], "b": state["i64"]},
              OrderedDict([("module.a", state["f32"]), ("b", state["i64"])]))
        check(folder, "protocol 4", state, state, pickle_protocol=4)
        refusals(folder)
        models(folder)


main()
