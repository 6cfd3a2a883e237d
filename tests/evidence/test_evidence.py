"""Evidence: sealed pieces open for their run and key alone, findings do not depend on it, what is purged is gone."""

import json
import os
import shutil
import signal
import subprocess
from base64 import b64encode
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch
import yaml
from conftest import repeats
from pydantic import TypeAdapter
from reference.reports import timeless
from reference.verified import verified

from gmi import cli, toy
from gmi.audits import Hardware, carry_out, conduct
from gmi.cli.custody import purge, unseal
from gmi.cli.verifying import again
from gmi.cli.verifying import main as verify
from gmi.errors import GmiError
from gmi.evidence.handling import AnyHandling, Encryption, Handling
from gmi.evidence.purge import SHOWING, left
from gmi.evidence.signature import refuse_unsigned, sign
from gmi.evidence.vault import SUFFIX, Vault
from gmi.inversion import scores
from gmi.inversion.audit import INVERSION
from gmi.inversion.plan import ReportConfig
from gmi.ladder.audit import LADDER
from gmi.ladder.plan import Ladder
from gmi.oracles.access import ScoresOnly
from gmi.oracles.ledger import Ledger
from gmi.run import Run
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.settings import override, read
from gmi.targets.authorisation import Authorisation
from gmi.targets.open_inference import OpenInferenceTarget

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Hardware(torch.device("cpu"))
PLAN = replace(
    toy.plan(), search=Gradient(steps=4, lr=0.15), selection=Selection(pool=10, candidates=1, views=2, keep=1)
)
PEOPLE = 10
KEY, OTHER = (b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))
SEALED = replace(PLAN, evidence=Handling(encrypt=Encryption(key="TOY_KEY"), until=date(2999, 2, 28)))


def audit(folder: Path, plan=PLAN) -> dict:
    conduct(INVERSION, plan, folder, CPU, toy.inputs(PEOPLE, 1.0, 0))
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def clear(tmp_path_factory) -> Path:
    """A finished run, as it is by default."""
    folder = tmp_path_factory.mktemp("clear") / "run"
    audit(folder)
    return folder


@pytest.fixture
def run(clear, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(clear, tmp_path / "run", copy_function=shutil.copy2))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_KEY", KEY)
        audit(folder, SEALED)
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """A private key; the public one is beside it."""
    path = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_vault_opens_what_it_sealed_under_the_same_label_alone():
    vault, content = Vault(b"1" * 32, "KEY"), os.urandom(1000)
    first, second = vault.seal(content, "a/b"), vault.seal(content, "a/b")
    assert first != second and content not in first  # nothing tells that two pieces are the same
    assert vault.open(first, "a/b") == content
    damaged = first[:-1] + bytes([first[-1] ^ 1])
    for other, piece, label in (
        (vault, first, "a/c"),
        (vault, damaged, "a/b"),
        (vault, first[:20], "a/b"),
        (vault, content, "a/b"),
        (Vault(b"2" * 32, "KEY"), first, "a/b"),
    ):
        with pytest.raises(GmiError, match="not sealed with the key in KEY, or it is damaged or of another run"):
            other.open(piece, label)
    assert "1111" not in repr(vault)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "holds no key"),
        (" ", "holds no key"),
        ("no base64!", "is not in base64"),
        (b64encode(b"short").decode(), "has 5 bytes, and not 32"),
    ],
)
def test_a_key_that_is_none_is_refused_before_anything_is_attacked(value, message, tmp_path, monkeypatch):
    monkeypatch.delenv("TOY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TOY_KEY", value)
    with pytest.raises(GmiError, match=message):
        audit(tmp_path / "run", SEALED)
    assert not (tmp_path / "run").exists()


def test_sealed_evidence_gives_the_same_findings_and_shows_nobody(sealed, clear):
    mine, theirs = (json.loads((folder / "report.json").read_text()) for folder in (sealed, clear))
    assert mine["evidence"] == {"evidence": "sealed", "until": "2999-02-28"}
    left_out = {"evidence": None, "cost": None}
    assert timeless(mine, "config_digest") | left_out == timeless(theirs, "config_digest") | left_out
    kept = [path for part in ("shards", "images") for path in files(sealed / part)]
    assert kept and all(path.suffix == SUFFIX for path in kept)
    assert not any(b"PNG" in path.read_bytes()[:200] for path in kept)
    page = (sealed / "report.html").read_text()
    assert "data:image" not in page and "gmi unseal" in page and "2999-02-28" in page
    assert "data:image" in (clear / "report.html").read_text()


@pytest.mark.slow
def test_a_sealed_run_goes_on_with_its_key_and_with_no_other(sealed, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(sealed, tmp_path / "run"))
    before = json.loads((folder / "report.json").read_text())
    monkeypatch.setenv("TOY_KEY", KEY)
    assert timeless(audit(folder, SEALED))["results"] == before["results"]
    monkeypatch.setenv("TOY_KEY", OTHER)
    with pytest.raises(GmiError, match="choose another --out"):
        audit(folder, SEALED)


def test_unseal_shows_the_images_to_who_has_the_key(sealed, tmp_path, monkeypatch, capsys):
    out = tmp_path / "clear"
    monkeypatch.setattr("gmi.cli.custody.planned", lambda *_: SEALED)
    monkeypatch.setenv("TOY_KEY", OTHER)
    with pytest.raises(GmiError, match=r"cannot be unsealed: it is not sealed with the key in TOY_KEY"):
        unseal([str(sealed), "--out", str(out)])
    assert not out.exists()
    monkeypatch.setenv("TOY_KEY", KEY)
    unseal([str(sealed), "--out", str(out)])
    assert "files unsealed: delete the folder after use" in capsys.readouterr().out
    assert "data:image" in (out / "report.html").read_text() and out.stat().st_mode & 0o777 == 0o700
    assert not [*out.rglob(f"*{SUFFIX}")]
    page = (out / "report.html").read_text()
    assert "in the clear: a copy, unsealed on 20" in page and "<td>sealed</td>" not in page
    with pytest.raises(GmiError, match="cannot be made a new folder"):
        unseal([str(sealed), "--out", str(out)])


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_half_in_the_clear(sealed, tmp_path, monkeypatch, ending):
    before, write = signal.getsignal(signal.SIGTERM), Run.write
    monkeypatch.setattr("gmi.cli.custody.planned", lambda *_: SEALED)
    monkeypatch.setenv("TOY_KEY", KEY)
    monkeypatch.setattr(Run, "write", lambda *given: (write(*given), os.kill(os.getpid(), ending)))
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell has it for what runs behind it
    try:
        with pytest.raises(KeyboardInterrupt):
            unseal([str(sealed), "--out", str(tmp_path / "clear")])
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert not (tmp_path / "clear").exists() and signal.getsignal(signal.SIGTERM) == before


def test_unseal_of_what_lies_in_the_clear(clear, tmp_path, monkeypatch):
    monkeypatch.setattr("gmi.cli.custody.planned", lambda *_: PLAN)
    with pytest.raises(GmiError, match=r"Nothing in .* is sealed: open its page"):
        unseal([str(clear), "--out", str(tmp_path / "out")])


def test_evidence_none_keeps_figures_and_scores_alone(clear, tmp_path):
    folder = tmp_path / "run"
    report = audit(folder, replace(PLAN, evidence="none"))
    assert report["evidence"] == {"evidence": "not kept", "until": None}
    assert report["results"] == json.loads((clear / "report.json").read_text())["results"]
    assert not any((folder / name).exists() for name in SHOWING)
    assert "data:image" not in (folder / "report.html").read_text()


@pytest.fixture
def memory(tmp_path, monkeypatch) -> Path:
    """A folder that stands for one whose files are in memory."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr("gmi.evidence.vault.MEMORY", folder)
    monkeypatch.setattr("gmi.evidence.vault.is_memory", lambda _: True)
    return folder


def killed(folder: Path, plan) -> list[Path]:
    """The pieces of a run that ended before anything was judged."""

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmi.inversion.audit.judging.judge", fail)
        with pytest.raises(KeyboardInterrupt):
            audit(folder, plan)
    left = files(folder / "shards")
    assert left and all(path.suffix == SUFFIX for path in left)
    return left


def test_a_killed_run_without_evidence_goes_on_with_its_key_which_ends_with_it(memory, tmp_path, capsys):
    plan, folder = replace(PLAN, evidence="none"), tmp_path / "run"
    left = killed(folder, plan)
    (key,) = memory.iterdir()
    assert key.stat().st_mode & 0o777 == 0o600 and key.read_bytes() not in b"".join(map(Path.read_bytes, files(folder)))
    capsys.readouterr()
    assert audit(folder, plan)["evidence"]["evidence"] == "not kept"
    assert "search:" not in capsys.readouterr().err  # no search was made again
    assert not [*memory.iterdir()] and not any(path.exists() for path in left)


@pytest.mark.parametrize("lost", repeats("open to others", "a pipe", slow=("deleted", "damaged", "a link")))
def test_what_a_killed_run_without_evidence_leaves_opens_for_nobody_whose_key_is_gone(memory, tmp_path, capsys, lost):
    plan, folder = replace(PLAN, evidence="none"), tmp_path / "run"
    left = killed(folder, plan)
    (key,) = memory.iterdir()
    known = key.read_bytes()
    if lost == "damaged":
        key.write_bytes(known[:-1])
    elif lost == "open to others":  # whoever else may read a key is not trusted with it
        key.chmod(0o644)
    else:
        key.unlink()
    if lost == "a link":
        (tmp_path / "known").write_bytes(known)
        (tmp_path / "known").chmod(0o600)
        key.symlink_to(tmp_path / "known")
    elif lost == "a pipe":
        os.mkfifo(key, 0o600)
    assert Vault.passing(folder).key != known
    relative = left[0].relative_to(folder).as_posix().removesuffix(SUFFIX)
    vault = Vault.passing(folder)
    with pytest.raises(GmiError, match="a run's own key"):
        Run(folder, read_digest(folder), vault=vault).kept(relative)
    assert Run(folder, read_digest(folder), vault=Vault(known, "")).kept(relative)
    capsys.readouterr()
    assert audit(folder, plan)["evidence"]["evidence"] == "not kept"
    assert "search:" in capsys.readouterr().err  # it began anew


def read_digest(folder: Path) -> str:
    return yaml.safe_load((folder / "config.yaml").read_text())["digest"]


def test_purge_takes_the_key_of_a_killed_run_along(memory, tmp_path):
    killed(tmp_path / "run", replace(PLAN, evidence="none"))
    purge([str(tmp_path / "run")])
    assert not [*memory.iterdir()] and not (tmp_path / "run" / "shards").exists()


def test_without_such_a_memory_the_process_alone_has_the_key(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("gmi.evidence.vault.is_memory", lambda _: False)
    first, second = (Vault.passing(tmp_path / "run") for _ in range(2))
    assert first.key != second.key and not [*memory.iterdir()]


def test_report_without_images_leaves_no_image_in_the_folder(tmp_path):
    folder = tmp_path / "run"
    plan = replace(PLAN, report=ReportConfig(images=False))
    report = audit(folder, plan)
    assert report["evidence"]["evidence"] == "not kept"
    assert not [path for path in files(folder) if path.suffix in (".png", SUFFIX) or "shards" in path.parts]
    before = (folder / "report.html").read_bytes()
    assert audit(folder, plan) == report and (folder / "report.html").read_bytes() == before  # nothing is made again


def test_purge_deletes_evidence_keeps_figures_and_says_so(run, capsys):
    report, figures = (run / "report.json").read_bytes(), (run / "figures.csv").read_bytes()
    count = sum(len(files(path)) if path.is_dir() else 1 for path in left(run)) + 1  # and the page
    purge([str(run)])
    assert f"Deleted {count} files with" in capsys.readouterr().out
    assert not any((run / name).exists() for name in SHOWING)
    assert (run / "report.json").read_bytes() == report and (run / "figures.csv").read_bytes() == figures
    assert "data:image" not in (run / "report.html").read_text()
    assert json.loads((run / "purged.json").read_text())["files"] == count
    purge([str(run)])
    assert "Nothing was deleted: " in capsys.readouterr().out
    assert json.loads((run / "purged.json").read_text())["files"] == count
    audit(run)  # the same run, which is not made again
    assert not (run / "shards").exists()


def test_purge_of_what_is_not_finished(tmp_path):
    with pytest.raises(GmiError, match="holds no finished run"):
        purge([str(tmp_path)])


def test_scores_give_every_figure_again(clear):
    report = json.loads((clear / "report.json").read_text())
    found = [*scores.recompute(clear, report, PLAN)]
    assert {each.outcome for each in found} == {"as reported", "not checked"}
    checked = [each.what for each in found if each.outcome == "as reported"]
    assert len(checked) > 20 and {"gap", "people", "verdict: effect", "thresholds of stranger"} <= {*checked}
    judges = scores.judges((clear / scores.NAME).read_text())
    assert scores.lines(judges) == (clear / scores.NAME).read_text()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda report: report["verdict"].update(finding="no evidence"), "verdict: finding"),
        (lambda report: report["results"][0]["estimate"].update(high=0.999), "search stranger match@0.01"),
        (lambda report: report["people"][0].update(auc=0.5), "people"),
        (lambda report: report["results"].pop(0), "search stranger match@0.01"),
        (lambda report: report["verdict"]["because"].append("It is safe."), "verdict: because"),
        (
            lambda report: report["results"].append(report["results"][0] | {"metric": "rank9"}),
            "search stranger rank9",
        ),
    ],
)
def test_a_report_that_was_changed_differs_from_its_scores(clear, change, what):
    report = json.loads((clear / "report.json").read_text())
    change(report)
    assert what in [each.what for each in scores.recompute(clear, report, PLAN) if each.outcome == "differs"]


def test_every_figure_comes_again_from_the_pieces(clear):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    verified(INVERSION, PLAN, inputs, clear, lambda report: report["results"][-1].update(metric="rank9"), "results")


def test_with_its_pieces_nothing_of_an_audit_is_left_unchecked(run, monkeypatch, capsys):
    monkeypatch.setattr("gmi.cli.verifying.planned", lambda *_: PLAN)
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    monkeypatch.setattr("gmi.cli.verifying.kind_of", lambda folder: replace(INVERSION, load=lambda *_: inputs))
    verify([str(run)])
    left_out = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("as reported")]
    assert left_out == ["not checked   who made the report: name a public key with --signed-by"]


def test_sealed_pieces_are_read_with_the_key_and_a_copy_without_it(sealed, tmp_path, monkeypatch):
    inputs, report = toy.inputs(PEOPLE, 1.0, 0), json.loads((sealed / "report.json").read_text())
    monkeypatch.setenv("TOY_KEY", KEY)
    signed = replace(SEALED, evidence=replace(SEALED.evidence, sign=tmp_path / "another's key"))  # no reader has it
    assert {each.outcome for each in again(INVERSION, signed, inputs, sealed, report)} == {"as reported"}
    monkeypatch.setattr("gmi.cli.custody.planned", lambda *_: SEALED)
    unseal([str(sealed), "--out", str(tmp_path / "clear")])
    monkeypatch.delenv("TOY_KEY")
    (hindered,) = again(INVERSION, SEALED, inputs, sealed, report)
    assert hindered.outcome == "not checked" and "TOY_KEY holds no key" in hindered.why
    assert {each.outcome for each in again(INVERSION, SEALED, inputs, tmp_path / "clear", report)} == {"as reported"}


def test_a_piece_that_was_changed_differs_and_what_fails_otherwise_accuses_nobody(run, monkeypatch):
    inputs, report = toy.inputs(PEOPLE, 1.0, 0), json.loads((run / "report.json").read_text())
    piece = next(path for path in (run / "shards").rglob("*.safetensors") if "search" in path.parts)
    piece.write_bytes(piece.read_bytes()[:-1])
    (found,) = again(INVERSION, PLAN, inputs, run, report)
    assert found.outcome == "differs" and found.why.startswith(f"{piece} cannot be read (")

    def fail(*_):
        raise MemoryError("no room")

    (found,) = again(replace(INVERSION, examine=fail), PLAN, inputs, run, report)
    assert found.outcome == "not checked" and "could not be computed again" in found.why


def test_rounding_is_no_difference_and_a_count_is(clear):
    inputs, report = toy.inputs(PEOPLE, 1.0, 0), json.loads((clear / "report.json").read_text())
    report["results"][0]["estimate"]["high"] *= 1.0001
    report["cost"]["reconstructions"] += 1
    found = {each.what: each.outcome for each in again(INVERSION, PLAN, inputs, clear, report)}
    assert (found["results"], found["cost"]) == ("not checked", "differs")
    assert {*found.values()} == {"as reported", "not checked", "differs"}


def test_what_a_server_would_be_asked_for_is_not_computed_again(clear):
    report = json.loads((clear / "report.json").read_text())
    target = OpenInferenceTarget(url="https://gate.example.org", model="gate", tensor="x", input=PLAN.target.input)
    allowed = Authorisation(system="a gate", allowed_by="A. Owner", until=date(2099, 1, 1))
    served = replace(PLAN, target=target, authorisation=allowed, access=ScoresOnly(), search=Evolution())
    (found,) = again(INVERSION, served, toy.inputs(PEOPLE, 1.0, 0), clear, report)
    assert found.outcome == "not checked" and found.why == "the target would be asked again"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"judge": "stranger"}', '{"judge": "a", "method": "b"}'])
def test_damaged_scores_are_told_and_never_a_traceback(run, text):
    report = json.loads((run / "report.json").read_text())
    (run / scores.NAME).write_text(text)
    assert {each.outcome for each in scores.recompute(run, report, PLAN)} == {
        "as reported",
        "differs",
    }  # what plan.yaml has is as reported


def test_verify_ends_with_3_where_something_differs(run, monkeypatch, capsys):
    def ended() -> int:
        with pytest.raises(SystemExit) as caught:
            cli.run(lambda words: verify(words) or (_ for _ in ()).throw(SystemExit(0)), [str(run)])
        return caught.value.code

    assert ended() == 0
    said = capsys.readouterr().out
    assert "as reported" in said and "differs" not in said
    assert "inputs, by their digests: data.folder" in said and "who made the report: name a public key" in said
    (run / "summary.md").write_text("All is well.\n")
    assert ended() == 3
    assert "differs       summary.md: it does not say what report.json says" in capsys.readouterr().out


def test_a_changed_key_of_the_json_is_a_sentence(run):
    report = json.loads((run / "report.json").read_text())
    del report["verdict"]["naive"]
    (run / "report.json").write_text(json.dumps(report))
    with pytest.raises(GmiError, match=r"report\.json does not hold what a page shows"):
        verify([str(run)])


def test_a_signature_holds_for_the_file_and_the_key(tmp_path, keys):
    path = tmp_path / "report.json"
    path.write_text("{}")
    public = keys.with_suffix(".pub")
    with pytest.raises(GmiError, match=r"has no signature report\.json\.sig"):
        refuse_unsigned(path, public)
    signature = sign(path, keys)
    assert signature.name == "report.json.sig" and signature.stat().st_mode & 0o777 == 0o600
    refuse_unsigned(path, public)
    path.write_text('{"finding": "no evidence"}')
    with pytest.raises(GmiError, match="is not as the owner of"):
        refuse_unsigned(path, public)
    path.write_text("{}")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    with pytest.raises(GmiError, match="is not as the owner of"):
        refuse_unsigned(path, tmp_path / "other.pub")
    for other in (tmp_path / "none.pub", keys):  # the private one
        with pytest.raises(GmiError, match="cannot be read as a public key"):
            refuse_unsigned(path, other)


@pytest.mark.slow
def test_an_audit_signs_its_report(tmp_path, keys):
    audit(tmp_path / "run", replace(PLAN, evidence=Handling(sign=keys)))
    refuse_unsigned(tmp_path / "run" / "report.json", keys.with_suffix(".pub"))


def test_evidence_whose_last_day_is_over_is_refused_before_anything_is_attacked(tmp_path):
    with pytest.raises(GmiError, match=r"evidence\.until: 2020-01-01 is over"):
        audit(tmp_path / "run", replace(PLAN, evidence=Handling(until=date(2020, 1, 1))))
    assert not (tmp_path / "run").exists()


def test_a_key_to_sign_with_that_is_not_there_is_refused_before_anything_is_attacked(tmp_path):
    with pytest.raises(GmiError, match=r"evidence\.sign: there is no key"):
        audit(tmp_path / "run", replace(PLAN, evidence=Handling(sign=tmp_path / "none")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["none", {}, {"encrypt": {"key": "K"}, "until": "2027-01-01", "sign": "key"}])
def test_what_a_configuration_may_say(text):
    TypeAdapter(AnyHandling).validate_python(text)


def test_a_made_up_reason_cannot_change_what_the_plan_says(clear):
    report = json.loads((clear / "report.json").read_text())
    report["verdict"]["notable"] = 0.5
    differing = [each.what for each in scores.recompute(clear, report, PLAN) if each.outcome == "differs"]
    assert "verdict: notable, access" in differing


def test_a_second_figure_of_one_name_differs(clear):
    report = json.loads((clear / "report.json").read_text())
    report["results"].insert(0, report["results"][0] | {"chance": 0.9})
    differing = [each.what for each in scores.recompute(clear, report, PLAN) if each.outcome == "differs"]
    assert differing == ["search stranger match@0.01"]


def test_cut_scores_differ_from_what_the_report_was_made_with(run, capsys):
    text = (run / scores.NAME).read_text()
    (run / scores.NAME).write_text(text[:1000])
    with pytest.raises(SystemExit, match="3"):
        verify([str(run)])
    assert "differs       scores.jsonl: it is not the file" in capsys.readouterr().out


def test_what_cannot_be_written_anew_is_not_purged(run):
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps(report | {"schema_version": 4}))
    with pytest.raises(GmiError, match="has schema version 4"):
        purge([str(run)])
    assert (run / "shards").is_dir() and not (run / "purged.json").exists()


def test_a_purge_that_failed_goes_on(run, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    (run / "shards").rename(elsewhere)
    (run / "shards").symlink_to(elsewhere)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_: (_ for _ in ()).throw(OSError(13, "Permission denied")))
        with pytest.raises(GmiError, match="was not purged to the end"):
            purge([str(run)])
    assert "on" not in json.loads((run / "purged.json").read_text()) and elsewhere.is_dir()
    audit(run)  # which finishes what was begun
    assert not elsewhere.exists() and not left(run)
    assert "data:image" not in (run / "report.html").read_text()


def test_pages_after_a_purge_say_so_and_the_users_files_stay(run):
    (run / "permission.pdf").write_bytes(b"%PDF")
    (run / ".copies.png-abcd1234").write_bytes(b"left by a writer that was killed")
    purge([str(run)])
    page = (run / "report.html").read_text()
    assert "deleted on 20" in page and "in the clear" not in page
    assert (run / "permission.pdf").exists() and not (run / ".copies.png-abcd1234").exists()


def test_a_run_that_was_not_finished_can_be_purged(run, capsys):
    (run / "report.json").unlink()
    purge([str(run)])
    assert "of a run that was not finished" in capsys.readouterr().out
    assert not left(run) and not (run / "purged.json").exists()


def test_a_purged_run_needs_neither_its_key_nor_its_inputs_and_refuses_another_configuration(sealed, tmp_path, caplog):
    folder = Path(shutil.copytree(sealed, tmp_path / "run"))
    purge([str(folder)])
    conduct(INVERSION, SEALED, folder, CPU)  # no key, and no photographs
    assert "Whether the run is of what the configuration names now is not known" in caplog.text
    with pytest.raises(GmiError, match="differs in seeds"):
        conduct(INVERSION, replace(SEALED, seeds=(5,)), folder, CPU)


def test_a_report_without_pieces_does_not_stand_for_another_model(tmp_path):
    """No image is kept, so that nothing could be computed again; the new weights were never looked at."""
    plan = replace(PLAN, report=replace(PLAN.report, images=False))
    audit(tmp_path / "run", plan)
    audit(tmp_path / "run", plan)
    other = toy.inputs(PEOPLE, 0.0, 0)
    with pytest.raises(GmiError, match="it differs in the files of target"):
        conduct(INVERSION, plan, tmp_path / "run", CPU, other)


def test_a_report_is_of_the_day_on_which_its_figures_were_found(run, caplog):
    """A second start asks nothing, and what a service answers by then may be another model's."""
    path = run / "report.json"
    report = json.loads(path.read_text())
    report["provenance"]["finished"] = "2020-02-02T02:02:02+00:00"
    path.write_text(json.dumps(report))
    assert audit(run) == report
    assert "Nothing was asked of the model: the figures are of 2020-02-02" in caplog.text
    permission = Authorisation(system="gate", allowed_by="A. Owner", until=date(2999, 1, 1))
    renewed = audit(run, replace(PLAN, authorisation=permission))  # it is no new figure
    assert renewed["authorisation"]["system"] == "gate" and renewed["provenance"] == report["provenance"]
    assert report["authorised"] is None and renewed["authorised"] > "2026"
    assert "until 2999-01-01 (entered on 20" in (run / "summary.md").read_text()
    assert audit(run, replace(PLAN, authorisation=permission)) == renewed
    with pytest.raises(GmiError, match=r"made with an authorisation of A\. Owner, and the configuration has none"):
        audit(run)
    path.unlink()
    with pytest.raises(GmiError, match=r"made with an authorisation of A\. Owner, and the configuration has none"):
        audit(run)  # the folder knows, whatever became of the report
    report["data"]["people"] += 1  # another report: it is written anew, as of when its pieces were made
    path.write_text(json.dumps(report))
    anew = audit(run, replace(PLAN, authorisation=permission))
    assert anew["provenance"]["finished"] > "2026" and anew["authorised"] == renewed["authorised"]
    prolonged = audit(run, replace(PLAN, authorisation=replace(permission, until=date(2999, 2, 1))))
    assert prolonged["authorisation"]["until"] == "2999-02-01" and prolonged["authorised"] == renewed["authorised"]
    prolonged["provenance"]["finished"] = "2020-02-02T02:02:02+00:00"
    path.write_text(json.dumps(prolonged))
    next((run / "shards" / "judged").rglob("*.safetensors")).unlink()  # what is judged now is of the model as it is now
    judged = audit(run, replace(PLAN, authorisation=replace(permission, until=date(2999, 2, 1))))
    assert judged["provenance"]["finished"] > "2026"


def test_a_finished_run_is_current_where_its_model_is_known_to_be_the_same(run, monkeypatch, caplog):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    assert carry_out(INVERSION, PLAN, run, CPU, inputs).current
    with monkeypatch.context() as patch:
        patch.setattr("gmi.audits.unseen", lambda plan: True)
        assert not carry_out(INVERSION, PLAN, run, CPU, inputs).current
        judged = next((run / "shards" / "judged").rglob("*.safetensors"))
        judged.unlink()
        (run / "report.json").unlink()
        assert not carry_out(INVERSION, PLAN, run, CPU, inputs).current  # a judge looked at images of another day
    purge([str(run)])
    caplog.clear()
    assert carry_out(INVERSION, PLAN, run, CPU, inputs).current
    assert "Nothing was asked of the model: the figures are of" in caplog.text
    untrained = replace(inputs, untrained=True, target=toy.inputs(PEOPLE, 0.0, 0).target)
    assert not carry_out(INVERSION, PLAN, run, CPU, untrained).current
    assert not carry_out(INVERSION, PLAN, run, CPU).current  # no photographs
    assert caplog.text.count("is not known: ") == 2


def test_a_report_without_its_folder_is_told_by_its_own_name(run, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(run / "report.json", alone)
    with pytest.raises(GmiError) as said:
        verify([str(alone)])
    assert str(alone) in str(said.value) and "gmi-" not in str(said.value)


def test_a_configuration_that_was_changed_differs_though_no_input_is_there(run, capsys):
    """As it is read: config.yaml by the digest in the report, and plan.yaml by config.yaml."""
    said = {
        "config.yaml": "it is not the file",
        "plan.yaml": "the configuration: plan.yaml says another than config.yaml",
    }
    for name, words in said.items():
        text = (run / name).read_text()
        (run / name).write_text(text.replace("notable: 0.1\n", "notable: 0.2\n"))
        with pytest.raises(SystemExit, match="3"):
            verify([str(run)])
        printed = capsys.readouterr().out
        assert words in printed and "not checked   inputs, by their digests" in printed
        (run / name).write_text(text)


def test_a_report_that_is_made_again_without_signing_has_no_old_signature(run, keys):
    sign(run / "report.json", keys)
    audit(run)
    assert not (run / "report.json.sig").exists()


def test_templates_in_a_ledger_are_sealed_and_purged(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.vault = Vault(b"1" * 32, "KEY")
    ledger.charge([b"1"], [0])
    ledger.keep([b"1"], [b"a template"])
    assert ledger.answers([b"1"]) == {b"1": b"a template"}
    assert not any(b"a template" in path.read_bytes() for path in files(tmp_path))
    ledger.vault = Vault(b"2" * 32, "OTHER")
    assert ledger.answers([b"1"]) == {}  # it is asked for again
    assert {path.name for path in left(tmp_path)} >= {"ledger.sqlite"}


def test_a_ladder_without_images_keeps_none():
    plan = override(read("ladder_orl", Ladder), ["--audit.report.images", "false"])
    assert not LADDER.shows(plan) and LADDER.shows(read("ladder_orl", Ladder))
