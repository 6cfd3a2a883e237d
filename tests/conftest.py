"""The toy world: a real generator of 16 px faces, people planted on its manifold, a target trained on them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

# before torch looks: the suite is about the CPU, on any machine, and its matrices are small: threads would wait for
# each other, and longest where other work shares the cores
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi import toy
from gmi.oracles.local import WhiteBox
from gmi.priors.gan import Dcgan
from gmi.rng import Rng, seed_of
from gmi.targets.module import Input, Target

PEOPLE = 6
LATENT = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest test first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_real.py")


@dataclass(frozen=True)
class World:
    prior: Dcgan
    target: Target
    truth: Tensor  # (PEOPLE, LATENT): the latent at the centre of each person's images

    def oracle(self) -> WhiteBox:
        return WhiteBox(self.target)


@pytest.fixture(scope="session")
def world() -> World:
    prior = toy.prior(LATENT)
    truth = F.normalize(Rng([seed_of(1, "person", person) for person in range(PEOPLE)]).normal(LATENT)) * LATENT**0.5
    classes = torch.arange(PEOPLE).repeat_interleave(24)
    nearby = Rng([seed_of(1, "image", image) for image in range(len(classes))]).normal(LATENT)
    images = prior.decode(truth[classes] + 0.25 * nearby)
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, PEOPLE))
    generator = torch.Generator().manual_seed(5)
    for value in module.parameters():
        nn.init.normal_(value, std=0.05, generator=generator)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        F.cross_entropy(module(images), classes).backward()
        optimiser.step()
    target = Target(module, Input(size=(16, 16), colour="grey"), tuple(f"p{i}" for i in range(PEOPLE)))
    return World(prior, target, truth)


def repeats(*cases: object, slow: tuple[object, ...]) -> list[object]:
    """Cases of a test, of which those in `slow` say the same once more and run with `-m slow` only."""
    return [*cases, *(pytest.param(case, marks=pytest.mark.slow) for case in slow)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For small matrices: two threads of two processes wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
