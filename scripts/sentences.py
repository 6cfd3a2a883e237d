"""Writes docs/troubleshooting.md: every sentence with which gmi ends, as it stands in the code, by what it is about.

python scripts/sentences.py            # --check: fail if the page is not that of the code
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
ABOUT = {
    "The configuration and the command line": ("settings", "cli", "audits.py", "run", "processes.py", "__init__.py"),
    "People and photographs": ("data", "views.py"),
    "The target": ("targets", "assets/factory.py", "assets/weights.py", "assets/onnx", "oracles"),
    "The prior": ("priors",),
    "The search": ("search",),
    "Judges": ("judges",),
    "Training": ("training", "defences"),
    "Audits of faces, and before they start": ("inversion", "checks.py", "metrics"),
    "Ladders, watches and comparisons": ("ladder", "watching", "comparison"),
    "Tables": ("attributes",),
    "Generative models": ("extraction",),
    "Serving": ("serving",),
    "Evidence, policies, dossiers and trackers": ("evidence", "gate", "dossier", "tracking.py"),
    "Downloads and files of gmi": ("assets", "report", "errors.py", "files.py"),
}
"""Headings, and the parts of the package that each is about; the first that fits counts."""
HEAD = """# What does an error mean?

<!-- written by scripts/sentences.py -->

An error of gmi is one sentence, which says what to do, and the exit code is 2. Nothing that was finished is lost: the
same command goes on. `--traceback` after any command shows where it came from; a run that ended in one keeps that in
`error.log` of its folder. These are the sentences as they stand in the code; capitals stand for what differs.
"""


def sentences(path: Path) -> Iterator[str]:
    """The messages of errors that a module raises, in its order."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in ("GmiError", "Overspent", "Untrained", "Unsent", "BudgetSpent"):
                yield text(node.args[0])
            elif node.func.id == "foreign" and isinstance(node.args[0], ast.Lambda):
                yield text(node.args[0].body)


def text(node: ast.expr) -> str:
    """A message, with a word in capitals for each part that differs; empty where all of it does."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) if isinstance(part, ast.Constant) else named(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    return ""


def named(part: ast.expr) -> str:
    """The word for a part that differs, by the first name in it; a plural's ending stands in brackets.

    A suggestion, which may be there or not, is left out.
    """
    value = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult) and isinstance(value.left, ast.Constant):
        return f"({value.left.value})"
    names = [node.id if isinstance(node, ast.Name) else node.attr for node in ast.walk(value) if _names(node)]
    if names[:1] in (["near"], ["suggestion"], ["_near"]):
        return ""
    return next((name.strip("_").upper() for name in names if name not in ("self", "str", "len", "repr")), "…")


def _names(node: ast.AST) -> TypeGuard[ast.Name | ast.Attribute]:
    return isinstance(node, ast.Name | ast.Attribute)


def page() -> str:
    """The page."""
    found: dict[str, dict[str, None]] = {heading: {} for heading in ABOUT}
    for path in sorted((ROOT / "gmi").rglob("*.py")):
        place = path.relative_to(ROOT / "gmi").as_posix()
        for sentence in sentences(path):
            if len(re.findall(r"[a-z]{2,}", sentence)) >= 4:
                heading = next(name for name, parts in ABOUT.items() if place.startswith(parts))  # each file has one
                found[heading][" ".join(sentence.split())] = None
    lines = [HEAD]
    for heading, said in found.items():
        lines += [f"\n## {heading}\n", *(f"- {escaped(sentence)}" for sentence in said)]
    return "\n".join(lines) + "\n"


def escaped(sentence: str) -> str:
    """A sentence as Markdown shows it word for word."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", sentence)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the page is that of the code")
    if not parser.parse_args().check:
        PAGE.write_text(page(), "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != page():
        print("docs/troubleshooting.md is not that of the code: run python scripts/sentences.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
