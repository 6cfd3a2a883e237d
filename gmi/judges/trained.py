"""Judges that are made for an audit: trained on images of the same kind of classes, which nothing else there saw."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, JsonValue
from torch import Tensor, nn

from gmi.assets.factory import make_network
from gmi.assets.weights import digest
from gmi.data import folders, images
from gmi.data.images import Images
from gmi.errors import foreign
from gmi.judges.aligned import AlignedJudge
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Positive, Whole, settings
from gmi.views import Input, Views

Names = Annotated[frozenset[str], Field(min_length=1)]
VIEWS = Views(scale=(0.9, 1.1), shift=0.1, rotate=5.0, flip=False, exposure=0.3, noise=0.1)
"""What reconstructions may differ in from photographs, so that a judge has to look past it."""
_BATCH = 64


class TrainedJudge(AlignedJudge):
    """A `FaceJudge` of whole images. `images` are those that it learnt from: no role of the audit may share one."""

    def __init__(
        self,
        name: str,
        trained_on: frozenset[str],
        network: Callable[[Tensor], Tensor],
        weights: Iterable[Tensor],
        input: Input,
        learnt: Images,
    ) -> None:
        super().__init__(name, trained_on, network, list(weights), input, None)
        self.images = learnt

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, and of the images that it learnt from."""
        weights = digest((f"{number}", value) for number, value in enumerate(self.weights()))
        return sha256(f"{weights} {self.images.digest}".encode()).hexdigest()


class SmallEmbedder(nn.Module):
    """A plain convolutional network: images (N, C, H, W) to features (N, D)."""

    def __init__(self, channels: int, width: int = 32, features: int = 64) -> None:
        super().__init__()
        layers, before = [], channels
        for after in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
            before = after
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.features = nn.Linear(4 * before, features)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(self.convolutions(images))


@settings
class TrainedRecogniser:
    """A network trained to name the classes of a folder; its features are compared by cosines.

    AdamW on random views, with cross-entropy over a linear layer that is left out afterwards; on one thread of the CPU,
    so that every process and every start on one kind of machine makes the same judge. A run folder knows its digest.
    """

    type: Literal["trained"] = "trained"
    folder: str  # a folder of images per class; no image of the audit, but the same kind of classes
    trained_on: Names  # what these images are called; the judge is refused for a target that learnt from them
    # "package.module:callable" that returns a torch module of features (N, D): code that you name and therefore trust
    factory: str = "gmi.judges.trained:SmallEmbedder"
    arguments: dict[str, JsonValue] | None = None  # the factory's; None: {channels: 1 or 3}
    size: tuple[Count, Count] | None = None  # height, width to which images are fitted; None: they must have one size
    steps: Count = 500  # steps of AdamW
    lr: Positive = 4e-3  # greatest learning rate, which rises and falls along a cosine
    views: Views = VIEWS  # random views of the images
    seed: Whole = 0  # seed of everything that is random
    name: str = "trained"  # the judge's name in reports

    def load(self, device: torch.device) -> TrainedJudge:
        """The judge, trained now. Raises GmiError if the folder or the factory is unusable."""
        learnt, classes = _read(self.folder, self.size)
        channels, height, width = learnt.bytes.shape[1:]
        expected = Input(size=(height, width), colour="grey" if channels == 1 else "rgb", mean=(0.5,), std=(0.5,))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            arguments = {"channels": channels} if self.arguments is None else self.arguments
            network = make_network(self.factory, arguments, f"The judge {self.name}'s factory").float()
            with (
                one_thread(),
                foreign(lambda why: f"The judge {self.name} cannot be trained on {self.folder} ({why})."),
            ):
                middle = self._train(network, expected, learnt, classes)
        middle = middle.to(device)
        network.to(device)
        return TrainedJudge(
            self.name,
            self.trained_on,
            lambda inputs: network(inputs.to(device)) - middle,
            network.parameters(),
            expected,
            learnt,
        )

    def _train(self, network: nn.Module, expected: Input, learnt: Images, classes: int) -> Tensor:
        """Trains the network in place; the mean (D,) of its features over all images."""
        with torch.no_grad():
            features = network.eval()(expected(learnt.pixels[:2])).shape[1]
        module = nn.Sequential(network, nn.ReLU(), nn.Linear(features, classes)).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=self.steps)
        order = torch.Generator().manual_seed(self.seed)
        for step in range(self.steps):
            chosen = torch.randint(len(learnt), (_BATCH,), generator=order)
            rng = Rng([seed_of(self.seed, "judge", step, index) for index in range(_BATCH)])
            views = self.views(learnt.bytes[chosen].float() / 255, rng)
            loss = F.cross_entropy(module(expected(views)), learnt.classes[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        network.eval().requires_grad_(False)
        return torch.cat([network(expected(batch)) for batch in learnt.pixels.split(_BATCH)]).mean(0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever number of threads torch has besides."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read(folder: str, size: tuple[int, int] | None) -> tuple[Images, int]:
    """The images of a folder of classes, and how many classes there are."""
    names, files = folders.people(folders.folder(folder, "judges: folder"))
    return images.read([path for path, _, _ in files], [number for *_, number in files], size, "judges: size"), len(
        names
    )
