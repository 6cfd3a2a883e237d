"""Membership inference: was a photograph trained on?

"threshold" asks how sure the target is of the photograph's person (Yeom et al., Privacy Risk in Machine Learning, CSF
2018, sec. 3). "calibrated" asks how much surer it is than models that did not learn from the photograph (Watson et al.,
On the Importance of Difficulty Calibration in Membership Inference Attacks, ICLR 2022, sec. 3). "LiRA" asks how much
likelier that is of models that did than of models that did not (Carlini et al., Membership Inference Attacks From First
Principles, IEEE S&P 2022, alg. 1), and so has more to estimate of each. "RMIA" asks how many other photographs it is
likelier a member than (Zarifzadeh et al., Low-Cost High-Power Membership Inference Attacks, ICML 2024, eq. 2), which
needs few shadow models.

Differs from the papers: each photograph is asked once, not with its augmentations, and with few shadow models the
variances are those of all photographs together, as in sec. VI-C there. A target that is at hand is asked for its full
scores, whatever the audited interface shows: it is the owner's question. Members and others are photographs of the same
people: that a person was trained on tells nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import norm
from torch import Tensor

from gmi.data.people import People
from gmi.errors import GmiError
from gmi.metrics.detection import Detection, detection
from gmi.metrics.statistics import Array
from gmi.rng import Rng, seed_of
from gmi.run import Run
from gmi.settings import Rate, Whole, settings
from gmi.targets.module import ModuleTarget, Target
from gmi.training.targets import Head, Scratch, fit

_BATCH = 32


@settings
class Membership:
    """Membership inference by a threshold and, with shadow models, by three methods that compare."""

    shadows: Whole = 8  # models trained as the target was, on as many photographs; 0: the threshold alone
    # false-alarm rates at which hits are counted
    alarms: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.1, 0.01)

    def refuse(self, target: object, training: object, people: People) -> None:
        """Raises GmiError where shadow models cannot be trained, or would all learn from some photograph, or none."""
        if self.shadows == 1:
            raise GmiError("membership.shadows: two or more are needed, half of them without each photograph; or 0.")
        if self.shadows and (training is None or not isinstance(target, ModuleTarget)):
            raise GmiError(
                "membership.shadows: shadow models are trained as the target was, and the configuration has no "
                "training block for it: add one, or set membership.shadows: 0."
            )
        if self.shadows and (needed := _shadows(people)) > self.shadows:
            raise GmiError(
                f"membership.shadows: with {self.shadows} there are photographs from which all of them would learn, or "
                f"none: take {needed}."
            )


def infer(
    settings: Membership,
    target: Any,
    training: Head | Scratch | None,
    people: People,
    opinion: Callable[[Tensor, Tensor], Tensor],
    run: Run,
    device: torch.device,
) -> tuple[Detection, ...]:
    """A row for each method: areas and hits, intervals over people. opinion: the target's logits or log-probabilities.

    Shadow models' answers lie in the run folder, their weights nowhere.
    """
    pixels = torch.cat([people.training.bytes, people.enrolment.bytes])
    classes = torch.cat([people.training.classes, people.enrolment.classes])
    member = np.arange(len(classes)) < len(people.training)

    @torch.no_grad()
    def log_odds(ask: Callable[[Tensor, Tensor], Tensor]) -> Array:
        batches = zip(pixels.split(_BATCH), classes.split(_BATCH), strict=True)
        logits = torch.cat([ask((batch.float() / 255).to(device), whose).cpu() for batch, whose in batches])
        return confidence(logits, classes)

    (answer,) = run.each(
        ["membership/target"], lambda _: [{"log_odds": torch.from_numpy(log_odds(opinion))}], "membership"
    )
    odds = answer["log_odds"].numpy()
    scores = {"threshold": odds}
    if settings.shadows:
        assert isinstance(target, ModuleTarget) and training is not None
        names = [f"membership/shadow/{number}" for number in range(settings.shadows)]

        def shadow(name: str) -> dict[str, Tensor]:
            number = int(name.rpartition("/")[2])
            inside = learnt(classes, torch.from_numpy(member), settings.shadows, number)
            taught = replace(training, seed=seed_of(training.seed, "shadow", number) % 2**31)
            module = fit(target, taught, pixels[inside], classes[inside], device)
            model = Target(module, target.input, people.names)
            return {"log_odds": torch.from_numpy(log_odds(lambda images, _: model(images))), "inside": inside}

        pieces = [*run.each(names, lambda group: [shadow(name) for name in group], "shadow models")]
        answers, inside = (np.stack([piece[key].numpy() for piece in pieces]) for key in ("log_odds", "inside"))
        scores["calibrated"] = calibrated(odds, answers, inside)
        scores["LiRA"] = likelihood_ratio(odds, answers, inside)
        scores["RMIA"] = robust(odds, answers, inside)
    people_of = classes.numpy()
    return tuple(detection(name, values, member, people_of, settings.alarms) for name, values in scores.items())


def _shadows(people: People) -> int:
    """The fewest shadow models of which some learn from each photograph and others do not, by `learnt`."""
    count = len(people.names)
    taken, left = (torch.bincount(images.classes, minlength=count) for images in (people.training, people.enrolment))
    return int(((taken + left) / torch.minimum(taken, left).clamp_min(1)).ceil().max())


def confidence(logits: Tensor, classes: Tensor) -> Array:
    """Log-odds (N,) of each image's class: log p - log (1 - p). Carlini et al. 2022, sec. VI-A."""
    exact = logits.double()
    true = exact.gather(1, classes[:, None])
    others = exact.scatter(1, classes[:, None], -torch.inf).logsumexp(1)
    return (true[:, 0] - others).numpy()


def learnt(classes: Tensor, member: Tensor, count: int, number: int) -> Tensor:
    """The images (N,) that one of `count` shadow models learns from: as many of each person's as the target did.

    member: (N,) of those. Each person's images stand in a ring, in an order of her own; each model takes an arc of it,
    and the arcs begin at equal distances. So each image is in about as many models as any other of hers.
    """
    inside = torch.zeros(len(classes), dtype=torch.bool)
    for person in classes.unique().tolist():
        rows = (classes == person).nonzero()[:, 0]
        ring = Rng([seed_of(0, "shadows", person)]).uniform(len(rows))[0].argsort()
        taken = min(max(1, int(member[rows].sum())), len(rows) - 1)
        inside[rows[ring[(number * len(rows) // count + torch.arange(taken)) % len(rows)]]] = True
    return inside


def calibrated(odds: Array, shadows: Array, inside: NDArray[np.bool_]) -> Array:
    """The target's log-odds (N,) less the mean of those of shadow models (S, N) that did not learn from each image.

    Raises GmiError where all of them did.
    """
    return odds - _means(shadows, ~inside)


def likelihood_ratio(odds: Array, shadows: Array, inside: NDArray[np.bool_]) -> Array:
    """Log-likelihood ratio (N,) of the target's log-odds (N,) between models with and without each image (S, N).

    Means are each image's, variances those of all images together. Raises GmiError as `_means` does.
    """
    means, spreads = [], []
    for side in (inside, ~inside):
        mean = _means(shadows, side)
        freedom = max(int(side.sum()) - shadows.shape[1], 1)
        means.append(mean)
        spreads.append(max(np.sqrt((np.where(side, shadows - mean, 0.0) ** 2).sum() / freedom), 1e-6))
    return norm.logpdf(odds, means[0], spreads[0]) - norm.logpdf(odds, means[1], spreads[1])


def robust(odds: Array, shadows: Array, inside: NDArray[np.bool_]) -> Array:
    """Share (N,) of the other images z than which an image x is likelier a member.

    Pr_z [(p(x) / p_ref(x)) / (p(z) / p_ref(z)) >= 2]: Zarifzadeh et al., Low-Cost High-Power Membership Inference
    Attacks, ICML 2024, eq. 2 and 3. p is the probability of the image's person by the target, p_ref its mean over all
    models, in and out alike. A little of the ratio's logarithm decides between equal shares.

    Differs from the paper: z are members and others alike. Where z are others only, these are compared with one image
    fewer than members, which alone tells them apart where many shares are equal.
    """
    p = np.exp(-np.logaddexp(0.0, -shadows))
    reference = (_means(p, inside) + _means(p, ~inside)) / 2
    ratio = -np.logaddexp(0.0, -odds) - np.log(np.maximum(reference, 1e-300))
    wins = ratio[:, None] - ratio >= np.log(2)  # never against itself
    return wins.sum(1) / (len(odds) - 1) + 1e-4 * np.clip(ratio, -50, 50) / 50


def _means(shadows: Array, side: NDArray[np.bool_]) -> Array:
    """Each image's mean (N,) over the models on this side of it (S, N). Raises GmiError where there are none."""
    if not side.any(0).all():
        raise GmiError("membership: each photograph must be in some shadow models and not in others: take more.")
    return np.where(side, shadows, 0.0).sum(0) / side.sum(0)
