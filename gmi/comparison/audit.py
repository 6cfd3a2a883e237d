"""A comparison of defences, end to end."""

import json
from contextlib import nullcontext
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState
from pydantic import JsonValue

from gmi.assets.catalogue import resolve
from gmi.audits import Autocast
from gmi.comparison.findings import compose
from gmi.comparison.page import render
from gmi.comparison.plan import Comparison, cells
from gmi.comparison.trials import Trials
from gmi.data.people import People
from gmi.inversion import judging, scoring
from gmi.inversion.judging import Judges
from gmi.protocols import Prior
from gmi.run import Run
from gmi.settings import plain


def compare(plan: Comparison, folder: Path, device: torch.device, autocast: Autocast = nullcontext) -> Path:
    """As `weigh`, on what the configuration names."""
    judges = Judges((plan.judge.load(device),))
    return weigh(plan, plan.data.load(), plan.prior.load(device), judges, folder, device, autocast)


def weigh(
    plan: Comparison,
    people: People,
    prior: Prior,
    judges: Judges,
    folder: Path,
    device: torch.device,
    autocast: Autocast = nullcontext,
) -> Path:
    """Does what is not there yet of the comparison in `folder`, and returns its comparison.html.

    Raises GmiError as `Run.open` and `Trials`.
    """
    state = PartialState()
    files = [file for arm in plan.arms if arm.defence is not None for file in arm.defence.files]
    digests: dict[str, JsonValue] = {"gmi": version("gmi"), "prior": prior.digest, "data": people.digest}
    digests |= {file: sha256(resolve(file).read_bytes()).hexdigest() for file in files if resolve(file).exists()}
    with state.main_process_first():
        run = Run.open(folder, {"comparison": plain(plan), "inputs": digests})
    found = Trials(plan, people, prior, judges, run, device, autocast)()
    judged = judging.judge(run, judges, None, people, found.sets)
    if state.is_main_process:
        (judge,) = judges.faces
        templates, first = judged.templates[judge.name], next(cells(plan)).key
        # What is scored as an audit's attack would be, beside the random prior, is the first cell.
        templates, sets = templates | {"search": templates[first]}, found.sets | {"search": found.sets[first]}
        seen = scoring.recognise(judge, templates, people, sets, plan.fmrs)
        report = compose(plan, digests, len(people.attacked), seen, found, people.enrolment.classes.numpy(), device)
        run.write("comparison.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
        render(run.folder)
    state.wait_for_everyone()
    return folder / "comparison.html"
