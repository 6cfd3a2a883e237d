"""Judges trained for an audit: they know planted classes, are the same at every start, and share no image with it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from gmi.data.images import Images
from gmi.data.people import Faces, People
from gmi.errors import GmiError
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judges
from gmi.inversion.plan import Audit
from gmi.judges.trained import TrainedJudge, TrainedRecogniser
from gmi.settings import read
from gmi.views import Input

CPU = torch.device("cpu")
CLASSES, SIDE = 6, 16


def shots(each: int, seed: int, colour: bool = False) -> np.ndarray:
    """Images (CLASSES, each, SIDE, SIDE[, 3]) of a bar whose angle is the class: moved, and with noise."""
    rng, rows = np.random.default_rng(seed), np.arange(SIDE) - SIDE / 2 + 0.5
    pictures = []
    for angle in np.arange(CLASSES) * np.pi / CLASSES:
        for _ in range(each):
            x, y = rows[None] - rng.uniform(-1.5, 1.5), rows[:, None] - rng.uniform(-1.5, 1.5)
            bar = np.clip(2 - np.abs(x * np.sin(angle) - y * np.cos(angle)), 0, 1) * 180
            pictures.append(np.clip(bar + rng.normal(20, 10, bar.shape), 0, 255).astype(np.uint8))
    grey = np.stack(pictures).reshape(CLASSES, each, SIDE, SIDE)
    return np.repeat(grey[..., None], 3, -1) if colour else grey


def write(folder: Path, pictures: np.ndarray) -> str:
    for number, group in enumerate(pictures):
        (folder / f"{number}").mkdir(parents=True)
        for take, picture in enumerate(group):
            Image.fromarray(picture).save(folder / f"{number}" / f"{take}.png")
    return str(folder)


def tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures.reshape(-1, 1, SIDE, SIDE)).float() / 255


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TrainedRecogniser:
    folder = write(tmp_path_factory.mktemp("bars") / "judge", shots(10, 0))
    return TrainedRecogniser(folder=folder, trained_on=frozenset({"bars"}), steps=40)


@pytest.fixture(scope="module")
def judge(plan):
    return plan.load(CPU)


def rank1(judge) -> float:
    """How often a new image's most similar other new image is one of its class."""
    left, right = (judge.embed(tensor(shots(4, seed))) for seed in (1, 2))
    labels = torch.arange(CLASSES).repeat_interleave(4)
    return float((labels[judge.similarity(left, right).argmax(1)] == labels).double().mean())


def test_it_knows_classes_by_images_that_it_never_saw(plan, judge):
    assert rank1(judge) > 0.9
    assert judge.misses == 0 and judge.embed(torch.zeros(0, 1, SIDE, SIDE)).shape == (0, 64)
    # templates are centred: over what it learnt from they have a mean of 0, so that cosines tell classes apart
    assert judge.embed(judge.images.pixels).mean(0).norm() < 0.2 * judge.embed(judge.images.pixels).norm(dim=1).mean()


def test_it_is_the_same_at_every_start_and_another_by_another_seed(plan):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    short, images = replace(plan, steps=5), tensor(shots(1, 3))
    first, again = short.load(CPU), short.load(CPU)
    assert torch.random.get_rng_state().equal(before)
    assert again.embed(images).equal(first.embed(images))
    assert not replace(short, seed=1).load(CPU).embed(images).allclose(first.embed(images), atol=0.1)


def test_it_does_not_depend_on_threads_and_a_run_knows_it(plan, judge):
    before, short, made = torch.get_num_threads(), replace(plan, steps=5), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(short.load(CPU).digest)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert made[0] == made[1] != replace(short, seed=1).load(CPU).digest
    inputs = SimpleNamespace(
        target=SimpleNamespace(digest="t"), prior=SimpleNamespace(digest="p"), guide=None, named={}
    )
    inputs.people, inputs.judges = SimpleNamespace(digest="d"), Judges((judge,))
    assert Inputs.digests.fget(inputs)["judges"] == {"trained": judge.digest}  # type: ignore[attr-defined]


def test_colour_sizes_and_a_network_of_ones_own(tmp_path):
    folder = write(tmp_path / "colour", shots(6, 0, colour=True))
    own = TrainedRecogniser(
        folder=folder,
        trained_on=frozenset({"bars"}),
        size=(8, 8),
        steps=2,
        factory="gmi.judges.trained:SmallEmbedder",
        arguments={"channels": 3, "width": 4, "features": 7},
    ).load(CPU)
    assert own.embed(torch.rand(2, 3, SIDE, SIDE)).shape == (2, 7) and own.images.bytes.shape[1:] == (3, 8, 8)


def people(training: Images) -> People:
    other = Images.of((tensor(shots(2, 8)) * 255).byte(), torch.arange(CLASSES).repeat_interleave(2))
    return People(tuple(map(str, range(CLASSES))), tuple(range(CLASSES)), training, other, {})


def test_it_is_refused_where_it_learnt_from_an_image_of_the_audit(judge):
    target = SimpleNamespace(weights=lambda: [], trained_on=frozenset())
    mine = Images.of((tensor(shots(2, 9)) * 255).byte(), torch.arange(CLASSES).repeat_interleave(2))
    Judges((judge,)).refuse_dependent(target, None, "private", people(mine))  # type: ignore[arg-type]
    shared = Images.join([mine, Images.of(judge.images.bytes[:1], judge.images.classes[:1])])
    known = Images.of(judge.images.bytes[:2], judge.images.classes[:2])
    roles = {"strangers'": "distractors", "more strangers'": "strangers", "public": "public"}
    cases = {"training": people(shared)} | {
        said: replace(people(mine), **{role: known}) for said, role in roles.items()
    }
    for said, private in cases.items():
        with pytest.raises(GmiError, match=rf"trained judge is not independent: \d of the images .* are {said} images"):
            Judges((judge,)).refuse_dependent(target, None, "private", private)  # type: ignore[arg-type]
    twin = TrainedJudge("twin", frozenset({"x"}), lambda x: x.flatten(1), [], Input(size=(4, 4)), judge.images)
    with pytest.raises(GmiError, match="the trained judge's images, too"):
        Judges((judge, twin)).refuse_dependent(target, None, "private", people(mine))  # type: ignore[arg-type]
    with pytest.raises(GmiError, match="was trained on bars"):
        Judges((judge,)).refuse_dependent(target, None, "Bars", people(mine))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "nowhere"}, "judges: folder: there is no folder"),
        ({"factory": "nowhere:network"}, "The judge trained's factory"),
        ({"arguments": {"channels": 3}}, "The judge trained cannot be trained on .*channels"),
        ({"arguments": {"wings": 2}}, "The judge trained's factory"),
    ],
)
def test_mistakes_are_one_sentence(plan, changes, message):
    with pytest.raises(GmiError, match=message):
        replace(plan, **changes).load(CPU)


def test_objects_are_judged_by_judges_of_objects():
    plan = read("digits", Audit)
    assert {type(judge) for judge in plan.judges} == {TrainedRecogniser} and plan.data.subject == "objects"
    for judges in ([{"type": "dlib"}], [{"type": "onnx", "file": "f", "input": {"size": [8, 8]}, "trained_on": ["x"]}]):
        tree = {"judges": judges, "data": plan.data, "target": plan.target, "prior": plan.prior, "name": "x"}
        with pytest.raises(ValidationError, match=r"sees faces, and data\.subject is objects"):
            TypeAdapter(Audit).validate_python(tree)
        faces = Faces(name="x", folder="f")
        TypeAdapter(Audit).validate_python(tree | {"data": faces})
