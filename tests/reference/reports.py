"""Reports as they are compared: what two runs of one audit may not differ in."""

from typing import Any


def timeless(report: dict[str, Any], *others: str) -> dict[str, Any]:
    """The report without when it was made; `others` are further keys of the provenance that may differ."""
    left_out = {"started", "finished", *others}
    assert left_out <= report["provenance"].keys()
    return report | {"provenance": {key: value for key, value in report["provenance"].items() if key not in left_out}}
