"""What a ladder found: figures of every point beside the controls."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Releases
from gmi.inversion.scoring import Recognised
from gmi.ladder.plan import Ladder, Point
from gmi.metrics.identity import chance
from gmi.metrics.statistics import as_json, attempt, estimate, recovered
from gmi.report.page import SCHEMA_VERSION
from gmi.settings import plain
from gmi.targets.templates import TemplateTarget


def best(plan: Ladder) -> str:
    """The point that the others are compared with."""
    return f"rung0_{len(plan.rungs[0].searches) - 1}"


def compose(
    plan: Ladder,
    inputs: Inputs,
    known: Mapping[str, Point],
    seen: Recognised,
    logits: Mapping[str, Tensor],
    found: Releases,
    device: torch.device,
) -> dict[str, Any]:
    """ladder.json, whose schema is gmi/report/ladder.schema.json."""
    metrics = seen.rates
    attacked = len(inputs.people.attacked)

    def figures(method: str) -> dict[str, Any]:
        classes = seen.classes[method]
        return {
            metric: as_json(attempt(lambda m=metric: estimate(seen.outcomes[method][m], classes))) for metric in metrics
        }

    def share(method: str) -> dict[str, Any] | None:
        if method == best(plan):
            return None
        ours, top = seen.of_people(method, "rank1"), seen.of_people(best(plan), "rank1")
        return as_json(attempt(lambda: recovered(ours, np.zeros_like(ours), top)))

    def named(method: str) -> float:
        return float((logits[method].argmax(1).cpu() == found[method].classes).double().mean())

    rows = [
        asdict(point)
        | {
            "name": name,
            "queries": point.shared + attacked * point.person,
            "figures": figures(name),
            "share": share(name),
            "own_opinion": named(name),
        }
        for name, point in known.items()
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": plan.name,
        "kind": "templates" if isinstance(plan.audit.target, TemplateTarget) else "representatives",
        "authorisation": None if plan.audit.authorisation is None else plain(plan.audit.authorisation),
        "gmi": version("gmi"),
        "judge": seen.judge,
        "people": len(inputs.people.names),
        "attacked": attacked,
        "gallery": seen.people,
        "best": best(plan),
        "budget": plan.budget,
        "chance": {metric: chance(metric, seen.people) for metric in metrics},
        "thresholds": [asdict(cut) | {"trusted": cut.trusted} for cut in seen.thresholds],
        "random": figures("random"),
        "points": rows,
        "device": device.type,
        "digests": inputs.digests,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
