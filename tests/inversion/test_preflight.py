"""Preflight: planted mistakes in how a target is asked are found, and the line that mends them is named."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gmi import toy
from gmi.audits import Hardware, conduct
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.audit import INVERSION
from gmi.inversion.judging import Answers
from gmi.inversion.preflight import assignment, refuse_ignorant
from gmi.oracles.access import ScoresOnly
from gmi.run import Run
from gmi.search.evolution import Evolution
from gmi.targets.module import Target
from gmi.targets.outputs import outputs
from gmi.targets.quality import refuse_unfit
from gmi.targets.served import Served
from gmi.views import Input

PEOPLE = 12
CPU = Hardware(torch.device("cpu"))


@pytest.fixture(scope="module")
def usual():
    return toy.inputs(PEOPLE, 1.0, 0)


class Permuted(nn.Module):
    """The same outputs in another order, with others beside them."""

    def __init__(self, module: nn.Module, order: list[int], before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.inner, self.order, self.before, self.after = module, order, before, after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.inner(images)[:, self.order]
        return torch.nn.functional.pad(logits, (self.before, self.after), value=-9.0)


def test_classes_in_another_order_stop_the_audit_and_the_order_is_found(usual, tmp_path):
    order = np.random.default_rng(0).permutation(PEOPLE).tolist()
    target = Target(Permuted(usual.target.module, order), usual.target.input, usual.target.classes)
    with pytest.raises(GmiError, match=r"no better than chance; its outputs stand in another order.*target\.outputs"):
        conduct(INVERSION, toy.plan(), tmp_path / "run", CPU, replace(usual, target=target))
    file = tmp_path / "run" / "outputs.txt"
    assert file.read_text().split() == [f"p{person}" for person in order]
    mended = Target(target.module, target.input, target.classes, outputs=outputs(str(file), target.classes))
    assert mended.digest != target.digest
    conduct(INVERSION, toy.plan(), tmp_path / "run", CPU, replace(usual, target=mended))  # nothing stands in its way
    assert file.is_file() and (tmp_path / "run" / "report.json").is_file()
    conduct(INVERSION, replace(toy.plan(), preflight=False), tmp_path / "on", CPU, replace(usual, target=target))
    with pytest.raises(GmiError, match="another configuration"):  # what was attacked is kept
        conduct(INVERSION, toy.plan(), tmp_path / "on", CPU, replace(usual, target=mended))
    with pytest.raises(GmiError, match="no better than chance"):  # of a run that went on all the same, too
        conduct(INVERSION, toy.plan(), tmp_path / "on", CPU, replace(usual, target=target))
    assert (tmp_path / "on" / "report.json").is_file() and any((tmp_path / "on" / "shards").rglob("*.safetensors"))


@pytest.mark.parametrize("served", [False, True])
def test_a_target_that_names_everybody_alike_is_told_what_to_check(usual, tmp_path, served):
    people, run = usual.people, Run.open(tmp_path / "run", {})
    same = torch.zeros(len(people.enrolment), dtype=torch.int64)
    answers = Answers(same, torch.full((len(same),), PEOPLE), PEOPLE)
    blind = nn.Sequential(nn.Flatten(), nn.Linear(people.enrolment.pixels[0].numel(), PEOPLE))
    nn.init.zeros_(blind[1].weight)
    target: Any = Target(blind, usual.target.input, people.names)
    if served:
        target = Served(lambda images: images, "labels", people.names, "digest")  # pyright: ignore[reportArgumentType]
    with pytest.raises(GmiError) as caught:
        refuse_ignorant(target, people, answers, run)
    assert "no better than chance; it names everybody alike" in str(caught.value)
    assert ("target.weights" in str(caught.value)) != served == ("what target says of its images" in str(caught.value))


def test_a_run_by_an_interface_is_mended_in_its_folder_where_the_weights_were_asked(usual, tmp_path):
    """An own model, audited as behind an interface: preflight looks at it, and the interface was not asked yet."""
    order = np.random.default_rng(0).permutation(PEOPLE).tolist()
    target = Target(Permuted(usual.target.module, order), usual.target.input, usual.target.classes)
    search = Evolution(generations=2, population=4, radius=32**0.5)
    plan = replace(toy.plan(), access=ScoresOnly(budget=5000), search=search)
    with pytest.raises(GmiError, match="another order"):
        conduct(INVERSION, plan, tmp_path / "run", CPU, replace(usual, target=target))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"outputs.txt", "error.log"}
    conduct(INVERSION, plan, tmp_path / "run", CPU, usual)


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "config.yaml.bak", "ledger.sqlite", "ledgers/notes.txt", "shards/search/0000.safetensors"],
)
def test_what_preflight_has_not_made_stays_with_all_the_rest(tmp_path, name):
    """A ledger, too: it knows how much of a budget is spent."""
    run = Run.open(tmp_path / "run", {})
    run.save("answers/target/enrolment/0000", {"named": torch.zeros(1)})
    other, log = run.folder / name, run.folder / "error.log"
    other.parent.mkdir(exist_ok=True, parents=True)
    other.write_text("mine")
    for draft in (".config.yaml-1", ".error.log-1", ".outputs.txt-1"):  # of starts that were killed
        (run.folder / draft).touch()
    run.void()
    assert (run.folder / "config.yaml").is_file() and run.has("answers/target/enrolment/0000") and other.is_file()
    other.unlink()
    log.write_text("what stopped it")
    run.void()
    assert log.is_file() and not run.has("answers/target/enrolment/0000")
    assert not (run.folder / "config.yaml").exists()


def test_an_order_is_mended_where_outputs_are_named_already(usual, tmp_path):
    """The file names a background class, and the people in a wrong order: the remedy names the same background."""
    order = np.random.default_rng(0).permutation(PEOPLE).tolist()
    module, names = Permuted(usual.target.module, order, 1), tmp_path / "names.txt"
    names.write_text("\n".join(["background", *usual.target.classes]))
    target = Target(module, usual.target.input, usual.target.classes, outputs=outputs(str(names), usual.target.classes))
    with pytest.raises(GmiError, match=r"another order.*target\.outputs: .*outputs\.txt"):
        conduct(INVERSION, toy.plan(), tmp_path / "run", CPU, replace(usual, target=target))
    file = tmp_path / "run" / "outputs.txt"
    assert file.read_text().split() == ["background", *(f"p{person}" for person in order)]
    mended = Target(module, target.input, target.classes, outputs=outputs(str(file), target.classes))
    torch.testing.assert_close(mended(usual.people.enrolment.pixels), usual.target(usual.people.enrolment.pixels))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mean": (1.0,), "std": (0.001,)}, r"mean: \[0\.5\] and target\.input\.std: \[0\.50?\d*\]"),
        ({"mean": (0.5,), "std": (-1.0,)}, r"with target\.input\.mean"),
    ],
    ids=["scale", "negative"],
)
def test_images_that_are_prepared_wrongly_stop_the_audit(usual, tmp_path, wrong, words):
    target = Target(usual.target.module, replace(usual.target.input, **wrong), usual.target.classes)
    with pytest.raises(GmiError, match=words):
        conduct(INVERSION, toy.plan(), tmp_path / "run", CPU, replace(usual, target=target))


def coloured(people: People) -> People:
    """The same people in colour: what is grey stands in red and green alone."""

    def paint(images):
        return replace(images, bytes=torch.cat([images.bytes, images.bytes // 2, 255 - images.bytes], 1))

    return replace(people, training=paint(people.training), enrolment=paint(people.enrolment))


def test_channels_in_another_order_stop_the_audit(usual, tmp_path):
    people = coloured(usual.people)
    adapter = Input(size=(toy.SIDE, toy.SIDE), mean=(0.5,))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * toy.SIDE**2, PEOPLE))
    pixels, optimiser = adapter(people.training.pixels), torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels), people.training.classes).backward()
        optimiser.step()
    target = Target(network, replace(adapter, colour="bgr"), usual.target.classes)
    with pytest.raises(GmiError, match=r"target\.input\.colour: rgb"):
        conduct(INVERSION, toy.plan(), tmp_path / "run", CPU, replace(usual, people=people, target=target))


def test_a_target_that_knows_nobody_has_no_remedy(tmp_path):
    with pytest.raises(GmiError, match=r"check target\.weights, target\.input .*preflight: false goes on"):
        conduct(INVERSION, toy.plan(), tmp_path / "run", CPU, toy.inputs(40, 0.0, 0))


@pytest.mark.parametrize(("before", "after", "name"), [(1, 0, "first"), (0, 1, "last")])
def test_a_background_class_is_named(usual, before, after, name, tmp_path):
    module = Permuted(usual.target.module, list(range(PEOPLE)), before, after)
    target = Target(module, usual.target.input, usual.target.classes)
    with pytest.raises(GmiError, match=f"without its {name} it knows them"):
        refuse_unfit(target, usual.people, False)
    names = ["background"] * before + list(target.classes) + ["background"] * after
    (tmp_path / "names.txt").write_text("\n".join(names))
    mended = Target(module, target.input, target.classes, outputs=outputs(str(tmp_path / "names.txt"), target.classes))
    refuse_unfit(mended, usual.people, False)
    torch.testing.assert_close(mended(usual.people.enrolment.pixels), usual.target(usual.people.enrolment.pixels))


def test_names_of_outputs_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\na\n")
    with pytest.raises(GmiError, match="a stands 2 times"):
        outputs(str(tmp_path / "names.txt"), ("a", "b"))
    with pytest.raises(GmiError, match="c stands 0 times"):
        outputs(str(tmp_path / "names.txt"), ("b", "c"))
    with pytest.raises(GmiError, match="cannot be read"):
        outputs(str(tmp_path / "none.txt"), ("b", "c"))


def test_an_order_is_the_assignment_with_most_votes():
    named = np.array([2, 2, 0, 0, 1, 1, 1])
    classes = np.array([0, 0, 1, 1, 2, 2, 0])
    np.testing.assert_array_equal(assignment(named, classes, 3), [1, 2, 0])
