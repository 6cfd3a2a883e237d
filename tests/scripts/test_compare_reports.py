"""Two reports of the same people are compared person by person; of other people, not at all."""

import json

import pytest

from gmi.errors import GmiError
from scripts import compare_reports


def report(ranks, *, digest="a", classes=None, judge="dlib", images=None):
    people = [
        {
            "index": number,
            "rank": rank,
            "auc": 1 - (rank - 1) / 9,
            "similarity": -rank / 10,
            "matched": {"0.01": rank < 3},
        }
        for number, rank in zip(classes or range(len(ranks)), ranks, strict=True)
    ]
    return {
        "name": "toy",
        "data": {"digest": digest, "attacked": len(people)},
        "judges": [{"name": judge}],
        "people": people[::-1],
        "cost": {"reconstructions": images or len(people)},
    }


def test_pairs_make_narrow_intervals_where_people_differ_widely():
    """Everybody moves up by one rank of ten: 1/9 in AUC, whatever the spread between people."""
    one, other = report([1, 3, 5, 7, 9] * 4), report([2, 4, 6, 8, 10] * 4)
    found = dict(compare_reports.differences(one, other))
    assert list(found) == ["match@0.01", "rank1", "rank5", "auc", "similarity"]
    assert found["auc"].value == pytest.approx(1 / 9) and found["auc"].people == 20
    assert found["rank1"].value == pytest.approx(0.2) and found["rank1"].low > 0  # those who were second
    assert found["match@0.01"].value == 0 and found["match@0.01"].low < 0 < found["match@0.01"].high
    assert found["rank5"].value == pytest.approx(0.2)
    turned = dict(compare_reports.differences(other, one))
    assert turned["auc"].value == pytest.approx(-1 / 9)


def test_of_several_images_a_person_there_are_no_ranks():
    found = dict(compare_reports.differences(report([1, 2.5, 4], images=6), report([2, 3, 5])))
    assert "rank1" not in found and "auc" in found


@pytest.mark.parametrize(
    ("other", "words"),
    [({"digest": "b"}, "in the data"), ({"classes": [0, 2]}, "people attacked"), ({"judge": "facenet"}, "first judge")],
)
def test_other_people_are_refused(other, words):
    with pytest.raises(GmiError, match=words):
        list(compare_reports.differences(report([1, 2]), report([1, 2], **other)))


def test_the_command_prints_a_line_a_metric(tmp_path, capsys):
    for name, ranks in (("one", [1, 1, 2, 4]), ("other", [3, 2, 2, 9])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report(ranks)))
    compare_reports.main([str(tmp_path / "one"), str(tmp_path / "other")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy - toy: 4 people, judged by dlib" and lines[4].startswith("auc          +0.222 [")
    (tmp_path / "unfinished").mkdir()
    for folder, words in (("unfinished", "run the audit first"), ("nowhere", "There is no run folder")):
        with pytest.raises(GmiError, match=words):
            compare_reports.main([str(tmp_path / "one"), str(tmp_path / folder)])
