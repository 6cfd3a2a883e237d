"""What an audit says beside its verdict: whether photographs are told to be trained on, how well a student copies the
target, and, of leaked templates, whom the images pass for in the system itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gmi.data.people import People
from gmi.inversion import scoring
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.membership import infer
from gmi.inversion.plan import Audit
from gmi.metrics.statistics import as_json, attempt, estimate
from gmi.protocols import FaceJudge
from gmi.run import Run
from gmi.search.surrogate import Surrogate
from gmi.targets.module import Target
from gmi.targets.templates import TemplateTarget, first

SHOWN = ("search", "best_of_n", "random")


def beside(
    plan: Audit,
    people: People,
    run: Run,
    judged: Judged,
    found: Releases,
    opinion: Callable[[Tensor], Tensor],
    system: FaceJudge | None,
    judges: Sequence[FaceJudge],
    device: torch.device,
) -> dict[str, Any]:
    """For report.json; None of what was not made. system: the recogniser whose templates leaked."""
    membership = None
    if plan.membership is not None:
        membership = infer(plan.membership, plan.target, plan.training, people, opinion, run, device)
    templates = None if system is None else irreversibility(plan, people, judged.templates, found, system, judges)
    return {"membership": membership, "extraction": fidelity(plan, people, run, judged), "templates": templates}


@torch.no_grad()
def fidelity(plan: Audit, people: People, run: Run, judged: Judged) -> dict[str, Any] | None:
    """How often the student that the search taught names whom the target names, and who it is, on enrolment images.

    Jagielski et al., High Accuracy and High Fidelity Extraction of Neural Networks, USENIX Security 2020.
    """
    if not isinstance(plan.search, Surrogate):
        return None
    taught = plan.search.taught(run.read("prepare/0000"))
    student = Target(taught.module, taught.student.input, people.names)
    named = torch.cat([student(some.float() / 255).argmax(1) for some in people.enrolment.bytes.split(32)])
    classes = people.enrolment.classes
    usual = judged.logits["target"]["enrolment"].argmax(1)

    def share(hits: Tensor) -> dict[str, Any]:
        return as_json(attempt(lambda: estimate(hits.double().numpy(), classes.numpy())))

    return {
        "agreement": share(named == usual),
        "accuracy": share(named == classes),
        "target": share(usual == classes),
        "questions": plan.search.shared,
    }


def irreversibility(
    plan: Audit,
    people: People,
    templates: Mapping[str, Mapping[str, Tensor]],
    found: Releases,
    system: FaceJudge,
    judges: Sequence[FaceJudge],
) -> list[dict[str, Any]]:
    """Whom the images pass for, by system and by photograph: the recogniser itself or another, the one whose template
    leaked or others. ISO/IEC 30136 describes such reporting.
    """
    assert isinstance(plan.target, TemplateTarget)
    leaked = first(people.training, len(people.names))
    turned = replace(people, enrolment=people.training[leaked], training=people.enrolment, distractors=None)
    rows = []
    for judge in (system, *judges):
        mine = templates[judge.name]
        swapped = {**mine, "enrolment": mine["training"][leaked], "training": mine["enrolment"]}
        # Of templates of the user's own it is not known which photographs they were made of.
        source = [("leaked", turned, swapped)] if plan.target.leaked is None else []
        for photograph, whose, known in (*source, ("other", people, mine)):
            seen = scoring.recognise(judge, known, whose, found, plan.fmrs)
            rows += [
                {
                    "system": "same" if judge is system else "other",
                    "judge": judge.name,
                    "photograph": photograph,
                    "method": method,
                    "figures": {
                        metric: as_json(
                            attempt(lambda m=method, k=metric, s=seen: estimate(s.outcomes[m][k], s.classes[m]))
                        )
                        for metric in seen.rates
                    },
                }
                for method in SHOWN
            ]
    return rows
