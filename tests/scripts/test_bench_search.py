"""What an image of a search costs, as the benchmark prints it."""

import pytest
import torch
from reference.mixture import PATHS, Mixture

from gmi.priors.diffusion import DiffusionPrior
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from scripts import bench_search

CPU = torch.device("cpu")


def test_evaluations_seconds_and_memory_of_an_image(world, capsys):
    assert bench_search.cost(Gradient(steps=3, transforms=2), world.target, world.prior, 4, CPU) == 4
    text = capsys.readouterr().out
    assert "Of an image: 6 evaluations of the target,\n4 of the prior, 3 of these with a gradient" in text
    assert "batch    1: " in text and "batch    4: " in text and "MB at the peak" in text


@pytest.mark.parametrize("ceiling", [0.0, 1e9])
def test_the_verdict_is_the_ratio_of_the_prior_alone(world, capsys, monkeypatch, ceiling):
    monkeypatch.setattr(bench_search, "CEILING", ceiling)
    atoms = world.prior.decode(Rng(range(20)).normal(8)) * 2 - 1
    prior = DiffusionPrior(Mixture(atoms, 0.3, PATHS["flow"]), PATHS["flow"])
    assert bench_search.through_clean(Guided(steps=2), world.target, prior, 2, 1, CPU) == (ceiling > 0)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "clean / prior, with this target",
        "clean / prior, of the prior alone",
    ]
