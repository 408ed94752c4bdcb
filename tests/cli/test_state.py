# SPDX-License-Identifier: MIT
"""With TRINE_ASSERT_STATE=1 every command passes; commands that only look leave the weights file as it is; a frozen
trunk stays as it was to the last hash; a policy that moves it all the same is told in one sentence with its remedy."""
import hashlib
import os
import sys

from cli_support import Run, main, make_base, make_folder, read_safetensors, skip, write_npy, write_safetensors

ASSERT = {"TRINE_ASSERT_STATE": "1"}
POLICIES = ("auto", "torch", "eval", "no-update", "cumulative", "train,layer1.*=eval")
SHARED = os.environ.get("TRINE_TEST_SHARED", "../shared")
WEIGHTS = os.path.join(SHARED, "data", "weights", "resnet20-cifar10.th")
PHOTOGRAPHS = os.path.join(SHARED, "data", "cifar10", "train")


def digest(path):
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def state(path):
    """The state's hashes, of a network loaded from the file."""
    return Run("inspect", path, "--json", "-", env=ASSERT).json()["state"]


def changed(before, after):
    """Names in which two states differ: parameters and BatchNorm layers."""
    assert sorted(before) == sorted(after) == ["batchnorm", "each_parameter", "parameters", "statistics"], before
    names = [name for part in ("each_parameter", "batchnorm") for name in before[part]
             if before[part][name] != after[part][name]]
    for part in ("each_parameter", "batchnorm"):
        assert list(before[part]) == list(after[part]), (before, after)
    assert (before["parameters"] != after["parameters"]) == any(n in before["each_parameter"] for n in names), names
    assert (before["statistics"] != after["statistics"]) == any(n in before["batchnorm"] for n in names), names
    return names


def looking(folder):
    """Every command that only looks, on one checkpoint whose bytes stay."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    picture = os.path.join(data, "class0", "0.ppm")
    array, labels = os.path.join(folder, "x.npy"), os.path.join(folder, "y.npy")
    write_npy(array, "<f4", (4, 3, 16, 16), bytes(range(64)) * 4 * 3 * 16)
    write_npy(labels, "<i4", (4,), bytes([0, 0, 0, 0, 1, 0, 0, 0] * 2))
    network = ["--weights", base]
    out = [os.path.join(folder, name) for name in ("e.npy", "o.pth", "d.svg")]
    kept = digest(base)
    for arguments in (["devices"], ["probe"], ["inspect", base], ["inspect", base, base], ["convert", base, out[1]],
                      ["embed", *network, "--data", data, "--out", out[0]],
                      ["embed", *network, "--image", picture, "--layer", "logits", "--out", out[0]],
                      ["eval", *network, "--data", data], ["eval", *network, "--data", data, "--task", "classify"],
                      ["eval", *network, "--input", array, "--labels", labels],
                      ["drift", *network, "--data", data, "--passes", 2],
                      ["drift", *network, "--data", data, "--passes", 0],
                      ["drift", *network, "--data", data, "--passes", 2, "--freeze", "layer1.*", "--bn", "auto"],
                      ["drift", *network, "--image", picture, "--passes", 2, "--remedies", "--plot", out[2]],
                      ["bench", "--arch", "resnet20_cifar", "--batch", 2, "--runs", 7],
                      ["bench", "--arch", "resnet20_cifar", "--batch", 2, "--runs", 7, "--mode", "train"]):
        Run(*arguments, env=ASSERT).ok()
        assert digest(base) == kept, arguments
    assert changed(state(base), state(out[1])) == []


def training(folder):
    """train, recalibrate, and finetune under every policy: what is frozen stays, statistics move only where the policy
    says so."""
    data = make_folder(os.path.join(folder, "data"))
    base, out = os.path.join(folder, "base.safetensors"), os.path.join(folder, "o.safetensors")
    Run("train", "--arch", "resnet20_cifar", "--data", data, "--val", data, "--epochs", 1, "--batch", 6, "--lr", 0.01,
        "--out", base, env=ASSERT).ok()
    before = state(base)
    Run("recalibrate", "--weights", base, "--data", data, "--layers", "layer1.*", "--out", out, env=ASSERT).ok()
    moved = changed(before, state(out))
    assert moved and all(name.startswith("layer1.") and ".bn" in name and not name.endswith(("weight", "bias"))
                         for name in moved), moved
    for policy in POLICIES:
        Run("train", "--arch", "resnet20_cifar", "--data", data, "--epochs", 1, "--batch", 6, "--bn", policy,
            env=ASSERT).ok()
        Run("finetune", "--weights", base, "--data", data, "--val", data, "--steps", 2, "--images-per-class", 2,
            "--freeze", "*,!layer3.2.*", "--bn", policy, "--out", out, env=ASSERT).ok()
        names = changed(before, state(out))
        parameters = [name for name in names if name in before["each_parameter"]]
        assert parameters and all(name.startswith("layer3.2.") for name in parameters), (policy, names)
        moved = {name for name in names if name in before["batchnorm"]}
        want = {"auto": {"layer3.2.bn1", "layer3.2.bn2"}, "eval": set(), "no-update": set(),
                "train,layer1.*=eval": {n for n in before["batchnorm"] if not n.startswith("layer1.")}}
        assert moved == want.get(policy, set(before["batchnorm"])), (policy, moved)


def hashes(folder):
    """One flipped bit shows under its own name and in its part alone."""
    base = make_base(folder, make_folder(os.path.join(folder, "data")))
    other = os.path.join(folder, "other.safetensors")
    before = state(base)
    for tensor, name in (("layer2.0.bn1.running_var", "layer2.0.bn1"),
                         ("layer1.1.bn2.num_batches_tracked", "layer1.1.bn2"),
                         ("layer3.0.conv1.weight", "layer3.0.conv1.weight"), ("fc.bias", "fc.bias")):
        header, content = read_safetensors(base)
        content[header[tensor]["data_offsets"][0]] ^= 1
        write_safetensors(other, header, content)
        assert changed(before, state(other)) == [name], tensor


def wrong_word(folder):
    """A value that is neither on nor off is no weaker assertion but an error."""
    data = make_folder(os.path.join(folder, "data"))
    base = make_base(folder, data)
    for arguments in (["eval", "--weights", base, "--data", data], ["inspect", base],
                      ["bench", "--arch", "resnet20_cifar"]):
        Run(*arguments, env={"TRINE_ASSERT_STATE": "yes"}).fails(2, "TRINE_ASSERT_STATE is 'yes'", "1 (on)")


def photographs(folder):
    """resnet20 from PyTorch, fc alone trained: nothing frozen moves; with what PyTorch does, one sentence says so."""
    out = os.path.join(folder, "o.safetensors")
    arguments = ["finetune", "--weights", WEIGHTS, "--data", PHOTOGRAPHS, "--embedding", "fc", "--freeze", "*,!fc*",
                 "--steps", 3, "--classes-per-batch", 4, "--images-per-class", 4, "--out", out]
    before, kept = state(WEIGHTS), digest(WEIGHTS)
    talk = Run(*arguments, env=ASSERT, quiet=False).ok().err
    assert "will still move" not in talk, talk
    assert changed(before, state(out)) == ["fc.weight", "fc.bias"]
    talk = Run(*arguments, "--bn", "torch", env=ASSERT, quiet=False).ok().err
    told = [line for line in talk.split("\n") if "will still move" in line]
    assert told == ["warning: 19 frozen BatchNorm layers (bn1 first) will still move their running statistics at every "
                    "step, because their policy updates them; --bn auto (in C: trine_resnet_set_bn(net, \"auto\")) "
                    "keeps frozen layers still"], talk
    assert changed(before, state(out)) == ["fc.weight", "fc.bias", *before["batchnorm"]]
    assert len(before["batchnorm"]) == 19 and digest(WEIGHTS) == kept
    Run(*arguments, "--bn", "auto", env=ASSERT).ok()
    assert changed(before, state(out)) == ["fc.weight", "fc.bias"]


if __name__ == "__main__":
    main([looking, training, hashes, wrong_word])
    if not (os.path.exists(WEIGHTS) and os.path.isdir(PHOTOGRAPHS)):
        skip(f"all but the photographs passed: {WEIGHTS} or {PHOTOGRAPHS} is missing")
    sys.exit(main([photographs]))
