"""A decision in the formats that continuous integration reads: SARIF 2.1.0 and JUnit's XML."""

import json
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gmi import files
from gmi.gate.policy import Decision, Judged

_LEVELS = {"missed": "error", "not known": "warning", "waived": "note"}


def sarif(decision: Decision, name: str, page: str) -> str:
    """Statements that are not met as results, for code scanning; those that are met are rules without a result.

    name: of the audit. page: its file, which a result points at. Fingerprints depend on audit and statement alone, so
    that the same finding is the same after a rerun.
    """
    results = [_result(each, name, page) for each in decision.statements if each.outcome != "met"]
    rules = [
        {"id": _rule(each.statement), "shortDescription": {"text": each.statement}} for each in decision.statements
    ]
    driver = {"name": "gmi", "version": version("gmi"), "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "results": results,
                "automationDetails": {"id": f"gmi/{name}/"},
                "properties": {"finished": decision.finished},  # when the figures were found
            }
        ],
    }
    return json.dumps(log, indent=1) + "\n"


def put(decision: Decision, name: str, page: Path) -> None:
    """Writes `policy.json`, `report.sarif` and `junit.xml` next to an audit's page."""
    files.put(page.with_name("policy.json"), json.dumps(asdict(decision), indent=1) + "\n")
    files.put(page.with_name("report.sarif"), sarif(decision, name, page.name))
    files.put(page.with_name("junit.xml"), junit(decision, name))


def _rule(statement: str) -> str:
    return "gmi/" + sha256(statement.encode()).hexdigest()[:12]


def _result(judged: Judged, name: str, page: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": _rule(judged.statement),
        "level": _LEVELS[judged.outcome],
        "message": {"text": f"{judged.statement}: {judged.outcome} ({judged.found})"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": page}}}],
        "partialFingerprints": {"gmi/v1": sha256(f"{name}\0{judged.statement}".encode()).hexdigest()},
    }
    if judged.outcome == "waived":
        result["suppressions"] = [{"kind": "external", "justification": judged.found}]
    return result


def junit(decision: Decision, name: str) -> str:
    """A test case for each statement: missed is a failure, not known an error, waived a case that was skipped."""
    kinds = {"missed": "failure", "not known": "error", "waived": "skipped"}
    counts = {kind: sum(kinds.get(each.outcome) == kind for each in decision.statements) for kind in kinds.values()}
    suite = ElementTree.Element(
        "testsuite",
        name=f"{name}: {decision.policy}",
        tests=str(len(decision.statements)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
    )
    if decision.finished is not None:  # when the figures were found
        suite.set("timestamp", datetime.fromisoformat(decision.finished).replace(tzinfo=None).isoformat())
    for each in decision.statements:
        case = ElementTree.SubElement(suite, "testcase", classname=f"gmi.{name}", name=each.statement)
        if each.outcome != "met":
            ElementTree.SubElement(case, kinds[each.outcome], message=each.found)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"
