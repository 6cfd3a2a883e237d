"""Reasons to distrust an audit. Each check takes what the audit measured and gives a flag, also where all is well.

stop: no conclusion may be drawn. warning: read the finding with this in mind. note: worth knowing. passed: nothing.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from gmi.metrics.identity import Threshold
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome


@dataclass(frozen=True)
class Flag:
    """The outcome of a check."""

    name: str
    severity: Literal["stop", "warning", "note", "passed"]
    message: str
    bars_acquittal: bool = False  # whether nobody is acquitted where it is a warning


PUBLIC_PEOPLE = "overlap with the public set"


def softmaxed(logits: Tensor) -> Flag:
    """Probabilities in place of logits (N, K), or some of them: white-box objectives then have nearly no gradient."""
    name = "logits are logits"
    if logits.min() >= 0 and logits.sum(1).max() < 1 + 1e-3:
        return Flag(
            name, "warning", "The target's outputs are probabilities: hand over the layer before the softmax, or every "
            "white-box search is weaker than an adversary's.",
        )  # fmt: skip
    return Flag(name, "passed", "The target's outputs are not probabilities.")


def dead_gradients(norms: Tensor) -> Flag:
    """Norms (N,) of the cross-entropy's gradient in the latents; a defence that only masks gradients leaves none."""
    dead = float((norms < 1e-8).double().mean())
    if dead > 0.5:
        return Flag(
            "gradients",
            "warning",
            f"The target's gradient vanishes for {dead:.0%} of the prior's samples, so that this search could hardly "
            "work: a saturated or masked output is no protection. Audit it with scores or labels.",
        )
    return Flag("gradients", "passed", "The target's gradients reach the prior's latents.")


def flat(scores: Tensor) -> Flag:
    """Log-probabilities (N, K) that hold no more than labels: the best class has all, and the others are equal."""
    name = "scores tell more than labels"
    labels = [len(row.unique()) <= 2 and bool(row.max() > -1e-4) for row in scores]
    if sum(labels) > len(labels) / 2:
        return Flag(
            name,
            "warning",
            f"Of {sum(labels)} of {len(labels)} images the scores are 1 and 0: rounded so, they tell no more than "
            "labels, and a search by scores is weaker than an adversary's. Audit the target by labels.",
        )
    return Flag(name, "passed", "The scores tell more than the label.")


def softened(scores: Tensor) -> Flag:
    """Log-probabilities (N, K): of what were probabilities already, none differ by more than 1 for any image."""
    name = "scores are softmaxed once"
    if bool(((scores.max(1).values - scores.min(1).values) <= 1).all()):
        return Flag(
            name,
            "warning",
            "The target is sure of nobody, as if its outputs were probabilities and a softmax was taken once more. If "
            "so, hand over the layer before its softmax; of one that is served, say target.gives: probabilities.",
        )
    return Flag(name, "passed", "The scores are not softmaxed twice.")


def randomised(first: Tensor, second: Tensor) -> Flag:
    """The same images asked twice (N, K)."""
    gap = float((first - second).abs().max())
    if gap > 1e-3 * max(1.0, float(first.abs().max())):
        return Flag(
            "repeatable target",
            "warning",
            f"The target answers the same image differently (up to {gap:.2g} in its logits): a search that does not "
            "average over its randomness is weaker than an adversary's, and a resumed run differs.",
        )
    return Flag("repeatable target", "passed", "The target answers the same image in the same way.")


def unaudited(outputs: int, people: int) -> Flag:
    """Whether a model has outputs for more than the people, and one background class."""
    name = "whom the model knows"
    if outputs > people + 1:
        return Flag(
            name,
            "warning",
            f"The model has {outputs} outputs, and {people} people have photographs in this audit: its finding is "
            "about these alone, whoever chose them.",
        )
    return Flag(name, "passed", "The model has no outputs for people without photographs in this audit.")


def copies(common: int, public: int) -> Flag:
    """How many of so many public images are images of the people's own."""
    if not public:
        return Flag("public copies", "note", "No public set was given, so its overlap with the people is unknown.")
    if common:
        return Flag("public copies", "stop", f"{common} public images are images of the private set: remove them.")
    return Flag("public copies", "passed", f"None of {public} public images is an image of the private set.")


def public_people(best: Array, people: int, genuine: Array, impostor: Array) -> Flag:
    """Images of the audited people among public ones, found one by one.

    best: similarity (N,) of each public image to the person whom it is most like.
    people: of how many.
    genuine: (G,) of the people's own photographs to them.
    impostor: (M,) of the people's photographs to each other.
    An image is suspicious that is as similar to somebody as half of her own photographs are. Strangers make some, too:
    how many is told by the exponential through the similarities that 1 % and 0.1 % of the impostor's comparisons
    exceed, which overstates the tail of a normal distribution.
    """
    name = PUBLIC_PEOPLE
    usual = float(np.nanmedian(genuine))
    suspicious = int((best >= usual).sum())
    often, seldom = np.nanquantile(impostor, (0.99, 0.999))
    scale = max(float(seldom - often), 1e-12)
    expected = min(1e-3 * 10 ** -((usual - seldom) / scale), 1.0) * len(best) * people
    found = f"{suspicious} of {len(best)} public images are as similar to one of the people as her own photographs"
    if suspicious > expected + 3 * np.sqrt(expected) + 3:
        return Flag(
            name,
            "warning",
            f"{found}, where strangers would make about {expected:.0f}: the public set probably shows some of the "
            "people. The verdict leaves the public set out; take these images out of it.",
        )
    return Flag(name, "passed", f"{found}; strangers make about {expected:.0f}.")


def control_wins(differences: Mapping[str, Outcome]) -> Flag:
    """Attack minus control by control: below 0 with its whole interval is a broken search or a broken measurement."""
    winners = [name for name, outcome in differences.items() if isinstance(outcome, Estimate) and outcome.high < 0]
    if winners:
        return Flag(
            "controls",
            "warning",
            f"The attack does worse than {', '.join(winners)}: its search works against the people.",
        )
    return Flag("controls", "passed", "No control is shown to do better than the attack.")


def judges_disagree(findings: Mapping[str, str]) -> Flag:
    """Agreement of the judges, each with its own finding."""
    listed = ", ".join(f"{judge}: {finding}" for judge, finding in findings.items())
    if len(findings) < 2:
        return Flag("second judge", "note", f"Only one independent face judge took part ({', '.join(findings)}).")
    if len(set(findings.values())) > 1:
        return Flag("second judge", "warning", f"The judges disagree ({listed}).")
    return Flag("second judge", "passed", f"The judges agree ({listed}).")


def group_sizes(groups: Sequence[str]) -> Flag:
    """The group of each person (K,): one who is alone in hers can never be told from her traits."""
    sizes = Counter(groups)
    alone = sum(size == 1 for size in sizes.values())
    if alone:
        return Flag(
            "groups",
            "warning",
            f"{alone} of {len(groups)} people are alone in their group of data.groups, and count as not told from "
            "their traits: give fewer and coarser labels, so that each group has five people or more.",
        )
    return Flag("groups", "passed", f"Each of the {len(sizes)} groups of people has at least {min(sizes.values())}.")


def found_groups(found: Mapping[str, Estimate], everybody: bool) -> Flag:
    """Groups of people of whom an attack finds more than chance, each with the AUC that it has.

    everybody: whether the attack is shown to find more than chance of all people together.
    """
    name = "groups that are found"
    if not found:
        return Flag(name, "passed", "No group alone is shown to be found.")
    listed = "; ".join(
        f"{group}, {each.people} people: {each.value:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"
        for group, each in found.items()
    )
    message = f"Of these groups more is found than of images that know nothing of the target, in AUC: {listed}."
    if everybody:
        return Flag(name, "note", message)
    return Flag(name, "warning", f"{message} A mean over everybody hides it.")


def defence_shown(defence: str, recorded: bool) -> Flag:
    """Whether the record of the configuration's own training shows the defence that it names."""
    if recorded:
        return Flag(
            "defence", "passed", f"The record beside the weights says that the target was trained with {defence}."
        )
    return Flag(
        "defence",
        "warning",
        f"That the target was trained with {defence} is stated by the configuration alone: it has no training with "
        "which a record beside the weights could be compared, and nothing in the weights shows it.",
    )


def training_stated(judge: str, trained_on: Collection[str]) -> Flag:
    """What a judge learnt from: if nobody says, nobody can tell that it never saw the people."""
    name = f"training data, {judge}"
    if trained_on:
        return Flag(name, "passed", f"It was trained on {', '.join(sorted(trained_on))}, and the target on none of it.")
    return Flag(
        name,
        "note",
        "What it was trained on is not stated: it may have seen the people or the target's data, and only its weights "
        "were compared with the target's.",
    )


def rule_of_30(judge: str, thresholds: Sequence[Threshold]) -> Flag:
    """Doddington et al. 2000."""
    few = [
        f"{cut.fmr:g} (worth {cut.effective:.0f}: truly {cut.rates[0]:.2g} to {cut.rates[1]:.2g})"
        for cut in thresholds
        if not cut.trusted
    ]
    if few:
        return Flag(
            f"rule of 30, {judge}",
            "warning",
            "Fewer than 30 independent false matches set the threshold at FMR "
            f"{' and '.join(few)}: match rates have wide intervals for it. More people, or data.strangers, mend that.",
        )
    return Flag(f"rule of 30, {judge}", "passed", "Every threshold rests on 30 independent false matches or more.")


def faces_found(judge: str, undetected: Mapping[str, float]) -> Flag:
    """Share of images by method in which the judge found no face and took a fixed box instead."""
    name = f"faces found, {judge}"
    worst = max(undetected, key=lambda method: undetected[method])
    message = f"{judge} found no face in up to {undetected[worst]:.0%} of images ({worst}) and took a fixed box."
    searched = undetected.get("search", 0.0)
    if searched > 0.25 and searched > 2 * undetected.get("oracle", 0.0):
        return Flag(
            name,
            "warning",
            f"{judge} found no face in {searched:.0%} of the search's images, and took a fixed box: whom it does not "
            "see there may be there all the same. Fewer steps, other views or a prior of faces alone mend it.",
        )
    return Flag(name, "note" if undetected[worst] > 0.1 else "passed", message)


def judge_sees(judge: str, genuine: Outcome) -> Flag:
    """The AUC of the people's own other photographs: a judge that is blind to them proves nothing by seeing nothing."""
    name = f"eyesight, {judge}"
    if isinstance(genuine, Failed):
        return Flag(
            name, "warning", f"Whether {judge} tells these people apart could not be measured: {genuine.failed}."
        )
    found = f"of the people's own other photographs, {genuine.value:.2f} [{genuine.low:.2f}, {genuine.high:.2f}]"
    if genuine.value < 0.9:
        return Flag(
            name,
            "warning",
            f"{judge} hardly tells these people apart: AUC {found}. Do photographs lie on their side, or show what it "
            "does not know? What it does not see is no evidence of safety.",
        )
    return Flag(name, "passed", f"{judge} tells these people apart: AUC {found}.")


def unseen_weights() -> Flag:
    """A note on a target that is only served."""
    return Flag(
        "judges and target",
        "note",
        "The target is only served: the names of its training sets were compared with the judges', its weights could "
        "not be. A judge that it was built from would take its own opinion for a person.",
    )


def knows_its_people(accuracy: Outcome) -> Flag:
    """The target's accuracy on enrolment images: of a model that knows nobody, nothing can be recovered."""
    if isinstance(accuracy, Failed):
        return Flag("target's accuracy", "warning", f"It could not be measured: {accuracy.failed}.")
    severity = "passed" if accuracy.value >= 0.8 else "warning"
    interval = f"[{accuracy.low:.1%}, {accuracy.high:.1%}]"
    message = f"The target names {accuracy.value:.1%} of the enrolment images right {interval}."
    if severity == "warning":
        message += (
            " Are its classes the people in sorted order, and images prepared as it expects? Look before you go on."
        )
    return Flag("target's accuracy", severity, message)


def self_deception(naive: Outcome, recognised: Outcome) -> Flag:
    """The target's accuracy on the reconstructions against an independent judge's rank-1."""
    if isinstance(naive, Failed) or isinstance(recognised, Failed):
        return Flag("naive figure", "note", "The target's own opinion could not be compared with a judge's.")
    opinion, judged = (f"{rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]" for rate in (naive, recognised))
    message = (
        f"The target takes {opinion} of the reconstructions for their person; "
        f"by an independent judge's rank-1 {judged}."
    )
    return Flag("naive figure", "note" if naive.value > recognised.value + 0.2 else "passed", message)
