"""Targets that gmi trains: what is planted is learnt, what is frozen stays, and nothing is trained twice."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import yaml
from reference.bands import INPUT, PEOPLE, Net, accuracy, banded, seeded
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from gmi import cli
from gmi.assets.weights import digest, read_weights
from gmi.audits import Hardware
from gmi.cli.options import configuring, defended
from gmi.defences.base import Loss, cross_entropy_loss
from gmi.errors import GmiError
from gmi.inversion.inputs import load
from gmi.inversion.plan import Audit
from gmi.inversion.training import main as train_target
from gmi.settings import override, read
from gmi.targets.module import Input, Target
from gmi.targets.networks import FaceNetClassifier, SmallCnn
from gmi.training import weights
from gmi.training.targets import Head, Scratch, derangement
from gmi.training.weights import RECORD, record_of

LARGE = replace(INPUT, size=(64, 64))
HARDWARE = Hardware(torch.device("cpu"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lesson(count: int) -> tuple[Tensor, Loss]:
    """Images and what is to be learnt of them."""
    images = banded(count, 0)
    return images.bytes, cross_entropy_loss(images.classes)


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_learns_the_people_and_their_mirror_images_and_touches_nothing_else(bias):
    module = seeded(Net, bias=bias)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    steps: dict[int, float] = {}
    Head(steps=60)(module, INPUT, *lesson(8), steps.__setitem__)
    assert list(steps) == list(range(60)) and steps[59] < 0.1 < steps[0]
    fresh = banded(8, 1)
    assert accuracy(module, INPUT, fresh.pixels, fresh.classes) == 1
    assert accuracy(module, INPUT, fresh.pixels.flip(-1), fresh.classes) == 1
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == ({"head.weight", "head.bias"} if bias else {"head.weight"})


def trained(training: Head | Scratch) -> nn.Module:
    module = seeded(Net) if isinstance(training, Head) else seeded(SmallCnn, people=PEOPLE, width=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of dropout only
        training(module, INPUT if isinstance(training, Head) else LARGE, *lesson(8))
    return module


def test_a_network_learns_from_scratch():
    fresh = banded(8, 1)
    assert accuracy(trained(Scratch(steps=60, batch=16, lr=0.01)), LARGE, fresh.pixels, fresh.classes) == 1
    assert accuracy(seeded(SmallCnn, people=PEOPLE, width=4), LARGE, fresh.pixels, fresh.classes) < 0.7


@pytest.mark.parametrize("training", [Head(steps=5), Scratch(steps=2, batch=8)], ids=["head", "scratch"])
def test_a_seed_is_its_weights(training):
    first, again, other = (digest(trained(replace(training, seed=seed)).state_dict().items()) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("training", "people", "words"),
    [
        (Head(part="absent"), 3, "no part named 'absent'"),
        (Head(part="body.0"), 3, "body.0 is a Conv2d, not a linear layer"),
        (Head(), 2, "2 outputs for 3 people"),
        (Head(), 4, "4 outputs for 3 people"),
        (Scratch(), 2, "2 outputs for 3 people"),
        (Scratch(), 4, "4 outputs for 3 people"),
    ],
)
def test_training_that_does_not_fit_the_module(training, people, words):
    module = seeded(Net, people=people)
    before = digest(module.head.state_dict().items())
    with pytest.raises(GmiError, match=words):
        training(module, INPUT, *lesson(2))
    assert digest(module.head.state_dict().items()) == before


def test_a_facenet_backbone_stays_frozen():
    module = seeded(FaceNetClassifier, people=PEOPLE, backbone=None).train()
    assert module.training and module.head.training
    assert not any(part.training for part in module.backbone.modules())
    assert [name for name, value in module.named_parameters() if value.requires_grad] == ["head.weight", "head.bias"]
    before = digest(module.backbone.state_dict().items())
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    module(images).sum().backward()
    assert digest(module.backbone.state_dict().items()) == before  # batch statistics too
    target = Target(module, Input(size=(160, 160)), ("a", "b", "c"))
    logits, features = target.activations(images)
    assert features.shape == (2, 512) and logits.shape == (2, PEOPLE)
    torch.testing.assert_close(features.norm(dim=1), torch.full((2,), 8.0))


@pytest.fixture
def config(tmp_path) -> Path:
    """A configuration whose weights are to be trained."""
    images = banded(6, 0)
    for number, (image, person) in enumerate(zip(images.bytes, images.classes.tolist(), strict=True)):
        (tmp_path / "faces" / f"p{person}").mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(tmp_path / "faces" / f"p{person}" / f"{number}.png")
    target = {"factory": f"{__name__}:Net", "weights": str(tmp_path / "made" / "model.safetensors")}
    tree = {
        "name": "toy",
        "perceptual": None,
        "classifier": None,
        "data": {"name": "toy", "folder": str(tmp_path / "faces"), "enrolment": 2},
        "target": target | {"input": {"size": [16, 16], "colour": "grey"}},
        "training": {"type": "head", "steps": 30},
        "prior": {"type": "gan", "folder": "asset:dcgan-digiface"},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "toy.yaml"


def train(config: Path, *arguments: str) -> tuple[str, int, int]:
    """Digest of the weights that are there then, and when they and their record were written."""
    train_target([str(config), *arguments])
    weights = config.parent / "made" / "model.safetensors"
    times = [path.stat().st_mtime_ns for path in (weights, weights.with_name(RECORD))]
    return digest(sorted(read_weights(weights).items())), *times


def test_a_target_is_trained_once_for_each_split_and_training(config, capsys):
    first = train(config)
    assert "accuracy 1.000 on training, 1.000 on enrolment images" in capsys.readouterr().out
    assert train(config) == train(config, "--search.steps", "9", "--seeds", "[3]") == first
    for change in (["--data.seed", "1"], ["--training.steps", "31"], ["--training.seed", "1"]):
        assert all(new != old for new, old in zip(train(config, *change), first, strict=True))
    assert train(config)[0] == first[0]


def test_an_audit_takes_the_trained_target_and_refuses_one_of_another_split(config):
    made = train(config)[0]
    assert digest(sorted(load(read(config, Audit), HARDWARE).target.module.state_dict().items())) == made
    for change in (["--data.seed", "1"], ["--training.steps", "31"]):
        with pytest.raises(GmiError, match="another split of the people, with other settings"):
            load(override(read(config, Audit), change), HARDWARE)


@pytest.mark.parametrize("defence", ["{type: bottleneck, beta: 0.01}", "{type: dp-sgd, epsilon: 300, part: head}"])
def test_a_target_is_hardened_by_the_command_line_and_loaded_as_it_was(config, capsys, defence):
    plain = train(config)[0]
    options = ["--defence", defence, "--training.no-mirror"]
    with pytest.raises(GmiError, match="are another target's weights: name others"):
        train(config, *options)
    assert train(config)[0] == plain
    (config.parent / "made" / "model.safetensors").unlink()
    (config.parent / "made" / RECORD).unlink()
    made = train(config, *options)[0]
    assert made != plain
    printed = capsys.readouterr().out
    assert ("becomes group normalisation" in printed) == ("dp-sgd" in defence)
    assert "the weights fit a configuration with the same target.defence only" in printed
    assert ("epsilon 30" in printed or "epsilon 29" in printed) == ("dp-sgd" in defence)
    _, plan = cli.configured(defended(configuring("")), [str(config), *options], Audit)
    module = load(plan, HARDWARE).target.module
    assert digest(sorted(module.state_dict().items())) == made
    record = record_of(plan.target)
    assert (record.promise is not None) == ("dp-sgd" in defence)
    if record.promise is not None:
        assert 290 < record.promise.image.epsilon <= 300 and record.promise.images == 4
    with pytest.raises(GmiError, match="with other settings or by another gmi: gmi train-target"):
        load(override(read(config, Audit), ["--training.no-mirror"]), HARDWARE)


def test_a_defence_that_reads_wrong_is_refused(config):
    for text, words in (
        ("{type: armour}", "no type armour"),
        ("armour", "no type armour"),
        ("{type: dp-sgd}", "target.defence.epsilon: field required"),
        ("{type: erasing, most: 2}", "most"),
        ("{type", "cannot be read as YAML"),
    ):
        with pytest.raises(GmiError, match=words):
            cli.configured(defended(configuring("")), [str(config), "--defence", text], Audit)
    with pytest.raises(GmiError, match="needs the whole network to learn"):
        train(config, "--defence", "{type: erasing}")


def test_weights_of_a_killed_training_are_not_taken_for_others(config, monkeypatch):
    first = train(config)[0]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(weights, "asdict", Mock(side_effect=KeyboardInterrupt))  # between the weights and the record
        train(config, "--training.seed", "1")
    assert train(config)[0] == first


def test_a_damaged_record_is_refused_with_what_to_do(config):
    train(config)
    (config.parent / "made" / RECORD).write_text("{}")
    with pytest.raises(GmiError, match="remove it and train the target again"):
        record_of(read(config, Audit).target)


def test_nothing_to_train(config):
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"training": None}))
    with pytest.raises(GmiError, match="nothing to train"):
        train_target([str(config)])


def test_a_derangement_moves_everybody_and_a_deranged_target_names_nobody_right(config, capsys):
    for seed in range(20):
        order = derangement(5, seed)
        assert sorted(order.tolist()) == list(range(5)) and not (order == torch.arange(5)).any()
    train(config, "--training.deranged", "true")
    assert "accuracy 0.000 on training, 0.000 on enrolment images" in capsys.readouterr().out
