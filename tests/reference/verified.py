"""A finished run whose figures come again from its pieces, whatever kind of audit it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmi.cli.verifying import again


def verified(kind: Any, plan: Any, inputs: Any, folder: Path, change: Callable[[dict], object], part: str) -> None:
    """Asserts that all is as reported, that a changed part differs, that nothing in the folder is touched, and that
    a folder without its pieces is not called false. `change` changes `part` of the report."""
    report = json.loads((folder / f"{kind.name}.json").read_text())
    before = contents(folder)
    found = [*again(kind, plan, inputs, folder, report)]
    assert {each.outcome for each in found} == {"as reported"}, [each for each in found if each.why]
    assert part in {each.what for each in found}
    change(report)
    differing = [each.what for each in again(kind, plan, inputs, folder, report) if each.outcome == "differs"]
    assert differing == [part]
    report["provenance"]["digests"] = {"gmi": "0"}
    (other,) = again(kind, plan, inputs, folder, report)
    assert other.outcome == "not checked" and "other inputs" in other.why
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, when it was written and what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
