"""A baseline from outside: MIFace of the Adversarial Robustness Toolbox (ART) on the target of a configuration.

Fredrikson et al., Model Inversion Attacks that Exploit Confidence Information, CCS 2015, alg. 1: the target's
confidence in a person is climbed from a black image, pixel by pixel, without a prior. It is the library's attack with
its defaults, which this only calls and counts. Two things hold it back where a target is sure of itself:

- It goes on while the confidence is 1 - THRESHOLD or more, or no higher than at any of the last 100 steps: a person of
  whom the target is less than 0.01 sure is left after one step. With `--threshold 1` all steps are taken.
- The slope of a confidence near 0 is near 0 too. `--rate` lengthens the steps; `--climb logit` climbs what the softmax
  is taken of, which is another attack than the paper's (`--threshold 1000` takes all its steps).

FILE holds, for each of the attacked people in turn: `images` (A, C, H, W) as bytes, `classes` (A,), `passes` (A,), how
many images the target was shown, `slopes` (A,), through how many of these it was differentiated, and `seconds` (A,).

ART runs in an environment of its own: python -m venv ../art && ../art/bin/pip install . adversarial-robustness-toolbox

Example: ../art/bin/python scripts/miface.py quickstart --out runs/miface.safetensors --data.attacked 2
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from gmi import cli
from gmi.cli.options import configuring
from gmi.errors import GmiError
from gmi.inversion.plan import Audit
from gmi.targets.module import ModuleTarget, Target
from gmi.training.weights import refuse_untrained
from gmi.views import grey


def main(arguments: Sequence[str]) -> None:
    """Raises GmiError where ART is missing or the configuration's target is not at hand."""
    parser = configuring(__doc__ or "")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    parser.add_argument("--iterations", type=int, default=10000, help="steps for a person, at most (default: 10000)")
    parser.add_argument("--threshold", type=float, default=0.99, help="of the library's cost (default: 0.99)")
    parser.add_argument("--rate", type=float, default=0.1, help="the library's learning rate (default: 0.1)")
    parser.add_argument("--climb", choices=("confidence", "logit"), default="confidence", help="(default: confidence)")
    options, plan = cli.configured(parser, arguments, Audit)
    library, wrapper = _library()
    if not isinstance(plan.target, ModuleTarget):
        raise GmiError(f"target: {options.config} has one of type {plan.target.type}; MIFace needs one of type module.")
    people = plan.data.load()
    refuse_untrained(plan.target, plan.training, people)
    target = plan.target.load(people.names)
    model = Counted(target, options.climb == "confidence")
    channels = 1 if plan.target.input.colour.startswith("grey") else 3
    classifier = wrapper.PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),  # which the attack does not use
        input_shape=(channels, *plan.target.input.size),
        nb_classes=len(target.classes),
        clip_values=(0.0, 1.0),
        device_type="gpu" if torch.cuda.is_available() else "cpu",
    )
    attack = library.MIFace(
        classifier,
        max_iter=options.iterations,
        threshold=options.threshold,
        learning_rate=options.rate,
        verbose=False,
    )
    found = [inverted(attack, model, person) for person in tqdm(people.attacked, desc="people")]
    images = torch.stack([one.image for one in found])
    images = images if people.coloured else grey(images)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "images": (images * 255).round().byte().contiguous(),
            "classes": torch.tensor(people.attacked),
            "passes": torch.tensor([one.passes for one in found]),
            "slopes": torch.tensor([one.slopes for one in found]),
            "seconds": torch.tensor([one.seconds for one in found]),
        },
        options.out,
    )
    passes, seconds = (sum(getattr(one, key) for one in found) for key in ("passes", "seconds"))
    print(
        f"{options.out}: {len(found)} people, {passes / len(found):,.0f} passes and {seconds / len(found):.1f} s each"
    )


class Counted(nn.Module):
    """A target's answers (N, K) to images (N, C, H, W) in [0, 1], and how many images it was shown."""

    def __init__(self, target: Target, confidences: bool = True) -> None:
        """confidences: of the softmax; False: logits."""
        super().__init__()
        self.network, self._target = target.module, target  # ART moves the network to its device
        self._confidences = confidences
        self.passes = self.slopes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += len(images)
        logits = self._target(images)
        answers = logits.softmax(1) if self._confidences else logits
        if answers.requires_grad:
            answers.register_hook(self._differentiated)
        return answers

    def _differentiated(self, slopes: Tensor) -> None:
        self.slopes += len(slopes)


@dataclass(frozen=True)
class Found:
    """What the attack shows of a person, and what that took."""

    image: Tensor  # (C, H, W) in [0, 1]
    passes: int
    slopes: int
    seconds: float


def inverted(attack: Any, model: Counted, person: int) -> Found:
    """The library's attack for one person, from its own start, a black image."""
    model.passes = model.slopes = 0
    began = perf_counter()
    image = attack.infer(None, np.array([person]))[0]
    return Found(torch.from_numpy(image).float(), model.passes, model.slopes, perf_counter() - began)


def _library() -> tuple[Any, Any]:
    """ART's modules of the attack and of the classifier. Raises GmiError where they are missing."""
    try:
        return import_module("art.attacks.inference.model_inversion"), import_module("art.estimators.classification")
    except ImportError as error:
        raise GmiError(
            "This needs the Adversarial Robustness Toolbox, in an environment of its own: python -m venv ../art && "
            "../art/bin/pip install . adversarial-robustness-toolbox."
        ) from error


if __name__ == "__main__":
    cli.run(main)
