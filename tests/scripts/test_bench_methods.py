"""A bench in the toy world: points cost what they asked, and grow without making the others again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gmi import toy
from gmi.audits import Hardware
from gmi.data.people import Faces
from gmi.errors import GmiError
from gmi.inversion.judging import Judges
from gmi.judges.face import Dlib
from gmi.oracles.access import ScoresOnly, WholeModel
from gmi.priors.gan import Gan
from gmi.run import Run
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.targets.module import ModuleTarget
from gmi.training.targets import Scratch
from gmi.views import Input
from scripts.bench_figures import judged
from scripts.bench_methods import Searches
from scripts.bench_plan import Bench, Images, Method, System

CPU = Hardware(torch.device("cpu"))
PEOPLE = 12
SMALL = Input(size=(toy.SIDE, toy.SIDE), colour="grey")
SYSTEM = System(target=ModuleTarget(factory="gmi.toy:target", input=SMALL), training=Scratch())
PLAN = Bench(
    name="toy",
    data=Faces(name="toy", folder="toy"),
    targets={"one": SYSTEM, "two": SYSTEM},
    priors={"GAN": Gan(folder="toy")},
    methods={
        "descent": Method(
            searches=(Gradient(steps=2), Gradient(steps=40, lr=0.15)),
            selection=Selection(pool=20, candidates=2, views=3, keep=1),
            priors=("GAN",),
        ),
        "evolution": Method(
            access=ScoresOnly(),
            searches=(Evolution(generations=3, population=5, radius=32**0.5),),
            selection=Selection(pool=20, candidates=1, keep=1),
            priors=("GAN",),
            targets=("one",),
        ),
    },
    baseline="descent",
    oracles={"GAN": "descent"},
    best_of={"GAN": (30,)},
    passes=(20, 100),
    seconds=(1e9,),
    judges=(Dlib(),),
    perceptual=None,
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def searches(tmp_path_factory) -> Searches:
    world = toy.inputs(PEOPLE, 1.0, 0)
    run = Run.open(tmp_path_factory.mktemp("bench") / "run", {"bench": "toy"})
    targets = {"one": world.target, "two": toy.inputs(PEOPLE, 1.0, 1).target}
    return Searches(PLAN, world.people, targets, {"GAN": world.prior}, run, CPU)


@pytest.fixture(scope="module")
def rows(searches: Searches) -> list[dict]:
    searches.refuse()
    searches.make("")
    return figures(searches)[0]


def figures(searches: Searches) -> tuple[list[dict], str]:
    panel = Judges((toy.Stranger(),))
    return judged(PLAN, searches.people, searches.targets, panel, searches.made(), searches.run, CPU)


def of(rows: list[dict], **labels: object) -> dict:
    (row,) = [row for row in rows if labels.items() <= row.items()]
    return row


def test_what_a_point_costs_is_what_its_settings_ask(rows):
    starts = 2 * 20  # both views of every sample
    expected = {"descent": starts + PEOPLE * 2 * (2 + 3), "evolution": starts + PEOPLE * 15, "best of N": 60}
    for method, asked in expected.items():
        passes = [row["value"] for row in rows if row["metric"] == "passes" and row["method"].startswith(f"{method}, ")]
        assert min(passes) == round(asked / PEOPLE)


def test_the_planted_people_are_found_by_who_looks_longer(rows):
    auc = {row["method"]: row["value"] for row in rows if row["metric"] == "auc" and row["target"] == "one"}
    few, many = sorted((name for name in auc if name.startswith("descent")), key=lambda name: int(name.split(", ")[1]))
    assert auc["oracle"] > auc[few] and auc[many] > max(auc[few], 0.7)


def test_points_stand_beside_the_baseline_and_the_oracle_of_their_target(rows):
    gains = [row for row in rows if row["part"] == "differences"]
    assert {row["method"].split(",")[0] for row in gains} == {"evolution", "best of N"}
    (against,) = {row["comparison"] for row in gains}
    assert against.startswith("descent, ") and against.endswith(", GAN")
    mine = of(rows, metric="rank1", target="one", method=gains[0]["method"], part="methods")["value"]
    longest = max(
        (row for row in rows if row["metric"] == "passes" and row["method"].startswith("descent")),
        key=lambda row: row["value"],
    )
    other = of(rows, metric="rank1", target="one", method=longest["method"], part="methods")["value"]
    assert of(gains, metric="gain.rank1", method=gains[0]["method"])["value"] == pytest.approx(mine - other, abs=1e-4)
    assert {row["target"] for row in rows if row["method"] == "oracle"} == {"one"}
    assert {row["target"] for row in rows if row["metric"] == "gap.rank1"} == {"one", "two"}


def test_a_budget_pays_for_the_costliest_point_within(rows):
    budgets = {row["column"] for row in rows if row["part"] == "budgets" and row["method"] == "descent"}
    assert budgets == {"20 passes", "100 passes", "1e+09 s"}
    few, many = (
        of(rows, part="budgets", method="descent", column=column, target="one", metric="rank1")["value"]
        for column in ("20 passes", "100 passes")
    )
    ranks = sorted(
        (int(row["method"].split(", ")[1]), row["value"])
        for row in rows
        if row["part"] == "methods" and row["metric"] == "rank1" and row["method"].startswith("descent")
        if row["target"] == "one"
    )
    assert [few, many] == [value for _, value in ranks]


def test_a_method_more_makes_none_of_the_others_again(searches, rows, capsys):
    before = {path: path.stat().st_mtime_ns for path in searches.run.folder.rglob("released/**/*.safetensors")}
    longer = {"longer": replace(PLAN.methods["evolution"], searches=(Evolution(generations=4, population=5),))}
    more = replace(searches, plan=replace(PLAN, methods={**PLAN.methods, **longer}))
    assert len(more.made()) == 2 and "one/gan/longer-0" in capsys.readouterr().out  # left out, and named
    more.make("one, GAN, longer")
    after = {path: path.stat().st_mtime_ns for path in searches.run.folder.rglob("released/**/*.safetensors")}
    assert len(after) == len(before) + 1 and before.items() <= after.items()


def test_times_of_another_processor_are_left_out(searches, rows):
    about = next(searches.run.folder.glob("shards/released/one/gan/evolution-0-*.json"))
    kept = about.read_text()
    about.write_text(json.dumps(json.loads(kept) | {"processor": "another"}))
    timed = [row["method"] for row in figures(searches)[0] if row["metric"] == "seconds"]
    about.write_text(kept)
    assert timed and not [method for method in timed if method.startswith("evolution")]


def test_another_search_of_the_same_name_is_judged_anew(searches, rows):
    other = replace(PLAN.methods["evolution"], access=WholeModel(), searches=(Gradient(steps=40),))
    changed = replace(searches, plan=replace(PLAN, methods={**PLAN.methods, "evolution": other}))
    changed.make("evolution")
    again = figures(changed)[0]
    before, after = (
        next(row["value"] for row in table if row["metric"] == "auc" and row["method"].startswith("evolution"))
        for table in (rows, again)
    )
    assert after > before


def test_images_of_another_tool_are_judged_beside_them(searches, rows, tmp_path: Path):
    given = tmp_path / "given.safetensors"
    people = searches.people.training
    first = [people.classes.tolist().index(person) for person in range(PEOPLE)]
    counts = torch.full((PEOPLE,), 7)
    save_file(
        {"images": people.bytes[first], "classes": people.classes[first], "passes": counts, "seconds": counts / 2},
        given,
    )
    few = tmp_path / "few.safetensors"
    save_file({"images": people.bytes[:1], "classes": people.classes[:1], "passes": counts, "seconds": counts / 2}, few)
    alien = replace(searches, plan=replace(PLAN, outside={"few": Images(file=str(few), target="one")}))
    with pytest.raises(GmiError, match="images of other people"):
        alien.make("few")
    outside = {"photographs": Images(file=str(given), target="one")}
    with_them = replace(searches, plan=replace(PLAN, outside=outside))
    with_them.make("photographs")
    rows, plot = figures(with_them)
    assert of(rows, metric="rank1", part="methods", method="photographs, 7", prior="pixels")["value"] > 2 / PEOPLE
    assert "photographs, pixels" in plot and "evaluations of the target for a person" in plot
