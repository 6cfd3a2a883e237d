"""The queries and the time of a comparison, before anything is trained."""

from collections import defaultdict
from dataclasses import replace

from gmi.audits import Hardware
from gmi.comparison.inputs import Inputs, build, target_of, try_arms
from gmi.comparison.plan import Cell, Comparison, Training, cells
from gmi.forecast import Forecast
from gmi.inversion.attacker import PROBES
from gmi.inversion.forecast import Pace, Work, attack_work, forward_seconds, judging_seconds, pace
from gmi.oracles.access import WholeModel
from gmi.search.attack import Attack
from gmi.search.signature import students
from gmi.training.targets import Head


def forecast(plan: Comparison, inputs: Inputs, hardware: Hardware) -> Forecast:
    """The queries and seconds of every training and attack of a comparison that is not refused, over all seeds."""
    people, prior = inputs.people, inputs.prior
    attacked = len(people.attacked)
    trainings: dict[str, Cell] = {}
    attacks: dict[str, Cell] = {}
    for cell in cells(plan):  # what arms share is the first one's
        trainings.setdefault(cell.weights, cell)
        attacks.setdefault(cell.key, cell)
    try_arms(list(trainings.values()), people, hardware.device)
    paces = _paces(inputs, list(trainings.values()), hardware)
    queries: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, float] = defaultdict(float)
    for cell in trainings.values():
        work = _training(cell.arm.training or cell.subject.training, len(people.training))
        seconds[f"train {cell.subject.name}, {cell.arm.trained}"] += paces[_place(cell)].seconds(work)
    for cell in attacks.values():
        step = f"{cell.subject.name}, {cell.arm.name}: {cell.attack.name}, {cell.access} access"
        shared, person = plan.selection.asked(cell.attack.search, prior)
        queries[step] += shared + attacked * person
        steps = attack_work(cell.attack.search, plan.selection, attacked, prior)
        shares = Attack(cell.attack.search, plan.selection, plan.batch, cell.seed).shares(attacked)
        seconds[step] += sum(paces[_place(cell)].each(steps, shares).values())
        if not isinstance(cell.attack.access, WholeModel):
            queries["checks"] += 2 * PROBES
    (judge,) = inputs.judges.faces
    released = (len(attacks) + 1) * attacked * plan.selection.keep
    seconds |= judging_seconds({f"judge {judge.name}": judge}, people, released)
    without = ("that defences add to a training",) if any(arm.defence is not None for arm in plan.arms) else ()
    if any(students(cell.attack.search) for cell in attacks.values()):
        without += ("to teach students and to search them",)
    seeds = f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}"
    note = f"{len(trainings)} targets to train, {len(attacks)} attacks to make: each line is for {seeds} together"
    return Forecast(dict(queries), dict(seconds), without, (note,), read=str(inputs.people))


def _paces(inputs: Inputs, trainings: list[Cell], hardware: Hardware) -> dict[tuple[str, str], Pace]:
    """The pace of every arm's target, which is of a form of its own where the defence changes that."""
    people, paces = inputs.people, {}
    for cell in trainings:
        if _place(cell) in paces:
            continue
        target = target_of(cell.subject, build(cell.subject, cell.arm), people)
        if paces:  # the prior is timed once
            timed = next(iter(paces.values()))
            paces[_place(cell)] = replace(timed, forward=forward_seconds(target, people, hardware.device))
        else:
            paces[_place(cell)] = pace(target, inputs.prior, people, hardware.device)
    return paces


def _place(cell: Cell) -> tuple[str, str]:
    return cell.subject.name, cell.arm.trained


def _training(training: Training, images: int) -> Work:
    """The work of a training, in images that are scored: a step's backward pass counts as two."""
    if isinstance(training, Head):
        return 0, images * (1 + training.mirror), 0
    return 0, 3 * training.steps * training.batch, 0
