"""How often the verdict is wrong on real faces: a finished audit, scored as if its target knew other people.

    python -m scripts.calibrate_faces configs/quickstart.yaml runs/quickstart

Every class's images are scored as another person's, by a derangement of the people, over and over. That is what an
audit sees of a target whose labels were deranged before its training: sure of itself, and of nobody whom it names. The
oracle projection, which knows the people from their photographs, stays as it is.
Prints how often each finding comes out; evidence must not, but for chance.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from gmi.audits import Hardware, load
from gmi.inversion.audit import INVERSION, examine
from gmi.inversion.plan import Audit
from gmi.inversion.recognition import recognise
from gmi.inversion.scoring import verdicts
from gmi.inversion.verdict import settle
from gmi.run import Run
from gmi.settings import identity, read
from gmi.training.targets import derangement
from scripts.findings import shares
from scripts.record_result import record_script


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("run", type=Path, help="the folder of the finished audit")
    parser.add_argument("--draws", type=int, default=300, help="derangements")
    parser.add_argument("--record", action="store_true", help="write results/calibrate_faces.json")
    options, start = parser.parse_args(arguments), perf_counter()
    plan, hardware = read(options.config, Audit), Hardware(torch.device("cpu"))
    inputs = load(INVERSION, plan, hardware)
    run = Run.open(options.run, {"configuration": identity(plan), "inputs": inputs.digests})
    evidence, people = examine(plan, inputs, run, hardware), inputs.people
    counts: Counter[str] = Counter()
    ids = torch.tensor(people.attacked)
    for number in range(options.draws):
        order = ids[derangement(len(ids), number)]
        releases = {
            step: images
            if step == "oracle"
            else replace(images, classes=order[torch.searchsorted(ids, images.classes)])
            for step, images in evidence.releases.items()
        }
        recognised = [
            recognise(judge, evidence.judged.templates[judge.name], people, releases, plan.fmrs, seeds=len(plan.seeds))
            for judge in inputs.judges.faces
        ]
        counts[settle(verdicts(recognised, plan.notable)).finding] += 1
    rows = shares(counts, plan.name)
    if options.record:
        about = f"{options.draws} derangements of {plan.name}"
        record_script("calibrate_faces", about, rows, perf_counter() - start, f" {options.config} {options.run}")


if __name__ == "__main__":
    main()
