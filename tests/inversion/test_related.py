"""What stands beside the verdict: leaked templates by system and by photograph, and how well a student copies."""

from dataclasses import replace

import torch

from gmi import toy
from gmi.data.images import Images
from gmi.inversion.related import Passing, irreversibility
from gmi.inversion.validity import opened
from gmi.judges.face import Dlib, FaceNet
from gmi.metrics.statistics import Outcome
from gmi.targets.templates import TemplateTarget, first


def figures_of(rows: tuple[Passing, ...], like: Passing, method: str) -> dict[str, Outcome]:
    """The figures of another method, in the same system and beside the same photograph."""
    place = (like.judge, like.photograph, method)
    return next(row.figures for row in rows if (row.judge, row.photograph, row.method) == place)


def judge(name: str, seed: int) -> toy.Stranger:
    found = toy.Stranger(seed)
    found.name = name
    return found


def test_images_are_held_against_the_photograph_that_leaked_and_against_others():
    """An attack that gives the leaked photographs themselves: perfect beside these, and as alike as people are else."""
    people, system, other = toy.people(12, 0), judge("system", 1), judge("other", 2)
    leaked = people.training[first(people.training, 12)]
    classes = torch.arange(12)
    noise = torch.rand(12, *leaked.bytes.shape[1:], generator=torch.Generator().manual_seed(0))
    strangers = (noise * 255).round().byte()
    found = {
        "search": Images.of(leaked.bytes, classes),
        "best_of_n": Images.of(leaked.bytes.roll(1, 0), classes),
        "random": Images.of(strangers, classes),
    }
    sets = {"training": people.training.pixels, "enrolment": people.enrolment.pixels}
    sets |= {name: some.pixels for name, some in found.items()}
    templates = {one.name: {name: one.embed(pixels) for name, pixels in sets.items()} for one in (system, other)}
    plan = replace(toy.plan(), target=TemplateTarget(recogniser=Dlib()), judges=(FaceNet(),))
    rows = irreversibility(plan, people, templates, found, system, [other])
    figures = {
        (row.system, row.photograph, row.method): {metric: one.value for metric, one in row.figures.items()}
        for row in rows
    }
    assert len(rows) == len(figures) == 2 * 2 * 3
    for system_ in ("same", "other"):
        assert figures[system_, "leaked", "search"]["rank1"] == figures[system_, "leaked", "search"]["auc"] == 1
        assert 0.6 < figures[system_, "other", "search"]["rank1"] <= 1
        assert figures[system_, "leaked", "best_of_n"]["rank1"] < 0.2 > figures[system_, "other", "best_of_n"]["rank1"]
        assert figures[system_, "other", "random"].keys() == {"match@0.01", "match@0.001"}  # ranks are arithmetic
    flag = opened(rows, 0.01)
    assert flag.severity == "warning" and "100% of the images pass for their person" in flag.message
    shut = [replace(row, figures=figures_of(rows, row, "random")) if row.method == "search" else row for row in rows]
    assert opened(shut, 0.01).severity == "passed"
    own = replace(plan, target=TemplateTarget(recogniser=Dlib(), leaked="of unknown photographs"))
    assert irreversibility(own, people, templates, found, system, [other]) == tuple(
        row for row in rows if row.photograph == "other"
    )
