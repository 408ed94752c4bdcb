# SPDX-License-Identifier: MIT
"""Runs that are killed, stopped and resumed end with the bytes of a run without a break; --resume refuses what is not
that run in one sentence. With the argument "long": 200 kills instead of a few dozen."""
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from cli_support import TRINE, Run, main, make_base, make_folder, read_safetensors, write_ppm

KILLS = 200 if sys.argv[1:] == ["long"] else 30
STEPS = 24


def digest(path):
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def finetune(folder, *more, steps=STEPS):
    """The command line of a small run over data that every test makes for itself."""
    data, base = os.path.join(folder, "data"), os.path.join(folder, "base.safetensors")
    if not os.path.exists(data):
        make_base(folder, make_folder(data))
    return ["finetune", "--weights", base, "--data", data, "--steps", steps, "--images-per-class", 2, "--augment",
            "flip-crop", "--optimizer", "sgd", "--schedule", "constant", "--seed", 5, *more]


def start(arguments):
    """The program in the background."""
    return subprocess.Popen([TRINE, *map(str, arguments), "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True)


def step_of(path):
    """Step of a checkpoint or state, which must be complete; None if there is no file."""
    if not os.path.exists(path):
        return None
    header, data = read_safetensors(path)
    metadata = header.pop("__metadata__")
    assert max(tensor["data_offsets"][1] for tensor in header.values()) == len(data), path
    return int(metadata["step"])


def wait_for_step(out, step, process):
    """Until the state of at least this step is there."""
    limit = time.monotonic() + 120
    while (step_of(out + ".state") or 0) < step:
        assert process.poll() in (None, 0), process.stderr.read()
        assert time.monotonic() < limit, "no step in two minutes"
        time.sleep(0.005)


def keep(out):
    """Contents of the two files of a run."""
    contents = {}
    for path in (out, out + ".state"):
        if os.path.exists(path):
            with open(path, "rb") as file:
                contents[path] = file.read()
    return contents


def put_back(out, contents):
    """The files as keep() found them."""
    for path in (out, out + ".state"):
        if path in contents:
            with open(path, "wb") as file:
                file.write(contents[path])
        elif os.path.exists(path):
            os.remove(path)


def stop(arguments, out, step, number):
    """Start, send the signal after a step, and return the step that was saved. On a busy machine the run may be at its
    end before this program gets its turn: then again."""
    before = keep(out)
    for _ in range(10):
        process = start(arguments)
        wait_for_step(out, step, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        saved = step_of(out + ".state")
        if saved < STEPS:
            break
        put_back(out, before)
    assert process.returncode == 1, (process.returncode, err)
    assert err == f"trine: stopped after step {saved} of {STEPS}: the same command with --resume goes on\n", err
    assert saved >= step and step_of(out) == saved, (saved, step_of(out))
    return saved


# Everything that a recipe can add.
RECIPE = ("--augment", "flip,rrc:scale=0.3-1,jitter,erase:value=random", "--ema", 0.9, "--accumulate", 2, "--optimizer", "adamw",
          "--schedule", "cosine", "--clip-norm", 1)


def killed_with_recipe(folder):
    """The same with averages and steps of several batches."""
    killed_at_random(folder, RECIPE)


def killed_at_random(folder, recipe=()):
    """kill -9 at any moment: what is there is complete, and going on from it ends with the same bytes."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}", flush=True)
    draw = random.Random(seed)
    whole, out = os.path.join(folder, "whole.safetensors"), os.path.join(folder, "part.safetensors")
    arguments = finetune(folder, *recipe)
    Run(*arguments, "--out", whole).ok()
    began = time.monotonic()
    Run(*arguments, "--out", out, "--save-every", 1).ok()
    seconds = time.monotonic() - began
    assert digest(out) == digest(whole)
    between = 0
    for kill in range(KILLS):
        if step_of(out + ".state") in (None, STEPS) and os.path.exists(out):
            for path in (out, out + ".state"):
                if os.path.exists(path):
                    os.remove(path)
        resume = ["--resume"] if os.path.exists(out + ".state") else []
        process = start([*arguments, "--out", out, "--save-every", 1, *resume])
        time.sleep(draw.uniform(0.1, 1.0) * seconds)
        process.kill()
        _, err = process.communicate(timeout=60)
        assert process.returncode in (-9, 0) and err == "", (kill, process.returncode, err)
        state, checkpoint = step_of(out + ".state"), step_of(out)
        assert state is None or checkpoint - state in (0, 1), (kill, state, checkpoint)
        between += state is not None and 0 < state < STEPS
        seconds *= 1.2 if state is None else 0.9 if state == STEPS else 1 # the machine's load changes
        if kill % 5 == 4 and state is not None:
            copy = os.path.join(folder, "copy.safetensors")
            shutil.copy(out, copy)
            shutil.copy(out + ".state", copy + ".state")
            Run(*arguments, "--out", copy, "--resume").ok()
            assert digest(copy) == digest(whole), (kill, state)
    print(f"{between} of {KILLS} kills were between the first and the last step", flush=True)
    assert between >= KILLS // 4, between
    if os.path.exists(out + ".state"):
        Run(*arguments, "--out", out, "--resume").ok()
    else:
        Run(*arguments, "--out", out, "--save-every", 1).ok()
    assert digest(out) == digest(whole)
    assert not [name for name in os.listdir(folder) if ".tmp-" in name], os.listdir(folder)


def signals(folder):
    """SIGINT and SIGTERM save at the next step; the figures go on where they stopped; then the run is complete."""
    whole, out = os.path.join(folder, "whole.safetensors"), os.path.join(folder, "part.safetensors")
    data = os.path.join(folder, "data")
    arguments = finetune(folder, "--freeze", "conv1.*,layer1.*", "--bn", "auto,layer2.*=cumulative:momentum=0.3",
                         "--optimizer", "adamw", "--schedule", "cosine", "--embedding-dim", 16, "--val", data)
    expected = Run(*arguments, "--out", whole, "--json", "-").json()
    assert expected["resumed_from"] is None, expected
    step = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        step = stop([*arguments, "--out", out, "--save-every", 2, *(["--resume"] if step else [])], out, step + 2,
                    number)
    result = Run(*arguments, "--out", out, "--resume", "--json", "-").json()
    assert digest(out) == digest(whole)
    assert result["resumed_from"] == step and [row["step"] for row in result["steps"]] == list(range(step + 1, STEPS + 1))
    assert result["steps"] == expected["steps"][step:], result["steps"]
    assert result["before"] == expected["before"] and result["after"] == expected["after"], result
    kept = digest(out + ".state")
    again = Run(*arguments, "--out", out, "--resume").ok()
    assert "complete" in again.out and f"{STEPS} steps" in again.out, again
    result = Run(*arguments, "--out", out, "--resume", "--json", "-").json()
    assert result["resumed_from"] == STEPS and result["steps"] == [] and result["after"] == expected["after"], result
    assert digest(out) == digest(whole) and digest(out + ".state") == kept


def averages(folder):
    """With --ema the checkpoint holds the averages, on the way, too, and the state the weights; validation measures the averages, of a complete
    run that is called again, too. The bytes depend on no number of threads."""
    whole, out, plain = (os.path.join(folder, name + ".safetensors") for name in ("whole", "part", "plain"))
    data = os.path.join(folder, "data")
    arguments = finetune(folder, *RECIPE, "--val", data)
    expected = Run(*arguments, "--threads", 1, "--out", whole, "--json", "-").json()
    step = stop([*arguments, "--threads", 8, "--out", out, "--save-every", 2], out, 4, signal.SIGTERM)
    talk = Run(*arguments, "--out", os.path.join(folder, "talk.safetensors"), "--threads", 8, quiet=False).ok().err
    assert digest(os.path.join(folder, "talk.safetensors")) == digest(whole)
    for words in ("augmentation flip,rrc:scale=0.3-1,jitter:brightness=0.4:contrast=0.4:saturation=0.4:hue=0.1,erase:p=0.5:value=random",
                  "accumulate   2 batches a step", "running ones move 2 times a step", "momentum 0.1 acts as 0.19 a step",
                  "ema          0.9: --out and validation get the average", "8 % of it is how the run began"):
        assert words in " ".join(talk.split()) or words in talk, (words, talk)
    result = Run(*arguments, "--out", out, "--resume", "--json", "-").json()
    assert digest(out) == digest(whole) and result["after"] == expected["after"], result
    again = Run(*arguments, "--out", out, "--resume", "--json", "-").json()
    assert again["after"] == expected["after"] and digest(out) == digest(whole), again
    measured = Run("eval", "--task", "retrieval", "--weights", out, "--data", data, "--distance", "cosine", "--json", "-").json()
    assert abs(measured["map_at_r"] - expected["after"]["map_at_r"]) < 1e-12, (measured, expected["after"])
    at = RECIPE.index("--ema")
    Run(*finetune(folder, *RECIPE[:at], *RECIPE[at + 2:]), "--out", plain).ok()
    values, averaged, state = (read_safetensors(path) for path in (plain, out, out + ".state"))
    ours = {name: bytes(state[1][slice(*t["data_offsets"])]) for name, t in state[0].items() if name != "__metadata__"}
    for name, t in values[0].items():
        if name == "__metadata__":
            continue
        kept = bytes(values[1][slice(*t["data_offsets"])])
        assert ours["network." + name] == kept, name
        same = bytes(averaged[1][slice(*averaged[0][name]["data_offsets"])]) == kept
        assert same == (name.startswith("fc.") or name.endswith("num_batches_tracked")), name
        assert ("average." + name in ours) == (not same), name
    Run(*arguments, "--ema", 0.8, "--out", out, "--resume").fails(2, "ema is 0.8 here, but 0.9 in the saved run")
    Run(*arguments, "--accumulate", 3, "--out", out, "--resume").fails(2, "accumulate is 3 here, but 2 in the saved run")
    Run(*arguments, "--augment", "rrc", "--out", out, "--resume").fails(2, "augment is rrc:scale=0.08-1 here, but flip,rrc:scale=0.3-1,jitter")
    assert step < STEPS


def half_precision(folder):
    """The scale of the loss is part of the state, and the precision of the run."""
    whole, out = os.path.join(folder, "whole.safetensors"), os.path.join(folder, "part.safetensors")
    arguments = finetune(folder, "--precision", "fp16", "--freeze", "layer1.*")
    expected = Run(*arguments, "--out", whole, "--json", "-").json()
    assert expected["precision"] == "fp16", expected
    stop([*arguments, "--out", out, "--save-every", 2], out, 4, signal.SIGTERM)
    header, _ = read_safetensors(out + ".state")
    assert header["loss_scale"]["shape"] == [5], header["loss_scale"]
    result = Run(*arguments, "--out", out, "--resume", "--json", "-").json()
    assert digest(out) == digest(whole) and result["steps"][-1] == expected["steps"][-1], result
    Run(*arguments, "--precision", "fp32", "--out", out, "--resume").fails(2, "precision is fp32 here, but fp16")
    Run(*arguments, "--precision", "tf32", "--out", out, "--resume").fails(2, "precision is tf32 here, but fp16")


def torch_file(folder):
    """A PyTorch checkpoint keeps no policies: the state does."""
    whole, out = os.path.join(folder, "whole.pth"), os.path.join(folder, "part.pth")
    arguments = finetune(folder, "--freeze", "layer1.*", "--bn", "torch")
    Run(*arguments, "--out", whole).ok()
    process = start([*arguments, "--out", out, "--save-every", 3])
    wait_for_step(out, 3, process)
    process.kill()
    process.communicate()
    rest = [word for i, word in enumerate(arguments) if arguments[i - 1] not in ("--freeze", "--bn", "--weights") and
            word not in ("--freeze", "--bn", "--weights")]
    Run(*rest, "--out", out, "--resume").ok()
    assert digest(out) == digest(whole)


def classifier(folder):
    """train: epochs that were broken off in the middle have the figures of the whole."""
    data = make_folder(os.path.join(folder, "data"), images=5)
    whole, out = os.path.join(folder, "whole.safetensors"), os.path.join(folder, "part.safetensors")
    arguments = ["train", "--arch", "resnet20_cifar", "--data", data, "--val", data, "--epochs", 6, "--batch", 4, "--lr", 0.01,
                 "--schedule", "plateau"]
    expected = Run(*arguments, "--out", whole, "--json", "-").json()
    step = stop([*arguments, "--out", out, "--save-every", 1], out, 6, signal.SIGTERM)
    result = Run(*arguments, "--out", out, "--resume", "--json", "-").json()
    assert digest(out) == digest(whole)
    first = (step - 1) // 4 # the epoch of the last saved step; its row comes again if it ended there
    assert result["resumed_from"] == step and result["accuracy"] == expected["accuracy"], result
    assert result["epochs"] in (expected["epochs"][first:], expected["epochs"][first + 1:]), (step, result, expected)


def refusals(folder):
    """What is not the saved run is refused with both values, and the saved run is left alone."""
    out = os.path.join(folder, "o.safetensors")
    arguments = finetune(folder, "--freeze", "layer1.*", "--bn", "auto,bn1=eval", "--embedding-dim", 8)
    step = stop([*arguments, "--out", out, "--save-every", 4], out, 4, signal.SIGINT)
    state, checkpoint = digest(out + ".state"), digest(out)

    def refuse(code, *words, change=(), drop=None):
        line = [*arguments, "--out", out, "--resume", *change]
        if drop:
            at = line.index(drop)
            line[at:at + 2] = []
        Run(*line).fails(code, *words)
        assert digest(out + ".state") == state and digest(out) == checkpoint

    for option, value, said in (("lr", 0.5, "0.01"), ("seed", 6, "5"), ("steps", STEPS + 1, STEPS), ("margin", "soft", "0.2"),
                                ("optimizer", "adam", "sgd"), ("schedule", "step", "constant"), ("augment", "flip", "flip-crop"),
                                ("mining", "semi-hard", "batch-hard"), ("distance", "cosine", "euclidean"),
                                ("images-per-class", 3, 2), ("precision", "fp16", "fp32"), ("momentum", 0.5, "0.9"), ("weight-decay", 0.5, "0.0001")):
        refuse(2, "--resume: ", f"{option} is {value} here, but {said} in the saved run", change=["--" + option, value])
    refuse(2, "--embedding-dim is 9 here, but 8", change=["--embedding-dim", 9])
    refuse(2, "--arch is resnet18 here, but resnet20_cifar", change=["--arch", "resnet18"])
    refuse(2, "--weights is other.pth here, but ", change=["--weights", "other.pth"])
    refuse(2, "bn1 is train:", "but eval:", change=["--bn", "train"])
    refuse(2, "conv2.weight is trainable here, but frozen", change=["--freeze", "conv1.*"])
    refuse(2, "normalize is off here, but on", change=["--no-normalize"])
    refuse(2, "preprocess is {", change=["--crop", 16])
    extra = os.path.join(folder, "data", "class0", "extra.ppm")
    write_ppm(extra, 99)
    refuse(4, "number of images is 13 here, but 12")
    os.rename(os.path.join(folder, "data", "class1", "0.ppm"), os.path.join(folder, "0.ppm"))
    refuse(4, "hash of the data is")
    os.rename(os.path.join(folder, "0.ppm"), os.path.join(folder, "data", "class1", "0.ppm"))
    os.remove(extra)
    Run(*arguments, "--resume").fails(2, "--resume needs --out")
    Run(*arguments, "--save-every", 2).fails(2, "--save-every needs --out")
    Run(*arguments, "--out", out, "--save-every", 0).fails(2, "--save-every", "'0'")
    none = os.path.join(folder, "none.safetensors")
    Run(*arguments, "--out", none, "--resume").fails(4, "there is no saved run", none + ".state")
    shutil.copy(out, none + ".state")
    Run(*arguments, "--out", none, "--resume").fails(4, "is not the state of a run", none + ".state")
    with open(out + ".state", "rb") as file:
        content = file.read()
    for part in (0, 7, len(content) // 2, len(content) - 1):
        with open(none + ".state", "wb") as file:
            file.write(content[:part])
        Run(*arguments, "--out", none, "--resume").fails(4, none + ".state")
    assert not os.path.exists(none) and step < STEPS


def another_run(folder):
    """A run without --resume says what it will replace, and leaves no state that is not its own."""
    out = os.path.join(folder, "o.safetensors")
    arguments = finetune(folder)
    stop([*arguments, "--out", out, "--save-every", 2], out, 2, signal.SIGINT)
    talk = Run(*arguments, "--out", out, quiet=False).ok().err
    assert talk.count("this one will replace it (--resume goes on with it)") == 1, talk
    assert "of an earlier run, was removed" in talk and not os.path.exists(out + ".state"), talk
    talk = Run(*arguments, "--out", out, "--save-every", 10, quiet=False).ok().err
    assert "warning" not in talk and "save         every 10 steps" in talk and step_of(out + ".state") == STEPS, talk
    talk = Run(*arguments, "--out", out, "--save-every", 10, quiet=False).ok().err
    assert "warning" not in talk, talk
    assert json.loads(Run("inspect", out, "--json", "-").ok().out)["arch"] == "resnet20_cifar"


if __name__ == "__main__":
    if sys.argv[1:] == ["long"]:
        sys.exit(main([killed_at_random, killed_with_recipe]))
    sys.exit(main([killed_at_random, averages, signals, half_precision, torch_file, classifier, refusals, another_run]))
