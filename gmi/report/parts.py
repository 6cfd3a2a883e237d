"""The parts of a report and its metrics in words, by their names in figures.csv."""

from gmi.report.page import worded_label
from gmi.report.subjects import reworded

PARTS = {
    "verdict.advantages": "Advantage over images that know nothing of the model",
    "results": "How often images are taken for their person",
    "related.membership.methods": "Whether a photograph was trained on",
    "related.copying": "How well a student copies the model",
    "related.templates": "Whom images from templates pass for",
    "points": "By level of access",
    "random_prior": "Samples of the prior, which know nothing of the model",
    "arms": "What each defence costs",
    "arms.leaks": "What it leaves to an adversary",
    "groups.rows": "By groups of people: gains over the imputation, and over everybody else's",
    "sets.training.methods": "The attribute of people in the training set; gains over an imputation without the model",
    "values": "Other values of the attribute, by the attack that adds most to each",
    "cost.ledger": "What the ledger of queries holds",
    "judges.thresholds": "Thresholds of the judges",
    "thresholds": "Thresholds of the judge",
    "data": "Records copied, in excess of a model that never saw them",
    "rows": "What samples copy",
    "white_box": "What the weights know",
    "control": "People at a camera: the control",
    "strangers": "People at the camera whom the target does not know",
    "traffic": "Attacks whose queries the watch looks at",
    "traffic.disguised": "The same attacks, hidden among photographs",
}
WORDS = {
    "leak": "AUC gained",
    "bound": "at most (95 %, one-sided)",
    "matches": "people matched beyond chance, at most",
    "identity": "among look-alikes",
    "agreement": "agrees with the model",
    "reduction.auc": "AUC less than undefended",
    "cost": "accuracy lost",
    "accuracy": "accuracy",
    "gain.accuracy": "gain",
    "gain.auc": "gain in AUC",
    "gain": "gain in AUC",
    "contrast": "beyond everybody else's",
    "copies": "samples that are copies",
    "originals": "records that are copied",
    "excess": "share",
    "queries": "queries",
    "windows": "windows",
    "flagged": "of them flagged",
    "first": "queries before the first alarm",
    "sent": "images sent before the first alarm",
    "person_most": "most queries about one person",
    "shared": "queries for everybody",
    "comparisons": "comparisons of different people",
    "calibration_error": "calibration error",
    "promise.image.epsilon": "epsilon for one image",
    "promise.person.epsilon": "epsilon for one person",
}
"""Metrics for which no page has a label."""


def word(metric: str, subject: str = "faces") -> str:
    """A metric in words."""
    base, _, at = metric.partition("@")
    if base == "hits":
        return f"hits at {100 * float(at):g} % false alarms"
    known = WORDS.get(metric) or WORDS.get(base)
    return worded_label(subject, metric) if known is None else reworded(known, subject)


def named(part: str, metric: str, subject: str = "faces") -> str:
    """A figure by its part and its metric, in words."""
    return f"{reworded(PARTS[part], subject)}, {word(metric, subject)}"
