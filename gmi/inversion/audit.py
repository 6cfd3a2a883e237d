"""An audit, end to end: the target is attacked, the controls are made, judges compare both with photographs that the
target never saw, and a verdict says what that shows. What is done lies in the run folder and is not done again.
"""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from accelerate import PartialState
from safetensors.numpy import save

from gmi.audits import Hardware, Kind, unseen
from gmi.data.images import Images
from gmi.inversion import judging, scores
from gmi.inversion.attacker import Attacker
from gmi.inversion.constancy import confirm
from gmi.inversion.controls import Enrolled, EnrolledSimilarities
from gmi.inversion.findings import findings
from gmi.inversion.forecast import forecast, refuse_overspending
from gmi.inversion.inputs import Inputs, load, refuse_enrolled
from gmi.inversion.judging import Releases
from gmi.inversion.learnt import learnt
from gmi.inversion.meter import total
from gmi.inversion.page import render
from gmi.inversion.plan import RANDOM, Audit
from gmi.inversion.preflight import refuse_ignorant
from gmi.inversion.recognition import Recognised, recognise
from gmi.inversion.related import related_attacks
from gmi.inversion.release import strips
from gmi.inversion.validity import Evidence
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Embeddings
from gmi.protocols import SimilarityOracle
from gmi.run import Run
from gmi.search.signature import OfflineSearch, refuse_misfit, students
from gmi.training.weights import refuse_untrained


def refuse(plan: Audit, inputs: Inputs) -> None:
    """Raises GmiError where the audit may not be made, before anything is asked."""
    inputs.judges.refuse_dependent(inputs.target, inputs.guide, plan.data.name, inputs.people, students(plan.search))
    refuse_misfit(plan.search, plan.access.open(inputs.target, None), inputs.prior)
    refuse_enrolled([plan.search], inputs.people)
    refuse_overspending(plan, inputs)
    if plan.membership is not None:
        plan.membership.refuse(plan.target, plan.training, inputs.people)
    if inputs.untrained:
        refuse_untrained(plan.target, plan.training, inputs.people)


def examine(plan: Audit, inputs: Inputs, run: Run, hardware: Hardware) -> Evidence:
    """Everything that the findings rest on: attacks and controls, and what the judges see in them."""
    people, judges = inputs.people, inputs.everyone

    @cache
    def opened() -> AnyOracle:
        """The target as the adversary has it. From then on there is a ledger, and the folder is this run's."""
        oracle = plan.access.open(inputs.target, run.folder)
        if isinstance(oracle, Embeddings):  # whose answers are templates
            oracle.ledger.vault = run.vault
        return oracle

    attackers = [
        Attacker(attack, inputs.prior, people, run if number == 0 else run.part(f"seed-{attack.seed}"), hardware)
        for number, attack in enumerate(plan.attacks)
    ]
    opinion = judging.own_opinion(inputs.target, opened, hardware.device)
    if unseen(plan):
        confirm(attackers[0], opened())
    if plan.preflight:
        refuse_ignorant(inputs.target, people, judging.enrolment_answers(run, opinion, people), run)
    oracle = opened()
    probes = attackers[0].probe(oracle)
    drawn = [reconstruct(plan, inputs, oracle, attacker) for attacker in attackers]
    releases = {step: Images.join([each[step] for each in drawn]) for step in drawn[0]}
    judged = judging.judge(run, judges, opinion, people, releases)
    taught = [attacker.taught("search") for attacker in attackers]
    known = learnt(plan.search, taught, people, judged.answers["target"]["enrolment"].named)
    first = known.students[0] if known.students else None
    related = related_attacks(plan, inputs, run, judged, releases, opinion, first, hardware)
    recognised: tuple[Recognised, ...] = ()
    if PartialState().is_main_process:  # the others' would be the same
        recognised = tuple(
            recognise(judge, judged.templates[judge.name], people, releases, plan.fmrs, seeds=len(attackers))
            for judge in inputs.judges.faces
        )
        _keep(plan, inputs, run, releases, recognised)
    spent = total(attacker.spent for attacker in attackers)
    return Evidence(oracle, releases, probes, spent, judged, recognised, related, known)


def reconstruct(plan: Audit, inputs: Inputs, oracle: AnyOracle, attacker: Attacker) -> Releases:
    """What the attack and the controls release with one seed, by step."""
    people = inputs.people
    first, further = plan.pools(len(people.attacked), len(people.names), inputs.prior)
    releases = {"search": attacker.attack("search", oracle)}
    pools = [attacker.pool("pool", oracle, first)]
    if further:
        pools.append(attacker.pool("best_of_n_pool", oracle, further))
    releases["best_of_n"] = attacker.best_of("best_of_n", oracle, torch.cat(pools))
    releases[RANDOM] = attacker.random(RANDOM, oracle)
    if people.public is not None:
        releases["public"] = attacker.public("public", oracle, people.public.pixels)
    if plan.controls.oracle:
        photographs = people.enrolment.pixels.to(attacker.hardware.device)
        search, compares = plan.search, isinstance(oracle, SimilarityOracle)
        if isinstance(search, OfflineSearch):  # it is given what it would learn
            search, compares = search.search, True
        kind = EnrolledSimilarities if compares else Enrolled
        enrolled = kind(inputs.projector, photographs, people.enrolment.classes)
        releases["oracle"] = replace(attacker, plan=replace(attacker.plan, search=search)).attack("oracle", enrolled)
    return releases


def _keep(plan: Audit, inputs: Inputs, run: Run, releases: Releases, recognised: tuple[Recognised, ...]) -> None:
    """Puts what the page shows besides the findings into the run folder: histograms' samples, the split, images."""
    samples = {
        f"{judge.judge}/{name}": np.ravel(values) for judge in recognised for name, values in judge.samples.items()
    }
    run.write("distributions.safetensors", save(samples))
    run.write(scores.NAME, scores.lines(recognised).encode())
    people = inputs.people
    run.keep("split.json", (json.dumps(people.files, indent=1) + "\n").encode())
    if plan.report.images:
        for name, images in {"enrolment": people.enrolment, **releases}.items():
            if name in ("enrolment", "search", "best_of_n"):
                strips(run, f"images/{name}", images, people.attacked)


INVERSION = Kind(
    name="report",
    plan=Audit,
    load=load,
    refuse=refuse,
    forecast=forecast,
    searches=True,
    examine=examine,
    findings=findings,
    render=render,
    shows=lambda plan: plan.report.images,
    recompute=scores.recompute,
)
