"""Defences of a target's answers, against a generic solver, and what an interface behind them still says."""

import numpy as np
import pytest
import torch
from reference.networks import mlp
from safetensors.torch import load, load_file, save_file
from scipy.optimize import minimize
from torch import Tensor, nn

from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.oracles.access import LabelsOnly, ScoresOnly
from gmi.oracles.guards import Noise, Stealthy, generators_of, guard, nearest
from gmi.oracles.shape import Shape
from gmi.rng import Rng
from gmi.targets.module import Target
from gmi.targets.quality import profile as profile_of


def distributions(count: int, classes: int, sharp: float, seed: int) -> Tensor:
    return (sharp * Rng([seed * 1000 + one for one in range(count)]).normal(classes).double()).softmax(1)


def solved(scores: Tensor, usual: Tensor, room: float) -> np.ndarray:
    """argmin KL(p | usual) by sequential quadratic programming: p = scores + up - down, sum(up + down) <= room."""
    f, q = scores.numpy(), usual.numpy()
    count = len(f)

    def far(moves: np.ndarray) -> float:
        p = np.maximum(f + moves[:count] - moves[count:], 1e-12)
        return float((p * np.log(p / q)).sum())

    constraints = [
        {"type": "eq", "fun": lambda moves: moves[:count].sum() - moves[count:].sum()},
        {"type": "ineq", "fun": lambda moves: room - moves.sum()},
    ]
    bounds = [(0, 1)] * count + [(0, value) for value in f]
    start = np.concatenate([(q - f).clip(0), (f - q).clip(0)]) * min(1, room / np.abs(f - q).sum()) * 0.9
    found = minimize(
        far, start, bounds=bounds, constraints=constraints, method="SLSQP", options={"ftol": 1e-12, "maxiter": 500}
    )
    assert found.success
    return f + found.x[:count] - found.x[count:]


@pytest.mark.parametrize("room", [0.02, 0.3, 0.9])
def test_the_nearest_distribution_is_a_generic_solvers(room):
    scores, usual = distributions(6, 5, 2.0, 1), distributions(6, 5, 1.0, 2)
    ours = nearest(scores, usual, torch.full((6,), room))
    for own, q, found in zip(scores, usual, ours, strict=True):
        np.testing.assert_allclose(found.numpy(), solved(own, q, room), atol=2e-4)


def test_the_nearest_distribution_uses_all_the_room_and_no_more():
    scores, usual = distributions(200, 40, 3.0, 1), distributions(200, 40, 2.0, 2)
    room = torch.linspace(0, 2.5, 200)
    found = nearest(scores, usual, room)
    torch.testing.assert_close(found.sum(1), torch.ones(200).double())
    apart = (found - scores).abs().sum(1)
    reach = (scores - usual).abs().sum(1)
    torch.testing.assert_close(apart, torch.minimum(room.double(), reach))
    assert found.min() >= 0


@pytest.fixture
def profile(world, tmp_path):
    usual = torch.full((6, 6), 0.02) + 0.88 * torch.eye(6)
    save_file({"profile": usual}, tmp_path / "profile.safetensors", {"target": world.target.digest})
    return str(tmp_path / "profile.safetensors")


def pictures(world, count: int) -> Tensor:
    return world.prior.decode(world.prior.sample(Rng(range(count)))).clamp(0, 1)


def test_a_stealthy_answer_is_within_its_reach_and_the_same_each_time(world, profile):
    images = pictures(world, 50)
    plain = ScoresOnly().open(world.target, None).scores(images).double().exp()
    defended = ScoresOnly(defences=(Stealthy(profile=profile, epsilon=0.5),)).open(world.target, None)
    shown = defended.scores(images).double().exp()
    room = 0.5 * torch.special.entr(plain).sum(1)
    assert ((shown - plain).abs().sum(1) <= room + 1e-5).all() and (shown - plain).abs().sum(
        1
    ).mean() > 0.1 * room.mean()
    again = ScoresOnly(repeats="asked", defences=(Stealthy(profile=profile),)).open(world.target, None)
    torch.testing.assert_close(again.scores(images.flip(0)).flip(0).double().exp(), shown)


def test_a_stealthy_answer_to_whom_the_target_knows_is_its_own(world, profile):
    """Without doubt there is no room: utility stays."""
    sure = 40 * torch.eye(6).double()
    images = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    shown = Stealthy(profile=profile).open(world.target, b"")(sure, images)
    torch.testing.assert_close(shown.exp(), sure.softmax(1), atol=1e-9, rtol=0)


def test_defences_come_one_after_another_and_before_the_shape(world, profile):
    images = pictures(world, 20)
    both = (Noise(scale=2.0), Stealthy(profile=profile))
    oracle = ScoresOnly(defences=both, shape=Shape(decimals=2)).open(world.target, None)
    bits = (images * 255).round().byte()
    secret, logits = world.target.digest.encode(), world.target(bits / 255).double()
    one = both[1].open(world.target, secret + b"\x01")(both[0].open(world.target, secret + b"\x00")(logits, bits), bits)
    torch.testing.assert_close(oracle.scores(images), Shape(decimals=2).read(Shape(decimals=2)(one)))
    labels = LabelsOnly(defences=both).open(world.target, None).labels(images)
    assert torch.equal(labels, one.argmax(1)) and not torch.equal(labels, logits.argmax(1))
    assert str(ScoresOnly(defences=both[:1], shape=Shape(top=3))) == "score (top 3) behind noise 2"
    assert torch.equal(guard((), world.target, b"")(logits, bits), logits)


def test_noise_does_not_average_away_over_repetitions_but_differs_between_images(world):
    images = pictures(world, 400)
    oracle = ScoresOnly(defences=(Noise(scale=0.7),), repeats="asked").open(world.target, None)
    first = oracle.scores(images)
    assert torch.equal(first, oracle.scores(images))
    apart = first - ScoresOnly().open(world.target, None).scores(images)
    spread = (apart - apart.mean(1, keepdim=True)).square().sum(1).mean() / 5  # K - 1 are free
    assert spread.sqrt().item() == pytest.approx(0.7, rel=0.06)  # 2,000 draws: 1.6 %, three and a half times


def test_draws_depend_on_image_and_secret():
    images = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
    base = generators_of(images, b"s").normal(4)
    assert torch.equal(base, generators_of(images, b"s").normal(4)) and not torch.equal(base[0], base[1])
    assert not torch.equal(base, generators_of(images, b"t").normal(4))


def test_two_noises_are_not_one_twice(world):
    images = pictures(world, 200)
    apart = [
        ScoresOnly(defences=(Noise(scale=0.5),) * count).open(world.target, None).scores(images)
        - ScoresOnly().open(world.target, None).scores(images)
        for count in (1, 2)
    ]
    one, two = ((some - some.mean(1, keepdim=True)).square().mean().sqrt().item() for some in apart)
    assert two / one == pytest.approx(2**0.5, rel=0.1)  # of one drawn twice: 2


def test_a_profile_is_what_a_target_usually_says_and_of_no_other(world, tmp_path):
    images = pictures(world, 30)
    known = Images((images * 255).round().byte(), torch.arange(30) % 6, ("",) * 30)
    (tmp_path / "profile.safetensors").write_bytes(profile_of(world.target, known))
    usual = load_file(tmp_path / "profile.safetensors")["profile"]
    scores = world.target(known.pixels).double().softmax(1)
    torch.testing.assert_close(usual, torch.stack([scores[one::6].mean(0) for one in range(6)]))
    access = ScoresOnly(defences=(Stealthy(profile=str(tmp_path / "profile.safetensors")),))
    assert access.open(world.target, None).scores(images).isfinite().all()
    other = Target(mlp(), world.target.input, world.target.classes)
    with pytest.raises(GmiError, match="is the profile of another target"):
        access.open(other, None)


class Scaled(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return 1e4 * values


def test_a_profile_of_a_sure_target_holds_no_zero(world):
    sure = Target(nn.Sequential(world.target.module, Scaled()), world.target.input, world.target.classes)
    known = Images(torch.zeros(6, 1, 16, 16, dtype=torch.uint8), torch.arange(6), ("",) * 6)
    assert (load(profile_of(sure, known))["profile"] > 0).all()


@pytest.mark.parametrize(("file", "words"), [(None, "name the profile"), ("absent", "cannot be read as a profile")])
def test_a_profile_that_is_not_there(world, tmp_path, file, words):
    stealthy = Stealthy(profile=None if file is None else str(tmp_path / file))
    with pytest.raises(GmiError, match=words):
        ScoresOnly(defences=(stealthy,)).open(world.target, None)
