"""Fills the tables of README.md and docs/ from results/*.json, results/tables.yaml and the report's words.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`. With --check nothing is written: where a page and
its results differ, one sentence says so and the exit code is 1.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from gmi.report.terms import AUDIT, KINDS, LADDER, label, number

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PLACE = re.compile(r"\{\{([^}]+)\}\}")
SUFFIX = {"share": ", %", "share difference": ", points"}
UNLABELLED = ("random_prior", "chance")  # parts whose rows have no labels of their own
LONG = 170  # seconds; from here on minutes are shown

Row = Mapping[str, Any]
Results = dict[str, dict[str, Any]]


class Mistake(Exception):
    """One sentence for whoever edits the pages or the results."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is out of date")
    check = parser.parse_args(arguments).check
    try:
        for path, text in pages(ROOT):
            if path.read_text("utf-8") == text:
                continue
            if check:
                raise Mistake(f"{path.relative_to(ROOT)} differs from its results: run python scripts/tables.py.")
            path.write_text(text, "utf-8")
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return 1
    return 0


def pages(root: Path) -> Iterator[tuple[Path, str]]:
    """Every page that has tables, as it should read. Raises Mistake for a table that is nowhere described."""
    results = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((root / "results").glob("*.json"))}
    tables = {name: partial(table, spec, results) for name, spec in specs(root).items()} | {"glossary": glossary}
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        text = path.read_text("utf-8")
        if unknown := {name for _, name, _ in MARK.findall(text)} - set(tables):
            raise Mistake(f"{path.relative_to(root)} has the table {min(unknown)}, which results/tables.yaml lacks.")
        yield path, MARK.sub(lambda match: f"{match[1]}\n{tables[match[2]]()}\n{match[3]}", text)


def specs(root: Path) -> dict[str, Any]:
    """The description of each table in results/tables.yaml; `names`, what labels are called, goes into all of them."""
    tables = yaml.safe_load((root / "results" / "tables.yaml").read_text("utf-8"))
    names = tables.pop("names")
    return {name: {"names": names} | spec for name, spec in tables.items()}


def table(spec: Mapping[str, Any], results: Results) -> str:
    """A table in Markdown: lines with figures in named places (`lines`), or rows laid out by their labels (`by`)."""
    if "lines" in spec:
        lines = [[PLACE.sub(lambda match: named(match[1], results), cell) for cell in line] for line in spec["lines"]]
        used = [words.split("|")[0].strip() for line in spec["lines"] for cell in line for words in PLACE.findall(cell)]
        text = markdown(spec["header"], lines)
    else:
        used = spec["from"]
        text = markdown(*pivot(spec, [flat for name in used for flat in rows(name, results)]))
    if not spec.get("sources", True):
        return text
    return text + "".join(source(name, results[name]) for name in dict.fromkeys(used)) + "\n"


def rows(name: str, results: Results) -> Iterator[dict[str, Any]]:
    """A file's rows, each with the file's own words: its name, what it is about, and its verdict."""
    if name not in results:
        raise Mistake(f"results/tables.yaml names {name}, but there is no results/{name}.json.")
    about = {"file": name, "about": results[name]["about"], "verdict": results[name].get("verdict", "")}
    return (about | row for row in results[name]["rows"])


def pivot(spec: Mapping[str, Any], results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines. by: labels and their titles; those without a title tell lines apart and are not shown.

    where, and each column but for its title: values that labels must have, one or a list; null where there is none.
    What has no labels of its own stands last.
    """
    keep = [row for row in results if matches(row, spec.get("where", {}))]
    columns = [(entry["title"], {k: value for k, value in entry.items() if k != "title"}) for entry in spec["columns"]]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in keep:
        if any(matches(row, wanted) for _, wanted in columns):
            labels = [str(row.get(name, "")) for name in spec["by"]]
            if row["part"] in UNLABELLED:
                labels[0] = row["part"]
            groups.setdefault(tuple(spec["names"].get(name, name) for name in labels), []).append(row)
    shown = [index for index, title in enumerate(spec["by"].values()) if title is not None]
    lines, units, before = [], [set() for _ in columns], None
    ordered = sorted(groups.items(), key=lambda item: item[1][0]["part"] in UNLABELLED)
    for key, group in ordered:
        lead = [key[index] for index in shown]
        line = ["" if before and lead[: index + 1] == before[: index + 1] else name for index, name in enumerate(lead)]
        line[-1], before = lead[-1], lead
        for column, (title, wanted) in enumerate(columns):
            here = [row for row in group if matches(row, wanted)]
            if len(here) > 1:
                raise Mistake(f"results/tables.yaml: {len(here)} rows fit the column {title!r} of {', '.join(key)}.")
            units[column] |= {row["unit"] for row in here}
            line.append(figure(here[0], bare=True) if here else "")
        lines.append(line)
    titles = [title for title in spec["by"].values() if title is not None]
    for (title, _), kinds in zip(columns, units, strict=True):
        titles.append(title + (SUFFIX.get(min(kinds), "") if len(kinds) == 1 else ""))
    return titles, lines


def matches(row: Row, wanted: Row) -> bool:
    return all(row.get(key) in (value if isinstance(value, list) else [value]) for key, value in wanted.items())


def named(words: str, results: Results) -> str:
    """The figure of `FILE | label=value | label=value`."""
    name, *labels = (part.strip() for part in words.split("|"))
    wanted: dict[str, Any] = dict(label.split("=", 1) for label in labels)
    fitting = [row for row in rows(name, results) if matches({key: str(row.get(key)) for key in wanted}, wanted)]
    if len(fitting) != 1:
        raise Mistake(f"results/tables.yaml: {len(fitting)} rows of results/{name}.json fit {{{{{words}}}}}, not one.")
    return figure(fitting[0])


def figure(row: Row, bare: bool = False) -> str:
    """A figure: `48 % [30, 62]`, `+0.10 [0.06, 0.14]`, `4 min`; bare: without the unit, which is in the title."""
    if "failed" in row:
        return "not known"
    unit, ends = row["unit"], [row["value"], row["low"], row["high"]]
    signed = "+" if unit.endswith("difference") and (row["value"] or 0) > 0 else ""
    after, show = "", partial(number, digits=3 if row["metric"] == "frechet" else 2)
    if unit.startswith("share"):
        ends = [None if end is None else 100 * end for end in ends]
        after = "" if bare else " %" if unit == "share" else " points"
        show = "{:.3g}".format if ends[1] is None else partial(number, digits=0)
    elif unit == "s" and (ends[0] or ends[1]) >= LONG:
        ends = [None if end is None else end / 60 for end in ends]
        after, show = " min", "{:.0f}".format
    elif unit in ("s", "GB", "MB", "GFLOP/s"):
        after, show = f" {unit}", "{:g}".format
    elif unit == "count":
        show = partial(number, digits=0)
    elif unit == "number" and ends[1] is None:
        show = "{:g}".format
    value, low, high = (None if end is None else show(end) for end in ends)
    if value is None:
        text = f"{low} to {high}{after}"
    else:
        text = f"{signed}{value}{after}" + ("" if low is None else f" [{low}, {high}]")
    if unit.endswith("difference") and row.get("finding") in ("less", "more"):
        text += f" **({row['finding']})**"
    return text.replace(" ", "\u00a0")  # a figure stays on one line


def source(name: str, result: Mapping[str, Any]) -> str:
    """The line of a list that says how, when and where the figures came about."""
    seeds = result["seeds"]
    facts = [result["date"], result["processor"]]
    facts += [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"] if seeds else []
    facts += [f"commit {result['commit']}"] if result["commit"] else []
    facts += ["by an earlier rule"] if result["source"] == "moved from README" else []
    return f"\n- `{name}`: `{result['command']}`; {', '.join(facts)}"


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if wrong := [line for line in lines if len(line) != len(header)]:
        raise Mistake(f"results/tables.yaml: the line {' | '.join(wrong[0])!r} has not {len(header)} cells.")
    table = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"


def glossary() -> str:
    """The words of the report pages, as `gmi/report/terms.py` has them."""
    titles = {"method": "What is scored", "judge": "Judges", "metric": "Metrics", "membership": "Membership tests"}
    titles |= {"audit": "An audit", "ladder": "Levels of access"}
    parts = []
    for kind, terms in ({"audit": AUDIT} | KINDS | {"ladder": LADDER}).items():
        lines = [[text.format(fmr="X %", k="k") for text in term] for term in terms.values()]
        parts.append(f"## {titles.get(kind, label(kind))}\n\n" + markdown(["Word", "Meaning"], lines))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
