"""People who are bright bands in noise: what is planted for trainings to learn, and a network that can."""

import torch
from torch import Tensor, nn

from gmi.data.images import Images
from gmi.targets.module import Input

PEOPLE = 3
INPUT = Input(size=(16, 16), colour="grey", mean=(0.5,), std=(0.25,))


def banded(count: int, seed: int) -> Images:
    """Noise, and a bright band two columns wide in the left half, whose place is the person's."""
    classes = torch.arange(PEOPLE).repeat(count)
    images = torch.randint(0, 100, (len(classes), 1, 16, 16), generator=torch.Generator().manual_seed(seed))
    images += 120 * (torch.arange(16) // 2 == classes[:, None])[:, None, None]
    return Images(images.to(torch.uint8), classes, ("",) * len(classes))


class Net(nn.Module):
    """A body with a batch norm, which must not move, and a head."""

    def __init__(self, people: int = PEOPLE, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(1024, 64))
        self.head = nn.Linear(64, people, bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).relu())


def seeded(factory: type[nn.Module], **arguments) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return factory(**arguments)


def accuracy(module: nn.Module, input: Input, images: Tensor, classes: Tensor) -> float:
    with torch.no_grad():
        return (module.eval()(input(images)).argmax(1) == classes).double().mean().item()
