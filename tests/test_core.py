"""Objectives, views, selection, target and prior: closed forms, invariances, and one sentence for each bad input."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from gmi.assets.weights import digest
from gmi.errors import GmiError
from gmi.inversion.release import release
from gmi.priors.gan import Gan
from gmi.rng import Rng, seed_of
from gmi.search.objectives import cross_entropy, logit, max_margin, poincare
from gmi.search.selection import keep_best, pool_scores, preselect, robust_scores
from gmi.targets.module import Input, ModuleTarget, Target
from gmi.views import Views

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
CLASSES = torch.tensor([0, 2])


def test_objectives_in_closed_form():
    torch.testing.assert_close(logit(LOGITS, CLASSES), torch.tensor([-2.0, -1.0]))
    torch.testing.assert_close(max_margin(LOGITS, CLASSES), torch.tensor([-1.5, 2.0]))
    expected = [
        math.log(sum(math.exp(t) for t in row)) - row[c] for row, c in zip(LOGITS.tolist(), [0, 2], strict=True)
    ]
    torch.testing.assert_close(cross_entropy(LOGITS, CLASSES), torch.tensor(expected))


@pytest.mark.parametrize("confidence", [1.0, 0.6])
def test_cross_entropy_with_a_confidence_is_that_with_a_soft_label(confidence):
    soft = torch.full(LOGITS.shape, (1 - confidence) / (LOGITS.shape[1] - 1))
    soft[torch.arange(len(CLASSES)), CLASSES] = confidence
    slow = F.cross_entropy(LOGITS, soft, reduction="none")
    torch.testing.assert_close(cross_entropy(LOGITS, CLASSES, confidence), slow)


def test_poincare_ignores_the_scale_and_mean_of_logits_and_prefers_the_class():
    torch.testing.assert_close(poincare(3 * LOGITS + 7, CLASSES), poincare(LOGITS, CLASSES))
    better = LOGITS + F.one_hot(CLASSES, 3)
    assert (poincare(better, CLASSES) < poincare(LOGITS, CLASSES)).all()


def test_rng_draws_do_not_depend_on_neighbours():
    together = Rng([1, 2, 3]).normal(4)
    torch.testing.assert_close(Rng([2]).normal(4)[0], together[1], rtol=0, atol=0)
    assert seed_of(0, "a", 11) != seed_of(0, "a1", 1)


def test_views_without_spread_are_the_image_itself():
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    still = Views(scale=(1.0, 1.0), shift=0.0, flip=False)
    torch.testing.assert_close(still(images, Rng(range(3))), images, rtol=0, atol=1e-5)


def test_noise_and_stretched_crops_are_as_wide_as_they_say():
    images = torch.linspace(0, 1, 33).expand(500, 1, 33, 33)  # brighter from left to right
    still = {"scale": (1.0, 1.0), "shift": 0.0, "flip": False}
    noisy = Views(**still, noise=0.06)(images, Rng(range(500))) - images
    assert abs(noisy.std() - 0.06) < 0.001 and abs(noisy.mean()) < 0.001
    stretched = Views(**still, ratio=(0.81, 1.0))(images, Rng(range(500)))
    ranges = (stretched[:, 0, 16, 24] - stretched[:, 0, 16, 8]) * 2  # of the width, before an edge is met
    assert 0.9 < ranges.min() < 0.91 and 0.99 < ranges.max() <= 1.001


def test_flips_come_about_half_the_time():
    images = torch.zeros(200, 1, 4, 4)
    images[..., 0] = 1
    flipped = Views(scale=(1.0, 1.0), shift=0.0)(images, Rng(range(200)))[:, 0, 0, -1] > 0.5
    assert 75 <= flipped.sum() <= 125  # 3.5 standard deviations


def test_released_figures_are_eight_bit_and_kill_pixel_patterns():
    checker = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 1.0
    out = release(checker.expand(1, 3, -1, -1) * 1.5 - 0.2)
    torch.testing.assert_close(out * 255, (out * 255).round())
    assert out.min() >= 0 and out.max() <= 1 and out.std() < 0.25  # the pattern's own deviation is 0.5
    flat = torch.full((1, 1, 32, 32), 0.5)
    torch.testing.assert_close(release(flat), flat, rtol=0, atol=1 / 255)


def test_preselection_and_final_selection():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.7]])
    assert preselect(scores, torch.tensor([1, 0]), 2).tolist() == [[0, 2], [1, 2]]
    kept = keep_best(torch.tensor([0.1, 0.9, 0.5, 0.4]), torch.tensor([7, 7, 3, 3]), 1)
    assert kept.tolist() == [1, 2]


def test_pool_scores_average_the_two_mirror_images(world):
    images = world.prior.decode(Rng(range(4)).normal(8))
    oracle = world.oracle()
    slow = (world.target(images).softmax(1) + world.target(images.flip(-1)).softmax(1)) / 2
    torch.testing.assert_close(pool_scores(oracle, images).exp(), slow)
    assert oracle.queries == 8


def test_robust_scores_do_not_depend_on_the_batch(world):
    images, classes = world.prior.decode(Rng(range(4)).normal(8)), torch.tensor([0, 1, 2, 3])
    together = robust_scores(world.oracle(), images, classes, Rng(range(4)), 3)
    alone = robust_scores(world.oracle(), images[2:3], classes[2:3], Rng([2]), 3)
    torch.testing.assert_close(alone[0], together[2])


def test_penultimate_features_feed_the_last_layer(world):
    images = world.prior.decode(world.truth)
    logits, features = world.target.activations(images)
    torch.testing.assert_close(world.target.module[-1](features), logits)
    torch.testing.assert_close(world.target(images), logits)


@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey", "grey as rgb"])
def test_an_input_is_in_single_precision_whatever_the_search_is_in(colour):
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    adapter = Input(size=(8, 8), colour=colour, mean=(0.5,), std=(0.25,))
    with torch.autocast("cpu", torch.bfloat16):
        inside = adapter(images)
    assert inside.dtype == torch.float32 and inside.equal(adapter(images))


def test_input_adapter():
    adapter = Input(size=(8, 8), colour="grey as rgb", mean=(0.5,), std=(0.25,))
    out = adapter(torch.ones(2, 3, 16, 16) * torch.tensor([1.0, 0.0, 0.0])[:, None, None])
    assert out.shape == (2, 3, 8, 8)
    torch.testing.assert_close(out, torch.full_like(out, (0.299 - 0.5) / 0.25))
    with pytest.raises(GmiError, match="4 channels"):
        adapter(torch.ones(1, 4, 8, 8))


def linear(**changes) -> ModuleTarget:
    settings = {
        "factory": "torch.nn:Linear",
        "arguments": {"in_features": 4, "out_features": 2},
        "input": Input(size=(2, 2)),
    }
    return ModuleTarget(**(settings | changes))


def test_a_target_round_trips_through_safetensors(tmp_path):
    module = nn.Linear(4, 2)
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    loaded = linear(weights=str(tmp_path / "model.safetensors")).load(("a", "b"))
    assert loaded.digest == digest(module.state_dict().items())


def test_bad_targets_are_one_sentence(tmp_path):
    nan = {"weight": torch.full((2, 4), torch.nan), "bias": torch.zeros(2)}
    save_file(nan, tmp_path / "nan.safetensors")
    save_file({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, tmp_path / "misfit.safetensors")
    torch.save(nn.Linear(4, 2), tmp_path / "pickled.pt")
    (tmp_path / "damaged.safetensors").write_bytes(b"not weights")
    for name, words in {
        "nan.safetensors": "NaN",
        "misfit.safetensors": "does not fit",
        "pickled.pt": "pickle",
        "damaged.safetensors": "cannot be read",
        "absent.safetensors": "no weights",
    }.items():
        with pytest.raises(GmiError, match=words):
            linear(weights=str(tmp_path / name)).load(("a", "b"))
    with pytest.raises(GmiError, match="cannot be imported"):
        linear(factory="no.such:thing").load(("a",))
    with pytest.raises(GmiError, match="class count"):
        Target(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), Input(size=(2, 2)), ("a", "b", "c"))(
            torch.rand(1, 3, 2, 2)
        )


def test_prior_folder_round_trip_and_refusals(world, tmp_path):
    config = {"type": "dcgan", "latent": 8, "channels": [16, 8], "size": 16, "colours": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(world.prior.state_dict(), tmp_path / "model.safetensors")
    prior = Gan(folder=str(tmp_path)).load(torch.device("cpu"))
    assert prior.digest == world.prior.digest
    torch.testing.assert_close(prior.decode(world.truth), world.prior.decode(world.truth))
    with pytest.raises(GmiError, match="no prior folder"):
        Gan(folder=str(tmp_path / "absent")).load(torch.device("cpu"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"size": 64}))
    with pytest.raises(GmiError, match="16 px, not 64"):
        Gan(folder=str(tmp_path)).load(torch.device("cpu"))


def test_what_a_factory_draws_is_the_same_each_time():
    """Or a run whose guide has a random head could not go on."""
    config = ModuleTarget(factory="reference.networks:mlp", input=Input(size=(16, 16), colour="grey"))
    state = torch.get_rng_state()
    first, again = (config.load(tuple("abcdef")).digest for _ in range(2))
    assert first == again and torch.equal(torch.get_rng_state(), state)
