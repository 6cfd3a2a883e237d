"""The results of an audit as files of its run folder: scores.jsonl, report.json, histograms' samples, image strips."""

import io
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from pydantic import JsonValue
from safetensors.numpy import save
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gmi import checks
from gmi.assets.catalogue import fetch, provenance
from gmi.data.people import People
from gmi.inversion import literature, scoring
from gmi.inversion.attacker import Spent
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.plan import Audit
from gmi.inversion.scoring import Recognised
from gmi.inversion.verdict import METRIC, Verdict
from gmi.metrics.statistics import Failed, as_json
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Interface
from gmi.oracles.ledger import OWN_OPINION, SHARED
from gmi.protocols import Prior
from gmi.run import Run
from gmi.settings import plain
from gmi.targets.module import ModuleTarget
from gmi.targets.served import Served
from gmi.training.targets import record_of

LIMITS = (
    "One target, one prior, one search, one level of access: a stronger attack may recover more.",
    "Intervals speak of people like those audited, with this prior and these judges; seeds were not varied.",
    "Other people were not matched for sex, age or skin: part of an AUC above 0.5 may be such traits.",
    "Judges err more for some groups of people than for others, and so do match rates.",
    "A failure to recover people is never proof that a model is safe.",
)
PACKAGES = ("torch", "torchvision", "accelerate", "diffusers", "facenet-pytorch", "lpips", "dlib-bin", "numpy", "scipy")


def write(
    run: Run,
    plan: Audit,
    inputs: Inputs,
    oracle: AnyOracle,
    found: Releases,
    judged: Judged,
    probed: Mapping[str, Tensor],
    spent: Mapping[str, Spent],
    more: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Everything that the report is rendered from; more: what stands beside the verdict.

    The same shards give the same files, but for times.
    """
    people, judges = inputs.people, inputs.judges
    seen = [scoring.recognise(one, judged.templates[one.name], people, found, plan.fmrs) for one in judges.faces]
    results = [row for one in seen for row in scoring.identities(one)]
    for one in judges.faces:
        results += literature.pair_matches(one, judged.templates[one.name], people, found, plan.fmrs)
    results += literature.figures(judged, seen[0].judge, people, found)
    facts = {(row.method, row.judge, row.metric): row.estimate for row in results}
    enrolled = literature.target_accuracy(judged, people)
    naive = facts["search", "target", "top1"]

    weakening = [checks.randomised(probed["logits"], probed["again"])] if "again" in probed else []
    early = []
    if "gradients" in probed:  # scores and labels are what they are, and no gradient is asked for
        weakening.insert(0, checks.softmaxed(probed["logits"]))
        early.append(checks.dead_gradients(probed["gradients"]))
    early += [
        *weakening,
        checks.knows_its_people(enrolled),
        *_overlap(people, seen[0]),
        *([checks.unseen_weights()] if isinstance(inputs.target, Served) else []),
    ]
    stops = [flag.message for flag in early if flag.severity == "stop"]
    doubts = [flag.message for flag in weakening if flag.severity == "warning"]
    verdicts = scoring.verdicts(seen, stops, doubts)
    flags = [
        *early,
        checks.control_wins(scoring.advantages(seen[0])),
        checks.judges_disagree({name: one.finding for name, one in verdicts.items()}),
        checks.self_deception(naive, facts["search", seen[0].judge, "rank1"]),
        *(checks.rule_of_30(one.judge, one.thresholds) for one in seen),
        *(checks.faces_found(one.judge, judged.undetected[one.judge]) for one in seen),
    ]
    queries = {name: one.queries for name, one in spent.items() if one.queries and not name.startswith("oracle")}
    seconds = {name: one.seconds for name, one in spent.items()} | {f"judge {k}": v for k, v in judged.seconds.items()}
    report = {
        "schema_version": 1,
        "name": plan.name,
        "authorisation": None if plan.authorisation is None else plain(plan.authorisation),
        "defence": _defence(plan),
        "gmi": version("gmi"),
        "verdict": _verdict(verdicts[seen[0].judge], seen[0].judge, str(plan.access)) | {"naive": as_json(naive)},
        "judges": [_judge(one, judged.undetected[one.judge]) for one in seen],
        "results": [row.plain() for row in results],
        "gap": [row for one in seen for row in scoring.gaps(one)],
        "people": scoring.exposed(seen[0]),
        "neighbours": dict(more),
        "checks": [asdict(flag) for flag in flags],
        "cost": {
            "queries": queries | {"total": sum(queries.values())},
            "reconstructions": len(found["search"]),
            "evaluations": _evaluations(plan.search, inputs.prior),
            "ledger": _ledger(oracle, plan.access.budget),
            "processes": PartialState().num_processes,
            "device": device.type,
            "seconds": seconds | {"total": sum(seconds.values())},
        },
        "data": _data(plan, people),
        "assets": _assets(plan),
        "provenance": _provenance(run, inputs.digests),
        "limits": list(LIMITS),
    }
    lines = "".join(json.dumps(row.plain(), allow_nan=False) + "\n" for row in results)
    run.write("scores.jsonl", lines.encode())
    samples = {f"{one.judge}/{name}": np.ravel(values) for one in seen for name, values in one.samples.items()}
    run.write("distributions.safetensors", save(samples))
    run.write("split.json", json.dumps(people.files, indent=1).encode())
    _strips(run, "shards/search", found["search"].images, found["search"].classes)
    if plan.report.images:
        mine = torch.isin(people.enrolment.classes, torch.tensor(people.attacked))
        _strips(run, "enrolment", people.enrolment.pixels[mine], people.enrolment.classes[mine])
    run.write("report.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())


def _ledger(oracle: AnyOracle, budget: int | None) -> dict[str, int | None] | None:
    """What was sent through an interface; None where the adversary has the model."""
    if not isinstance(oracle, Interface):
        return None
    people = {key: account.sent for key, account in oracle.ledger.by("person").items()}
    steps = oracle.ledger.by("step")
    own = steps[OWN_OPINION].sent if OWN_OPINION in steps else 0  # the auditor's questions, not the adversary's
    shared = people.pop(SHARED, 0) - own
    return {
        "budget": budget,
        "images": oracle.ledger.total.images,
        "sent": oracle.ledger.total.sent,
        "shared": shared,
        "own_opinion": own,
        "person_most": max(people.values(), default=0),
    }


def _evaluations(search: Any, prior: Prior) -> dict[str, int]:
    """Of networks, by the search, for each of its candidates."""
    passes = search.passes(prior)
    return {"prior": sum(passes), "prior_with_gradient": passes.with_gradient, "target": search.queries(prior)}


def _overlap(people: People, seen: Recognised) -> Iterator[checks.Flag]:
    private = [*people.training.digests, *people.enrolment.digests]
    yield checks.copies(private, () if people.public is None else people.public.digests)
    if seen.public is not None:
        yield checks.lookalikes(seen.public, seen.thresholds[-1])


def _verdict(verdict: Verdict, judge: str, granted: str) -> dict[str, Any]:
    smallest = verdict.smallest_effect
    return {
        "access": granted,
        "finding": verdict.finding,
        "because": list(verdict.because),
        "judge": judge,
        "metric": METRIC,
        "control": verdict.control,
        "advantage": as_json(verdict.advantage),
        "smallest_effect": as_json(smallest) if isinstance(smallest, Failed) else smallest,
    }


def _judge(seen: Recognised, undetected: Mapping[str, float]) -> dict[str, Any]:
    cuts = [asdict(cut) | {"trusted": cut.trusted} for cut in seen.thresholds]
    return {"name": seen.judge, "thresholds": cuts, "undetected": dict(undetected)}


def _data(plan: Audit, people: People) -> dict[str, Any]:
    return {
        "name": plan.data.name,
        "people": len(people.names),
        "attacked": len(people.attacked),
        "training_images": len(people.training),
        "enrolment_images": len(people.enrolment),
        "distractors": 0 if people.distractors is None else len(people.distractors.classes.unique()),
        "strangers": 0 if people.strangers is None else len(people.strangers),
        "public_images": 0 if people.public is None else len(people.public),
        "split_seed": plan.data.seed,
        "digest": people.digest,
    }


def _assets(plan: Audit) -> list[dict[str, Any]]:
    """Licence and terms of every default asset that the configuration names."""
    names = dict.fromkeys(text.removeprefix("asset:").split("/")[0] for text in _texts(plain(plan)))
    keys = ("name", "licence", "terms", "credit", "sha256")
    return [{key: record[key] for key in keys} for record in (provenance(fetch(name)) for name in names)]


def _texts(tree: JsonValue) -> Iterator[str]:
    if isinstance(tree, str) and tree.startswith("asset:"):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from _texts(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from _texts(part)


def _defence(plan: Audit) -> dict[str, Any] | None:
    """Of the target's training, and what was promised of differential privacy."""
    if not isinstance(plan.target, ModuleTarget) or plan.target.defence is None:
        return None
    record = record_of(plan.target)
    promise = None if record is None or record.promise is None else str(record.promise)
    return {"settings": plain(plan.target.defence), "promise": promise}


def _provenance(run: Run, digests: Mapping[str, JsonValue]) -> dict[str, Any]:
    packages = {name: version(name) for name in PACKAGES}
    started = datetime.fromtimestamp((run.folder / "config.yaml").stat().st_mtime, UTC)
    return {
        "config_digest": run.digest,
        "target_digest": digests["target"],
        "prior_digest": digests["prior"],
        "environment": {"python": platform.python_version(), "platform": platform.platform()} | packages,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _strips(run: Run, folder: str, images: Tensor, classes: Tensor) -> None:
    """For each class its images side by side, square, as a PNG: they are multiples of 1 / 255, so nothing is lost."""
    for person in classes.unique().tolist():
        name = f"{folder}/{person:04d}.png"
        if not (run.folder / name).exists():
            tiles = [_square(to_pil_image((one * 255).round().byte())) for one in images[classes == person]]
            strip = Image.new(tiles[0].mode, (sum(tile.width for tile in tiles), tiles[0].height))
            for place, tile in enumerate(tiles):
                strip.paste(tile, (place * tile.width, 0))
            strip.save(buffer := io.BytesIO(), "png")
            run.write(name, buffer.getvalue())


def _square(tile: Image.Image) -> Image.Image:
    """Centred on a white square."""
    side = max(tile.size)
    if tile.size == (side, side):
        return tile
    square = Image.new(tile.mode, (side, side), "white")
    square.paste(tile, ((side - tile.width) // 2, (side - tile.height) // 2))
    return square
