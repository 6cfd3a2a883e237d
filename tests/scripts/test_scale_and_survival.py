"""The scripts that measure scale and survival, on next to nothing."""

import json

import pytest

from scripts import bench_scale, survive


def test_a_point_of_each_axis_is_measured():
    for axis, number in (("people", 12), ("steps", 1)):
        point = bench_scale.measured(axis, number)
        assert point["seconds"] > 0 and point["memory"] >= 0


def test_what_may_differ_after_a_kill_is_time_and_what_was_sent_again():
    quiet = {
        "verdict": {"finding": "a"},
        "provenance": {"started": 1},
        "cost": {"seconds": {"search": 2}, "ledger": {}},
    }
    killed = json.loads(json.dumps(quiet).replace("1", "3").replace("2", "4"))
    assert survive.timeless(quiet) == survive.timeless(killed)
    killed["verdict"]["finding"] = "b"
    assert survive.timeless(quiet) != survive.timeless(killed)


@pytest.mark.slow
def test_killed_commands_end_as_undisturbed_ones():
    assert survive.main(["--kills", "4", "--only", "attributes", "ladder"]) == 0
