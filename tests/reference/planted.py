"""A report.json with every kind of figure and failure in it, and a run folder around it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

EXAMPLE = """{
"schema_version": 12, "kind": "report", "name": "quickstart", "gmi": "0.1.0",
"subject": "faces",
"attacks": {"representatives": ["weights"], "membership": ["api"], "copying": ["api"]},
"authorisation": {"system": "Door 3", "allowed_by": "A. Owner, security", "until": "2027-01-31"},
"authorised": "2026-01-10T09:15:20+00:00",
"defence": {"settings": {"type": "dp-sgd", "epsilon": 8.0}, "recorded": true, "promise": "epsilon 8.00 for one image"},
"verdict": {"access": "white-box", "finding": "evidence of identity leakage",
    "because": ["The attack beats the control."],
    "effect": "Of 100 such people the images would lead to 50.", "judge": "dlib", "judges": {"dlib":
    "evidence of identity leakage", "facenet": "inconclusive"}, "metric": "auc", "notable": 0.1, "seeds": 1,
    "smallest_effect": 0.05, "people_needed": 42,
    "advantages": [{"attack": "search", "bound": 0.37, "matches": 0.12,
        "leak": {"value": 0.32, "low": 0.26, "high": 0.38, "n": 60, "people": 20},
        "identity": {"value": 0.21, "low": 0.13, "high": 0.29, "n": 60, "people": 20}},
        {"attack": "best_of_n", "bound": null, "matches": null, "leak": {"failed": "no face in 9 samples"},
        "identity": {"failed": "no face in 9 samples"}}],
    "optimising": {"value": 0.12, "low": 0.05, "high": 0.19, "n": 60, "people": 20},
    "worst_tenth": {"value": 0.97, "low": 0.91, "high": 1, "n": 60, "people": 20},
    "naive": {"value": 0.983, "low": 0.95, "high": 1, "n": 60, "people": 20}},
"judges": [{"name": "dlib", "undetected": {"enrolment": 0.02, "search": 0.1}, "thresholds": [
        {"fmr": 0.01, "value": -0.57, "comparisons": 15600, "false_matches": 156,
            "effective": 31.5, "rates": [0.0068, 0.0141], "trusted": true},
        {"fmr": 0.001, "value": -0.51, "comparisons": 15600, "false_matches": 15,
            "effective": 3.1, "rates": [0.0002, 0.0029], "trusted": false}]},
    {"name": "facenet", "undetected": {}, "thresholds": []}],
"results": [],
"gap": [{"judge": "dlib", "metric": "match@0.01", "headroom": {"failed": "no face in 3 projections"},
    "recovered": {"value": 0.74, "low": 0.62, "high": 0.86, "n": 60, "people": 20},
    "gap": {"value": 0.21, "low": 0.11, "high": 0.31, "n": 60, "people": 20}}],
"prior": [{"judge": "dlib", "samples": 60, "images": 200, "frechet": {"failed": "60 dimensions are too many"},
    "nearest": {"value": -0.61, "low": -0.63, "high": -0.59, "n": 20, "people": 20},
    "others": {"value": -0.57, "low": -0.59, "high": -0.55, "n": 20, "people": 20},
    "own": {"value": -0.17, "low": -0.19, "high": -0.15, "n": 20, "people": 20},
    "covered": {"value": 0.175, "low": 0.07, "high": 0.33, "n": 20, "people": 20},
    "frechet_own": {"value": 0.056, "low": 0.036, "high": 0.075, "n": 60, "people": 20}}],
"people": [{"person": "P07", "index": 7, "rank": 1, "auc": 1, "similarity": -0.4, "by_chance": 0.4,
        "matched": {"0.01": 1, "0.001": 0}},
    {"person": "P03", "index": 3, "rank": 2.5, "auc": 0.9, "similarity": null, "matched": {}, "by_chance": 0.72}],
"related": {"membership": {"notable": 0.1,
    "verdict": {"finding": "evidence of leakage", "because": ["The AUC of LiRA is high."]},
    "methods": [{"method": "LiRA",
        "auc": {"value": 0.71, "low": 0.66, "high": 0.76, "n": 400, "people": 20},
        "hits": {"0.1": {"value": 0.3, "low": 0.2, "high": 0.4, "n": 200, "people": 20},
            "0.01": {"failed": "too few"}}}]},
    "copying": {"agreement": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 200, "people": 20},
        "accuracy": {"value": 0.88, "low": 0.8, "high": 0.94, "n": 200, "people": 20}, "questions": 2500,
        "target_accuracy": {"value": 0.97, "low": 0.92, "high": 0.99, "n": 200, "people": 20}},
    "templates": null},
"checks": [{"name": "rule of 30", "severity": "warning", "message": "15 false matches are few.",
        "bars_acquittal": false},
    {"name": "overlap", "severity": "passed", "message": "No public image is near a private one.",
        "bars_acquittal": false}],
"cost": {"queries": {"total": 4240, "search": 4000, "selection": 240}, "reconstructions": 60,
"evaluations": {"prior": 51, "prior_with_gradient": 50, "target": 50},
    "ledger": {"budget": 5000,
    "images": 4200, "sent": 4240, "shared": 240, "own_opinion": 0, "person_most": 71},
    "seconds": {"search": 120.0, "total": 200.0}},
"data": {"name": "orl", "people": 40, "attacked": 20, "training_images": 200, "enrolment_images": 200,
    "distractors": 0, "strangers": 0, "public_images": 0, "left_out": [],
    "split_seed": 0, "digest": "0123456789abcdef"},
"evidence": {"evidence": "in the clear", "until": "2027-02-28"},
"assets": [{"name": "orl", "licence": "BSD", "terms": "research", "credit": "AT&T", "sha256": "DIGEST"}],
"provenance": {"config_digest": "DIGEST", "digests": {"target": "DIGEST", "prior": "DIGEST", "guide": null},
    "device": "cpu", "processes": 1, "files": {"scores.jsonl": "DIGEST"},
    "environment": {"python": "3.11.7", "torch": "2.14.1"},
    "started": "2026-01-10T09:12:00+00:00", "finished": "2026-01-10T09:15:20+00:00"},
"limits": ["Only one prior was tried."]
}""".replace("DIGEST", "0f" * 32)
RESULTS: list[tuple[str, str, str, tuple[float, ...] | str, float | None]] = [
    ("search", "dlib", "match@0.01", (0.67, 0.55, 0.78), 0.01),
    ("search", "dlib", "match@0.001", (0.2712, 0.1134, 0.4391), 0.001),
    ("best_of_n", "dlib", "match@0.01", (0, 0, 0.0295), 0.01),
    ("search", "dlib", "anymatch@0.01", (0.85, 0.71, 0.96), 0.0297),
    ("search", "dlib", "auc", (0.931, 0.902, 0.957), 0.5),
    ("lookalikes", "dlib", "auc_lookalikes", (0.52, 0.41, 0.63), 0.5),
    ("search", "dlib", "similarity", (-0.462, -0.4931, -0.4312), None),
    ("oracle", "facenet", "match@0.01", "no face in 3 projections", 0.01),
    ("search", "facenet", "rank1", (0.73, 0.6, 0.84), 0.025),
    ("mirror", "facenet", "sharpness", (12.5, 11.2, 13.9), None),
    ("search", "lpips-alex", "lpips_min", (0.41, 0.393, 0.428), None),
    ("search", "probe", "nearest", (1423.2, 1309.4, 1537.1), None),
    ("search", "target", "top1", (0.983, 0.95, 1), 0.025),
    ("search", "facenet", "frechet", "60 images are too few", None),
]


def est(*bounds: float) -> dict[str, Any]:
    return dict(zip(("value", "low", "high"), bounds, strict=True)) | {"n": 60, "people": 20}


def example(**changes: Any) -> dict[str, Any]:
    """A complete report.json."""
    report = json.loads(EXAMPLE) | changes
    for method, judge, metric, found, chance in RESULTS if "results" not in changes else ():
        row = {"method": method, "judge": judge, "metric": metric, "chance": chance}
        report["results"].append(row | {"estimate": {"failed": found} if isinstance(found, str) else est(*found)})
    return report


def write(folder: Path, report: dict[str, Any], images: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    Path(folder, "report.json").write_text(json.dumps(report), "utf-8")
    rng = np.random.default_rng(0)
    means = {"impostor": -0.8, "genuine": -0.4, "search": -0.5, "random": -0.75}
    samples = {f"dlib/{name}": rng.normal(mean, 0.1, 200).astype(np.float32) for name, mean in means.items()}
    samples["dlib/search"][:7] = np.nan
    save_file(samples, Path(folder, "distributions.safetensors"))
    for kind, count in (("enrolment", 7), ("search", 3), ("best_of_n", 1)) if images else ():
        Path(folder, "images", kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16 * count), np.uint8)).save(Path(folder, "images", kind, "0007.png"))
    return folder
