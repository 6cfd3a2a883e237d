"""What a search makes of the machine, as the benchmark measures it."""

from typing import Any

import pytest
import torch
from reference.mixture import PATHS, Mixture
from torch import Tensor, nn

from gmi.priors.diffusion import DiffusionPrior
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.targets.module import Input, Target
from scripts import bench_search

CPU = torch.device("cpu")


def test_the_memory_of_one_and_of_a_batch_is_told(world):
    assert [count for count, _ in bench_search.cost(Gradient(steps=1), world.target, world.prior, 4, 20, CPU)] == [1, 4]


class Counting(nn.Module):
    """A network of 16 px, which counts the images that it is shown, and those of which it is asked the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shown, self.back = nn.Linear(256, 6), 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.shown += len(images)
        if images.requires_grad:
            images.register_hook(lambda slope: setattr(self, "back", self.back + len(slope)))
        return self.layer(images.flatten(1))


@pytest.mark.parametrize(
    "search",
    [Gradient(steps=3, transforms=2), Guided(steps=4, heun=True), Guided(steps=4, through="clean", transforms=2)],
    ids=["gradient", "guided", "through the clean image"],
)
def test_the_bare_loop_asks_both_networks_as_often_as_the_search(world, search):
    prior: Any = world.prior
    if isinstance(search, Guided):
        atoms = prior.decode(Rng(range(20)).normal(8)) * 2 - 1
        prior = DiffusionPrior(Mixture(atoms, 0.3, PATHS["flow"]), PATHS["flow"])
    made = []
    name = "denoise" if isinstance(search, Guided) else "decode"
    whole = getattr(prior, name)
    object.__setattr__(prior, name, lambda *given: made.append(len(given[0])) or whole(*given))
    counts = []
    try:
        for work in (bench_search.searched, bench_search.bare):
            made.clear()
            module = Counting()
            target = Target(module, Input(size=(16, 16), colour="grey"), tuple("abcdef"))
            work(search, target, prior, 3, CPU)()
            counts.append((sum(made), module.shown, module.back))
    finally:
        object.__delattr__(prior, name)
    assert counts[0] == counts[1] and counts[0][1] == counts[0][2] == 3 * search.queries(prior)
