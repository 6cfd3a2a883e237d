"""A world whose truth is planted, in which an audit takes a second: tests of recovery, calibration of the verdict.

People are points on a small prior's sphere, their photographs its decodings nearby. The target is a real network that
learns them, with a chosen share of the labels right; the judge has seen neither.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.data.images import Images
from gmi.data.people import Faces, People
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judges
from gmi.inversion.plan import Audit
from gmi.priors.gan import Dcgan, DcganShape, Gan
from gmi.rng import Rng, seed_of
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.targets.module import Input, ModuleTarget, Target

LATENT, SIDE = 32, 16
TRAINING, ENROLMENT = 6, 3  # images a person
SPREAD = 0.25  # of a person's latents, of which the people's own have spread 1


def prior(latent: int = LATENT) -> Dcgan:
    """A DCGAN with random but fixed weights: the statistics of a real one, none of its training."""
    made = Dcgan(DcganShape(type="dcgan", latent=latent, channels=(16, 8), size=SIDE, colours=1))
    generator = torch.Generator().manual_seed(3)
    for value in made.parameters():
        if value.ndim == 4:
            value.copy_(torch.randn(value.shape, generator=generator) / value[:, 0].numel() ** 0.5 * 1.5)
    return made


def truth(count: int, seed: int, traits: int = 0) -> Tensor:
    """Latents (count, LATENT) of the people themselves.

    traits: number of groups of look-alikes, person by person in turn; half of her variance is her group's. 0: none.
    """
    drawn = Rng([seed_of(seed, "person", person) for person in range(count)]).normal(LATENT)
    if traits:
        shared = Rng([seed_of(seed, "trait", person % traits) for person in range(count)]).normal(LATENT)
        drawn = drawn + shared
    return F.normalize(drawn) * LATENT**0.5


def people(count: int, seed: int, traits: int = 0) -> People:
    """People with six training and three enrolment images each, all grey; traits as in `truth`."""
    centres = truth(count, seed, traits)
    training, enrolment = (
        _photographs(centres, role, number, seed) for role, number in (("training", TRAINING), ("enrolment", ENROLMENT))
    )
    files = {
        f"{role}/{number}": [role, str(person), digest]
        for role, images in (("training", training), ("enrolment", enrolment))
        for number, (person, digest) in enumerate(zip(images.classes.tolist(), images.digests, strict=True))
    }
    return People(tuple(f"p{person}" for person in range(count)), tuple(range(count)), training, enrolment, files)


def target(photographs: Images, right: float, seed: int, traits: int = 0, steps: int = 150) -> Target:
    """A network trained with that share of the labels right and the others shuffled, until it knows them all.

    0 is the negative world: a target that is sure of itself and knows nobody. With traits, labels are shuffled within
    the groups of look-alikes only: it knows to which group somebody belongs.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "target"))
    labels = photographs.classes.clone()
    wrong = torch.randperm(len(labels), generator=generator)[round(right * len(labels)) :]
    for group in range(max(1, traits)):
        mine = wrong[labels[wrong] % max(1, traits) == group]
        labels[mine] = labels[mine[torch.randperm(len(mine), generator=generator)]]
    pixels, labels = torch.cat([photographs.pixels, photographs.pixels.flip(-1)]), labels.repeat(2)
    count = int(labels.max()) + 1
    adapter = Input(size=(SIDE, SIDE), colour="grey", mean=(0.5,))
    module = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, count))
    for value in module.parameters():
        nn.init.normal_(value, std=0.08, generator=generator)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(module(adapter(pixels)), labels).backward()
        optimiser.step()
    return Target(module, adapter, tuple(f"p{person}" for person in range(count)))


class Stranger:
    """A `FaceJudge`: a random projection of the image's coarse light and dark, compared by cosine.

    Coarse, as a real recogniser aligns what it is given: the shift by a pixel of every release is large at 16 pixels.
    Blind to mirroring, as faces are nearly their own mirror images, and selections ask about both.
    """

    name = "stranger"
    trained_on: frozenset[str] = frozenset()

    def __init__(self, seed: int = 7) -> None:
        self.misses = 0
        generator = torch.Generator().manual_seed(seed)
        self._projection = torch.randn(36, 64, generator=generator)

    def weights(self) -> Iterable[Tensor]:
        return (self._projection,)

    def embed(self, images: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(images.mean(1).cpu(), 6)
        coarse = (coarse + coarse.flip(-1)).flatten(1)
        return (coarse - coarse.mean(1, keepdim=True)) @ self._projection

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        return F.normalize(left) @ F.normalize(right).T


def inputs(count: int, right: float, seed: int, traits: int = 0) -> Inputs:
    """The inputs of a toy audit; the other arguments are those of `target`."""
    crowd = people(count, seed, traits)
    return Inputs(crowd, target(crowd.training, right, seed, traits), prior(), Judges((Stranger(),)))


def plan(seed: int = 0) -> Audit:
    """A short audit by the shipped rules."""
    return Audit(
        name="toy",
        data=Faces(name="toy", folder="toy"),
        target=ModuleTarget(factory="gmi.toy:target", input=Input(size=(SIDE, SIDE), colour="grey")),
        prior=Gan(folder="toy"),
        search=Gradient(steps=40, lr=0.15),
        selection=Selection(pool=40, candidates=1, views=4, keep=1),
        perceptual=None,
        classifier=None,
        seeds=(seed,),
    )


def _photographs(centres: Tensor, role: str, number: int, seed: int) -> Images:
    classes = torch.arange(len(centres)).repeat_interleave(number)
    near = Rng([seed_of(seed, role, index) for index in range(len(classes))]).normal(LATENT)
    pixels = (prior().decode(centres[classes] + SPREAD * near) * 255).round().byte()
    return Images.of(pixels, classes)
