"""Files that are locked or full for a while: no transaction stays open, and nothing is lost or charged twice."""

import sqlite3
from pathlib import Path

import pytest

from gmi.errors import GmiError
from gmi.oracles.ledger import SHARED, BudgetSpent, Ledger
from gmi.serving.gate import Key, Log, Refused

KEY = Key(name="a", token="TOY_SECRET", budget=3)


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "log.sqlite")
    log._file.execute("PRAGMA busy_timeout = 10")
    yield log
    log.close()


def locked(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_log_that_was_locked_serves_again(log, tmp_path):
    other = locked(tmp_path / "log.sqlite")
    with pytest.raises(Refused, match="cannot be written now") as caught, log.charged(KEY, [b"1", b"2"]) as classes:
        classes += [0, 1]
    assert caught.value.status == 503
    with pytest.raises(Refused, match="cannot be written now"):
        log.alarm(KEY, ["near"])
    other.execute("ROLLBACK")
    other.close()
    assert log.alarms["a"] == 0
    with log.charged(KEY, [b"1", b"2"]) as classes:  # what was not answered is not charged
        classes += [0, 1]
    with log.charged(KEY, [b"3"]) as classes:
        classes += [0]
    with pytest.raises(Refused, match="the budget of 3 images is spent"), log.charged(KEY, [b"4"]):
        pass
    rows = log._file.execute("SELECT count(*) FROM queries").fetchone()
    assert rows == (3,) and not log._file.in_transaction


def test_a_ledger_that_was_locked_goes_on(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite", budget=2)
    ledger._file.execute("PRAGMA busy_timeout = 10")
    other = locked(tmp_path / "ledger.sqlite")
    with pytest.raises(GmiError, match=r"ledger\.sqlite cannot be used \(database is locked\)"):
        ledger.charge([b"1"], [SHARED])
    other.execute("ROLLBACK")
    other.close()
    ledger.charge([b"1", b"2"], [SHARED, SHARED])
    assert ledger.total.sent == 2
    with pytest.raises(BudgetSpent):
        ledger.charge([b"3"], [SHARED])
    assert not ledger._file.in_transaction


def test_what_is_sent_again_after_a_stop_is_free_where_different_images_are_bounded(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.limit(2)
    for _ in range(3):  # stopped before it was answered, twice
        ledger.charge([b"1", b"2"], [SHARED, 0])
    ledger.keep([b"1", b"2"], [b"a", b"b"])
    assert ledger.total.images == 2 and ledger.total.sent == 6
    with pytest.raises(BudgetSpent, match="start anew with another --out"):
        ledger.charge([b"3"], [1])
    assert ledger.answers([b"1", b"2"]) == {b"1": b"a", b"2": b"b"}
