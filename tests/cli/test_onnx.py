#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""export onnx: accepted by onnx's checker, with the shapes that its inference finds; outputs as embed's, run by PyTorch's operators from
what the file says, and by ONNX Runtime where it is or can be had (into the build folder)."""
import importlib
import json
import os
import subprocess
import sys

import cli_support as cli

try:
    import numpy as np
    import onnx
    import onnx.checker
    import onnx.numpy_helper
    import onnx.shape_inference
except ImportError as missing:
    cli.skip(f"python3-onnx and python3-numpy are needed: {missing}")
try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

BOUND = 1e-4  # of the largest output
RUNTIME = "onnxruntime==1.16.3"  # the last that takes NumPy 1 as Debian has it, for Python 3.11


def find_runtime():
    """ONNX Runtime, or None and the reason."""
    folder = os.path.join(os.environ.get("TRINE_TEST_BUILD", "."), "onnxruntime")
    sys.path.append(folder)
    for attempt in range(2):
        try:
            return importlib.import_module("onnxruntime"), None
        except ImportError as error:
            reason = str(error)
        if attempt == 0:
            got = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--retries", "1",
                                  "--timeout", "15", "--target", folder, RUNTIME], capture_output=True, text=True, check=False)
            if got.returncode != 0:
                return None, (got.stderr.strip().split("\n") or ["pip gives no reason"])[-1]
            importlib.invalidate_caches()
    return None, reason


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def run_torch(model, images):
    """The graph, node by node."""
    values = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    values["images"] = torch.from_numpy(images)
    for node in model.graph.node:
        x, a = [values[name] for name in node.input], attributes(node)
        if node.op_type == "Conv":
            assert len(set(a["pads"])) == 1
            y = F.conv2d(x[0], x[1], x[2] if len(x) > 2 else None, a["strides"], a["pads"][:2], 1, a["group"])
        elif node.op_type == "BatchNormalization":
            y = F.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0, a["epsilon"])
        elif node.op_type == "MaxPool":
            y = F.max_pool2d(x[0], a["kernel_shape"], a["strides"], a["pads"][:2])
        elif node.op_type == "Slice":
            y = x[0]
            for start, end, axis, step in zip(*(v.tolist() for v in x[1:])):
                y = y[(slice(None),) * axis + (slice(start, end, step),)]
        elif node.op_type == "Pad":
            p = x[1].tolist()
            y = F.pad(x[0], [v for axis in (3, 2, 1, 0) for v in (p[axis], p[4 + axis])])
        elif node.op_type == "Gemm":
            assert a == {"transB": 1}
            y = F.linear(*x)
        elif node.op_type == "ReduceL2":
            y = x[0].norm(dim=a["axes"], keepdim=bool(a["keepdims"]))
        else:
            y = {"Relu": torch.relu, "Add": torch.add, "Div": torch.div, "Max": torch.maximum,
                 "GlobalAveragePool": lambda v: v.mean((2, 3), keepdim=True), "Flatten": lambda v: v.flatten(1)}[node.op_type](*x)
        values[node.output[0]] = y
    return values["embedding"].numpy()


def make_weights(folder, name, changes=None):
    """A network as torchvision initialises it, BatchNorm as training leaves it; the small ones by trine itself."""
    path = os.path.join(folder, f"{name}.pth")
    torch.manual_seed(3)
    import torchvision
    net = getattr(torchvision.models, name)(num_classes=7)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    state = {key: value for key, value in net.state_dict().items() if not (changes and changes(key))}
    torch.save(state, path)
    return path


def check(folder, weights, images, options, engines, runtime):
    """One network, one way; the engines' outputs against embed's."""
    x, e, f = (os.path.join(folder, name) for name in ("x.npy", "e.npy", "f.onnx"))
    np.save(x, images)
    shared = [o for o in options if o not in ("--folded",)]
    cli.Run("embed", "--weights", weights, "--input", x, "--out", e, *shared).ok()
    cli.Run("export", "onnx", "--weights", weights, "--out", f, *options).ok()
    want = np.load(e)
    model = onnx.load(f)
    onnx.checker.check_model(model, full_check=True)
    shapes = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert [d.dim_value or d.dim_param for d in shapes.graph.output[0].type.tensor_type.shape.dim] == ["batch", want.shape[1]]
    found = {}
    if "torch" in engines and torch is not None:
        found["PyTorch"] = run_torch(model, images)
    if "runtime" in engines and runtime is not None:
        session = runtime.InferenceSession(f, providers=["CPUExecutionProvider"])
        found["ONNX Runtime"] = session.run(None, {"images": images})[0]
    for engine, got in found.items():
        assert got.shape == want.shape
        error = np.abs(got - want).max() / np.abs(want).max()
        assert error <= BOUND, f"{engine}, {os.path.basename(weights)} {options}: {error:.2e} of the largest"
    return model


WAYS = ([], ["--folded"], ["--folded", "--normalize"], ["--embedding", "fc"], ["--folded", "--embedding", "fc", "--normalize"])


def agree(folder):
    runtime, reason = find_runtime()
    if runtime is None:
        cli.note(f"ONNX Runtime cannot be had: {reason}")
    if torch is None:
        cli.note("python3-torch is not installed: no engine but ONNX Runtime, and no network of torchvision's")
    if torch is None and runtime is None:
        cli.skip("no engine that could run a network")
    random = np.random.default_rng(1)
    data = cli.make_folder(os.path.join(folder, "data"), classes=3, images=4)
    small = cli.make_base(folder, data)
    for size in ((3, 3, 32, 32), (2, 3, 23, 37)):
        for options in WAYS:
            check(folder, small, random.standard_normal(size).astype(np.float32), options, ("torch", "runtime"), runtime)
    if torch is None:
        return
    images = random.standard_normal((2, 3, 65, 64)).astype(np.float32)
    for name, ways in (("resnet18", WAYS[3:]), ("resnet50", WAYS[1:2])):
        weights = make_weights(folder, name)
        for options in ways:
            check(folder, weights, images, options, ("runtime",) if runtime else ("torch",), runtime)
    plain = make_weights(folder, "resnet18", lambda key: (".bn" in key or "bn1" in key or "downsample.1" in key) and
                         key.rsplit(".", 1)[1] in ("weight", "bias"))
    check(folder, plain, images, [], ("torch", "runtime"), runtime)  # affine=False
    none = make_weights(folder, "resnet18", lambda key: "running_" in key or "num_batches" in key)
    cli.Run("export", "onnx", "--weights", none, "--out", os.path.join(folder, "n.onnx")).fails(4, "no running statistics")
    assert not os.path.exists(os.path.join(folder, "n.onnx"))


def every_variant(folder):
    """torchvision's, each way."""
    if torch is None:
        return
    runtime, _ = find_runtime()
    images = np.random.default_rng(2).standard_normal((2, 3, 65, 64)).astype(np.float32)
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2",
                 "wide_resnet101_2"):
        weights = make_weights(folder, name)
        for options in WAYS:
            check(folder, weights, images, options, ("torch", "runtime"), runtime)
        os.remove(weights)


def metadata(folder):
    data = cli.make_folder(os.path.join(folder, "data"), classes=2, images=3)
    small, f, g = cli.make_base(folder, data), os.path.join(folder, "f.onnx"), os.path.join(folder, "g.onnx")
    cli.Run("export", "onnx", "--weights", small, "--out", f, "--batch", 4, "--normalize", "--bn", "eval:eps=1e-3").ok()
    cli.Run("export", "onnx", "--weights", small, "--out", g, "--batch", 4, "--normalize", "--bn", "eval:eps=1e-3").ok()
    with open(f, "rb") as one, open(g, "rb") as two:
        assert one.read() == two.read()
    model = onnx.load(f)
    said = {p.key: p.value for p in model.metadata_props}
    assert (said["arch"], said["embedding"], said["normalize"]) == ("resnet20_cifar", "pool", "true"), said
    assert json.loads(said["preprocess"])["mean"][0] == 0.485, said
    assert model.producer_name == "trine" and model.opset_import[0].version == 13
    assert [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == [4, 3, "height", "width"]
    norms = [attributes(n)["epsilon"] for n in model.graph.node if n.op_type == "BatchNormalization"]
    assert len(norms) == 19 and all(abs(v - 1e-3) < 1e-9 for v in norms)
    assert not any(n.op_type == "BatchNormalization" for n in folded(small, folder).graph.node)
    cli.Run("export", "onnx", "--weights", small).fails(2, "--out")
    cli.Run("export", "tflite", "--weights", small, "--out", f).fails(2, "tflite")
    cli.Run("export", "onnx", "--weights", small, "--out", f, "--batch", "many").fails(2, "--batch 'many'")
    cli.Run("export", "onnx", "--weights", os.path.join(folder, "no.pth"), "--out", f).fails(4, "no.pth")


def folded(weights, folder):
    path = os.path.join(folder, "folded.onnx")
    cli.Run("export", "onnx", "--weights", weights, "--out", path, "--folded").ok()
    return onnx.load(path)


if __name__ == "__main__":
    sys.exit(cli.main([agree, metadata] + ([every_variant] if "long" in sys.argv[1:] else [])))
