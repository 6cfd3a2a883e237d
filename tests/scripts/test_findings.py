"""Counts of findings over finished audits."""

import json
from pathlib import Path

import pytest

from scripts import findings


def finished(folder: Path, finding: str, leak: float) -> str:
    folder.mkdir(parents=True)
    verdict = {"finding": finding, "naive": {"value": 0.9}, "advantages": [{"leak": {"value": leak}}]}
    times = {"started": "2026-11-26T10:00:00+00:00", "finished": "2026-11-26T10:01:00+00:00"}
    (folder / "report.json").write_text(json.dumps({"name": "nobody", "verdict": verdict, "provenance": times}))
    return str(folder)


def test_findings_are_counted_with_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [finished(tmp_path / str(number), "inconclusive", 0.01 * number) for number in range(9)]
    runs.append(finished(tmp_path / "9", "evidence of trait leakage", 0.2))
    findings.main(runs)
    said = capsys.readouterr().out
    assert "evidence of trait leakage          10.0% [0.3%, 44.5%]" in said and "evidence: 1 of 10" in said
    assert "leak                                0.06 from 0.00 to 0.20" in said


def test_audits_of_several_names_are_not_counted_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = finished(tmp_path / "one", "inconclusive", 0.0)
    other = json.loads((tmp_path / "one" / "report.json").read_text()) | {"name": "somebody"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit):
        findings.main([one, str(tmp_path / "other")])
    assert "audits of nobody, somebody: give the runs of one configuration" in capsys.readouterr().err
