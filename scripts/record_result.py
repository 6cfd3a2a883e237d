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
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gmi.report import figures
from gmi.report.figures import Row, line

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "report": "audit",
    "ladder": "ladder",
    "comparison": "compare",
    "attributes": "attributes",
    "extraction": "extract",
    "watch": "watch",
}


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
        "rows": [*figures.rows(report), *(line("cost", {}, metric, took, "s") for metric, took in times.items())],
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
    """The hardware of a report's device: `2 cores, AMD EPYC 7B13, no GPU`, or the GPU's name; then `bf16`, if told."""
    device, *precision = device.split(", ")
    if device != "cpu":
        import torch

        return ", ".join([torch.cuda.get_device_name() if torch.cuda.is_available() else device, *precision])
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return ", ".join([f"{os.cpu_count()} cores, {name}, no GPU", *precision])


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the file with one row a line, so that a difference can be read."""
    head = json.dumps({key: value for key, value in content.items() if key != "rows"}, indent=1, ensure_ascii=False)
    body = ",\n".join("  " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in content["rows"])
    path.write_text(f'{head[:-2]},\n "rows": [\n{body}\n ]\n}}\n', "utf-8")


if __name__ == "__main__":
    sys.exit(main())
