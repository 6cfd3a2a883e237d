"""Kills commands at random moments, and sees whether they end as if nobody had disturbed them.

Every kind of audit and of training runs on a small made-up world: once undisturbed, and once killed again and again
(SIGKILL, after a delay drawn up to the time that it took undisturbed), then to its end. Its findings must be those of
the undisturbed run, but for times and, where an interface is asked, for images that were sent again. Between kills the
times of files jump by a day. Then: Ctrl-C and SIGTERM must end with one sentence that says how to go on; two starts on
one folder at once must change nothing; a shard that is cut short must be named in one sentence.

Exit code 1 where it is not so.

    python -m scripts.survive --kills 50 --seed 0
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from torch import nn
from torchvision.utils import save_image

from gmi import toy
from gmi.priors.gan import DcganShape
from gmi.settings import plain

PEOPLE = 8
ROOT = Path(__file__).resolve().parents[1]
CONSOLE = "from gmi.cli import command; command()"
STOPPED = "stopped: run the same command again to go on"
TIMES = {"started", "finished", "seconds", "files", "ledger"}
"""Keys of findings that may differ: times, digests of files with times in them, and what a ledger counts again."""


class Kind(NamedTuple):
    """One command, and the file of its findings."""

    words: tuple[str, ...]
    result: str


def target(people: int) -> nn.Module:
    """The network of the world's targets: grey images of 16 px."""
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, people))


def judge() -> nn.Module:
    """The network of the world's judge: colour images of 16 px to templates."""
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, 64))


def world(folder: Path) -> dict[str, Kind]:
    """Photographs, a prior, a judge, a table and configurations of every kind of command, by its name."""
    crowd = toy.people(PEOPLE, 0)
    for role, images in (("train", crowd.training), ("held_out", crowd.enrolment)):
        for number, (image, person) in enumerate(zip(images.pixels, images.classes.tolist(), strict=True)):
            place = folder / role / crowd.names[person] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            save_image(image, place)
    coarse = torch.rand(PEOPLE * 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for number, image in enumerate(F.interpolate(coarse, size=16, mode="bilinear")):  # no two are alike
        place = folder / "records" / f"p{number // 3}" / f"{number % 3}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        save_image(image, place)
    prior = toy.prior()
    (folder / "prior").mkdir()
    save_file(prior.state_dict(), folder / "prior" / "model.safetensors")
    (folder / "prior" / "config.json").write_text(json.dumps(plain(prior.shape)))
    assert isinstance(prior.shape, DcganShape)
    torch.manual_seed(0)
    save_file(judge().state_dict(), folder / "judge.safetensors")
    rows = [f"{20 + n % 50},{('no', 'yes')[n % 3 == 0]},{('no', 'yes')[n % 2]}" for n in range(600)]
    (folder / "people.csv").write_text("\n".join(["age,ill,pays", *rows]) + "\n")

    data = {"name": "toy", "folder": str(folder / "train"), "enrolment": str(folder / "held_out")}
    system = {"factory": "scripts.survive:target", "arguments": {"people": PEOPLE}}
    system["input"] = {"size": [16, 16], "colour": "grey", "mean": [0.5]}
    training = {"type": "scratch", "steps": 120, "batch": 16, "lr": 0.01, "views": {"scale": [1.0, 1.0], "shift": 0.0}}
    eye = {"type": "module", "factory": "scripts.survive:judge", "weights": str(folder / "judge.safetensors")}
    eye |= {"input": {"size": [16, 16]}, "align": "none", "trained_on": ["nothing"]}
    known: dict[str, Any] = {"prior": {"type": "gan", "folder": str(folder / "prior")}}
    known["selection"] = {"pool": 40, "candidates": 2, "views": 4, "keep": 1}
    gradient = {"type": "gradient", "steps": 60, "lr": 0.1}
    evolution = {"type": "evolution", "generations": 20, "population": 8}
    weights = {"weights": str(folder / "target" / "model.safetensors")}
    audit = {
        "name": "toy",
        "data": data,
        "target": system | weights,
        "training": training,
        **known,
        "search": evolution,
    }
    audit |= {"access": {"type": "scores"}, "judges": [eye], "perceptual": None, "classifier": None, "batch": 2}
    rungs = [
        {"name": "whole", "access": {"type": "white-box"}, "searches": [gradient]},
        {"name": "scores", "access": {"type": "scores"}, "searches": [evolution]},
    ]
    attacks = [
        {"name": "gradient", "access": {"type": "white-box"}, "search": gradient},
        {"name": "evolution", "access": {"type": "scores"}, "search": evolution},
    ]
    arms = [{"name": "smoothed", "defence": {"type": "label-smoothing", "alpha": -0.02}}]
    learner = {"type": "flow", "channels": [8, 8], "layers": 1, "attention": [], "groups": 4, "steps": 2}
    records = {"name": "toy", "folder": str(folder / "records"), "held_out": 3, "other": 2, "images": 2, "alike": 1}
    public = {"name": "toy", "folder": str(folder / "train"), "terms": "none", "size": 16, "grey": True, "held_out": 8}
    table = {"name": "toy", "file": str(folder / "people.csv"), "sensitive": "ill", "outcome": "pays"}
    table |= {"numbers": ["age"], "training": 150, "public": 150}
    plans: dict[str, tuple[dict[str, Any], str]] = {
        "train-target": (audit, "model.safetensors"),
        "audit": (audit, "report.json"),
        "ladder": ({"name": "toy", "audit": audit, "rungs": rungs, "best_of": [20]}, "ladder.json"),
        "compare": (
            {"name": "toy", "data": data, "attacks": attacks, "arms": arms, "judge": eye, **known}
            | {"targets": [{"name": "mlp", "target": system, "training": training}]},
            "comparison.json",
        ),
        "attributes": (
            {"name": "toy", "data": table, "target": {"type": "tree"}, "attacks": [{"type": "csmia"}], "attacked": 100},
            "attributes.json",
        ),
        "extract": (
            {"name": "toy", "data": records | {"size": 16, "grey": True}, "samples": 40, "batch": 4}
            | {"models": {"type": "trained", "learner": learner, "steps": 60}, "inversion": {"steps": 4, "draws": 1}},
            "extraction.json",
        ),
        "train-prior": (
            {"name": "toy", "subject": "objects", "data": public, "learner": learner, "steps": 120, "batch": 8}
            | {"look": 40, "save": 10},
            "prior/config.json",
        ),
    }
    kinds = {}
    for name, (plan, result) in plans.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(plan))
        kinds[name] = Kind((name, str(path)), result)
    return kinds


def start(kind: Kind, out: Path, *, clock: int = 0) -> subprocess.Popen[str]:
    """Starts a command. clock: seconds by which the times of files that are there already are moved."""
    if clock and out.exists():
        for path in out.rglob("*"):
            os.utime(path, (time.time() + clock, time.time() + clock))
    where = (
        ("--target.weights", str(out / "model.safetensors")) if kind.words[0] == "train-target" else ("--out", str(out))
    )
    command = [sys.executable, "-c", CONSOLE, *kind.words, *where]
    env = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a command to end well, and gives what it said. Raises AssertionError where it does not."""
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints
    return said


def findings(kind: Kind, out: Path) -> Any:
    """What is to be equal: findings without times, or tensors."""
    path = out / kind.result
    if path.suffix == ".safetensors":
        return path.read_bytes()
    if kind.words[0] == "train-prior":
        return {each.name: each.read_bytes() for each in (out / "prior").rglob("*.safetensors")}
    return timeless(json.loads(path.read_text("utf-8")))


def timeless(tree: Any) -> Any:
    """A tree without the keys that may differ."""
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in TIMES}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def told(process: subprocess.Popen[str]) -> list[str]:
    """The sentences on standard error beside progress bars. Raises AssertionError for a traceback."""
    complaints = process.communicate(timeout=60)[1]
    assert "Traceback" not in complaints, complaints
    return re.findall(r"(?:error|stopped): [^\r\n]*", complaints)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs, over all kinds")
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    parser.add_argument("--only", nargs="*", help="kinds of commands; all unless given")
    options = parser.parse_args(arguments)
    draws, faults = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = {name: kind for name, kind in world(folder).items() if not options.only or name in options.only}
        if not (folder / "target").exists():
            finish(start(Kind(("train-target", str(folder / "audit.yaml")), "model.safetensors"), folder / "target"))
        took, expected = {}, {}
        for name, kind in kinds.items():
            begun = time.perf_counter()
            finish(start(kind, folder / "quiet" / name))
            took[name], expected[name] = time.perf_counter() - begun, findings(kind, folder / "quiet" / name)
        victims = [name for number in range(options.kills) for name in [list(kinds)[number % len(kinds)]]]
        done = dict.fromkeys(kinds, 0)
        for name in victims:
            out = folder / "killed" / name
            process = start(kinds[name], out, clock=draws.choice((0, -86_400, 86_400)))
            try:
                process.wait(timeout=draws.uniform(0.1, 0.8) * took[name])
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done[name] += 1
                continue
            finish(process)  # it was quicker: the next one begins anew
            faults += findings(kinds[name], out) != expected[name]
            shutil.rmtree(out)
        for name, kind in kinds.items():
            finish(start(kind, folder / "killed" / name))
            equal = findings(kind, folder / "killed" / name) == expected[name]
            faults += not equal
            print(f"{name:13} {took[name]:5.1f} s, {done[name]:3} kills: {'equal' if equal else 'DIFFERS'}", flush=True)
        faults += sum(not fine for fine in further(kinds, folder, took, expected, draws))
    return int(faults > 0)


def further(
    kinds: dict[str, Kind], folder: Path, took: dict[str, float], expected: dict[str, Any], draws: random.Random
) -> list[bool]:
    """Signals, two starts at once and a cut shard, of every kind but those that train in one piece."""
    fine = []
    for name, kind in kinds.items():
        for sign, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = start(kind, folder / sign.name / name)
            time.sleep(draws.uniform(0.5, 0.8) * took[name])
            process.send_signal(sign)
            lines = told(process)
            ended = (process.returncode, lines)
            done = (folder / sign.name / name / kind.result).exists()  # a signal may find Python at its very end
            fine.append(ended == (code, [STOPPED]) or (done and ended in ((0, []), (-sign, []))))
            print(f"{name:13} {sign.name}: {process.returncode} {lines[-3:]}", flush=True)
        if name in ("train-target", "train-prior"):
            continue
        both = [start(kind, folder / "twice" / name) for _ in range(2)]
        for process in both:
            finish(process)
        fine.append(findings(kind, folder / "twice" / name) == expected[name])
        print(f"{name:13} two starts at once: {'equal' if fine[-1] else 'DIFFERS'}", flush=True)
        shards = sorted((folder / "twice" / name / "shards").rglob("*.safetensors"))
        if shards:
            shard = draws.choice(shards)
            shard.write_bytes(shard.read_bytes()[:40])
            process = start(kind, folder / "twice" / name)
            lines = told(process)
            fine.append(process.returncode == 2 and len(lines) == 1 and shard.name in lines[0])
            print(f"{name:13} a cut shard: {'told' if fine[-1] else f'{process.returncode} {lines[-3:]}'}", flush=True)
    return fine


if __name__ == "__main__":
    sys.exit(main())
