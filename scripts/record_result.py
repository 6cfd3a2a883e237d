"""Writes results/NAME.json from a run folder: the figures of its report, and how they came about.

What is taken: figures with their intervals, counts, the verdict, time, seeds, processor and commit. What is left:
files, images, digests, and anything said of a single person.

    python scripts/record_result.py runs/quickstart --config quickstart
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "report": "audit",
    "ladder": "ladder",
    "comparison": "compare",
    "attributes": "attributes",
    "extraction": "extract",
}
OMITTED = {"people", "assets", "provenance", "checks", "limits", "authorisation", "gap", "advantage", "naive"}
OMITTED |= {"copies_by_record"}
LABELS = {"target", "arm", "rung", "access", "search", "attack", "column", "role", "system", "judge", "photograph"}
LABELS |= {"method", "metric", "comparison", "fmr", "finding", "group", "name"}
RENAMED = {"value": "group"}  # labels whose keys say something else in a results file
RENAMED_IN = {"judges": {"name": "judge"}, "arms": {"name": "arm"}}
COUNTS = {"queries", "common_queries", "person_queries", "records", "questions", "comparisons", "attacked", "gallery"}
COUNTS |= {"training_images", "enrolment_images", "samples", "reconstructions", "evaluations", "epsilon", "ledger"}
COUNTS |= {"distractors"}
SHARES = {"match", "anymatch", "pairmatch", "rank", "top", "hits", "accuracy", "copies", "originals", "agreement"}
SHARES |= {"share", "ratio", "calibration_error", "own_opinion", "precision", "recall", "coverage", "undetected"}
SHARES |= {"target_accuracy", "covered"}
DIFFERENCES = ("cost", "reduction", "gain", "contrast", "excess", "leak", "identity", "optimising")

Row = dict[str, Any]


class Mistake(Exception):
    """One sentence for whoever records a run."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    parser.add_argument("--config", required=True, metavar="NAME", help="a file of configs/, without its ending")
    parser.add_argument("--name", help="of the result, where it is not the configuration's")
    parser.add_argument("--about", help="what is audited, in a few words; without it those of the present file stay")
    parser.add_argument("--command", help="how it was run, where it was not `gmi KIND NAME`")
    parser.add_argument("--seconds", type=float, help="how long it took, where it was interrupted or resumed")
    options = parser.parse_args(arguments)
    path = ROOT / "results" / f"{options.name or options.config}.json"
    earlier = json.loads(path.read_text("utf-8")) if path.exists() else {}
    try:
        content = record(options.run, options.config, options.command, options.seconds)
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return 1
    write(path, content | {"about": options.about or earlier.get("about") or options.config})
    print(path.relative_to(ROOT))
    return 0


def record(folder: Path, config: str, command: str | None = None, seconds: float | None = None) -> dict[str, Any]:
    """The file's content. Raises Mistake for a folder without a report, and for a configuration that is not there."""
    if not (ROOT / "configs" / f"{config}.yaml").exists():
        raise Mistake(f"There is no configs/{config}.yaml: --config names the file that the run was made with.")
    kinds = [kind for kind in COMMANDS if (folder / f"{kind}.json").exists()]
    if not kinds:
        raise Mistake(f"{folder} holds none of {', '.join(f'{kind}.json' for kind in COMMANDS)}: finish the run first.")
    report = json.loads((folder / f"{kinds[0]}.json").read_text("utf-8"))
    finished, started = (datetime.fromisoformat(report["provenance"][end]) for end in ("finished", "started"))
    verdict = report.get("verdict") or {}
    times = {"seconds": seconds or (finished - started).total_seconds()}
    if count := report.get("cost", {}).get("reconstructions"):
        times["seconds.image"] = report["cost"]["seconds"]["search"] / count
    return {
        "config": f"configs/{config}.yaml",
        "about": config,
        "verdict": verdict.get("finding", ""),
        "command": command or f"gmi {COMMANDS[kinds[0]]} {config}",
        "date": finished.date().isoformat(),
        "commit": commit(),
        "processor": processor(report["provenance"]["device"]),
        "seeds": seeds(yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["config"]),
        "source": "scripts/record_result.py",
        "rows": [*walk(report, (), {}), *(line("cost", {}, metric, took, "s") for metric, took in times.items())],
    }


def record_script(
    name: str, about: str, rows: Sequence[Row], seconds: float, arguments: str = "", result: str | None = None
) -> None:
    """Writes results/RESULT.json, or NAME.json, from the figures of scripts/NAME.py; arguments: those it was given."""
    head = {"config": None, "about": about, "command": f"python -m scripts.{name}{arguments}", "verdict": ""}
    head |= {"date": datetime.now().date().isoformat(), "commit": commit(), "processor": processor("cpu")}
    took = line("cost", {}, "seconds", seconds, "s")
    head |= {"seeds": [0], "source": f"scripts/{name}.py"}
    write(ROOT / "results" / f"{result or name}.json", head | {"rows": [*rows, took]})


def walk(tree: Mapping[str, Any], keys: tuple[str, ...], labels: Mapping[str, str]) -> Iterator[Row]:
    """Every figure below. `keys`: those from the root, `*` for a list; labels: those of the lists' items."""
    if keys and keys[-1] == "*":
        renamed = RENAMED | RENAMED_IN.get(keys[-2], {})
        words = {renamed.get(key, key): value for key, value in tree.items() if isinstance(value, str)}
        words |= {"fmr": f"{tree['fmr']:g}"} if "fmr" in tree else {}
        labels = {**labels, **{key: word for key, word in words.items() if key in LABELS}}
    for key, value in tree.items():
        if key in OMITTED:
            continue
        part, metric = split((*keys, key))
        if isinstance(value, list):
            for item in value:
                yield from walk(item, (*keys, key, "*"), labels) if isinstance(item, dict) else ()
        elif isinstance(value, dict) and ({"value", "low", "high"} <= value.keys() or value.keys() == {"failed"}):
            metric = labels["metric"] if key == "estimate" else metric
            ends = None if "failed" in value else (value["value"], value["low"], value["high"])
            about = {name: value[name] for name in ("people", "failed") if name in value}
            yield line(part or "data", labels, metric, ends, unit(metric)) | about
            if key == "estimate" and labels.get("method") == "search" and tree.get("chance") is not None:
                yield line(part, {**labels, "method": "chance"}, metric, tree["chance"], unit(metric))
        elif isinstance(value, dict):
            yield from walk(value, (*keys, key), labels)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            above = keys[-1] if keys else ""
            if key in COUNTS or above in COUNTS:
                yield line(part or "data", labels, metric, value, "count")
            elif key == "own_opinion" or above in ("undetected", "chance"):
                yield line(part, labels, metric, value, unit(metric))


def unit(metric: str) -> str:
    base = (
        metric.split("@")[0].split(".")[-1].rstrip("0123456789")
        if not metric.startswith("undetected")
        else "undetected"
    )
    kind = "share" if base in SHARES else "area" if base == "auc" else "number"
    if metric.split(".")[0] in DIFFERENCES:
        return "share difference" if kind == "share" or metric in ("cost", "excess") else "area difference"
    return kind


def split(keys: tuple[str, ...]) -> tuple[str, str]:
    """The part of the report, which is the keys up to the last list, and the metric, which is the rest."""
    last = max((number for number, key in enumerate(keys) if key == "*"), default=len(keys) - 2)
    part = [key for key in keys[: last + 1] if key != "*"]
    rest = [key for key in keys[last + 1 :] if key not in ("figures", "estimate")]
    return ".".join(part), ("@" if rest[:1] == ["hits"] else ".").join(rest)


def line(part: str, labels: Mapping[str, str], metric: str, value: Any, unit: str) -> Row:
    """A row of the file. value: a number, or a figure with the ends of its interval."""
    value, low, high = value if isinstance(value, tuple) else (value, None, None)
    shown = {key: word for key, word in labels.items() if key != "metric"}
    return {"part": part, **shown, "metric": metric, "value": value, "low": low, "high": high, "unit": unit}


def seeds(config: Mapping[str, Any]) -> list[int]:
    """The seeds of the configuration that the run folder records, or of the audit in it."""
    for part in config.values():
        for plan in (part, part.get("audit", {})):
            if "seeds" in plan or "seed" in plan:
                return list(plan.get("seeds") or [plan["seed"]])
    return []


def commit() -> str | None:
    """The commit of this checkout, and whether gmi/ differs from it; None outside git."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "gmi"], capture_output=True).returncode
    return head.stdout.strip() + (" with changes" if changed else "") if head.returncode == 0 else None


def processor(device: str) -> str:
    """The hardware: `2 cores, AMD EPYC 7B13, no GPU`, or the GPU's name."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else device
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor() or platform.machine()}, no GPU"


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the file with one row a line, so that a difference can be read."""
    head = json.dumps({key: value for key, value in content.items() if key != "rows"}, indent=1, ensure_ascii=False)
    body = ",\n".join("  " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in content["rows"])
    path.write_text(f'{head[:-2]},\n "rows": [\n{body}\n ]\n}}\n', "utf-8")


if __name__ == "__main__":
    sys.exit(main())
