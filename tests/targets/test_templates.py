"""A face recogniser and its leaked templates as a target: what each level of access says of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gmi.assets.catalogue import resolve
from gmi.data.images import Images, read
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.judging import Judges
from gmi.inversion.learnt import Learnt
from gmi.inversion.strength import compares, followed, solved
from gmi.judges.face import Dlib, FaceNet
from gmi.oracles.access import EmbeddingsOnly, LabelsOnly, ScoresOnly, VerificationOnly, WholeModel
from gmi.oracles.shape import Shape
from gmi.protocols import ComparingOracle, LabelOracle, VerificationOracle
from gmi.search.evolution import Evolution
from gmi.search.guided import Guided
from gmi.search.selection import opinion
from gmi.search.solve import Solve
from gmi.targets.module import Target
from gmi.targets.served import Served
from gmi.targets.templates import Remembered, TemplateTarget, first

PEOPLE = ("s01", "s02", "s03")


@pytest.fixture(scope="module")
def photographs() -> Images:
    """Two of each person."""
    folder = resolve("asset:orl/images")
    paths = [folder / person / f"{number:02}.pgm" for person in PEOPLE for number in (1, 2)]
    return read(paths, [0, 0, 1, 1, 2, 2], None)


@pytest.fixture(scope="module")
def facenet(photographs) -> Target:
    found = TemplateTarget(recogniser=FaceNet()).load(PEOPLE, photographs)
    assert isinstance(found, Target)
    return found


@pytest.fixture(scope="module")
def dlib(photographs) -> Served:
    found = TemplateTarget(recogniser=Dlib(workers=1)).load(PEOPLE, photographs)
    assert isinstance(found, Served)
    return found


def test_the_first_photograph_of_each_is_what_leaked(photographs):
    assert first(photographs, 3) == [0, 2, 4]


def test_recognisers_never_compare_in_half_precision(facenet, photographs):
    """Under bf16, on whatever image: boxes of faces, templates, similarities and decisions are as without."""
    judge, shown = FaceNet().load(torch.device("cpu")), photographs.pixels
    levels = (ScoresOnly(), EmbeddingsOnly())
    whole = [judge.embed(shown), *(level.open(facenet, None).similarities(shown) for level in levels)]
    with torch.autocast("cpu", torch.bfloat16):
        half = [judge.embed(shown), *(level.open(facenet, None).similarities(shown) for level in levels)]
        assert half[0].equal(whole[0]) and judge.similarity(half[0], half[0]).dtype == torch.float32
        torch.testing.assert_close(half, whole, rtol=0, atol=1e-5)
        searched = facenet(shown)
    assert searched.dtype == torch.float32
    torch.testing.assert_close(searched / 20, whole[1], rtol=0, atol=0.02)


def test_many_claims_of_an_image_embed_it_once():
    asked: list[int] = []
    seen = Remembered(lambda images: asked.append(len(images)) or images.flatten(1).float())
    images = torch.arange(12, dtype=torch.uint8).view(6, 1, 1, 2)
    assert seen(images[[0, 1, 0, 2]]).tolist() == [[0, 1], [2, 3], [0, 1], [4, 5]]
    seen(images[[2, 0, 3]]), seen(images[[3]]), seen(images[[0]])
    assert asked == [3, 1, 1]  # of the request before the last nothing is kept


def test_logits_are_the_cosines_of_templates(facenet, photographs):
    judge = FaceNet().load(torch.device("cpu"))
    leaked = judge.embed(photographs[first(photographs, 3)].pixels)
    wanted = 20 * judge.similarity(judge.embed(photographs.pixels), leaked)  # faces are aligned as the judge does it
    torch.testing.assert_close(facenet(photographs.pixels), wanted, rtol=1e-3, atol=2e-3)
    assert facenet(photographs.pixels).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    pixels = photographs.pixels[:1].requires_grad_()
    facenet(pixels)[0, 0].backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    assert facenet.activations(photographs.pixels[:1])[1].shape == (1, 1792)


def test_an_interface_that_answers_with_templates_is_as_good_as_similarities(facenet, photographs):
    whole, scores, embeddings = (kind.open(facenet, None) for kind in (WholeModel(), ScoresOnly(), EmbeddingsOnly()))
    wanted = whole.scores(photographs.pixels)
    torch.testing.assert_close(wanted, facenet(photographs.pixels) / 20)  # similarities, not a softmax over the people
    torch.testing.assert_close(scores.scores(photographs.pixels), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(embeddings.scores(photographs.pixels), wanted, rtol=1e-4, atol=1e-4)
    found = embeddings.embed(photographs.pixels)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    assert embeddings.labels(photographs.pixels).tolist() == [0, 0, 1, 1, 2, 2]
    assert embeddings.ledger.total.images == 6  # the later ones from the ledger
    assert not hasattr(embeddings, "logits") and not hasattr(LabelsOnly().open(facenet, None), "scores")


def test_dlib_answers_and_has_no_gradients(dlib, photographs):
    judge = Dlib(workers=1).load(torch.device("cpu"))
    found = judge.embed(photographs.pixels)
    wanted = -torch.cdist(found, found[[0, 2, 4]])
    torch.testing.assert_close(
        ScoresOnly().open(dlib, None).scores(photographs.pixels).float(), wanted, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(EmbeddingsOnly().open(dlib, None).embed(photographs.pixels), found)
    assert LabelsOnly().open(dlib, None).labels(photographs.pixels).tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(GmiError, match="no weights to take"):
        WholeModel().open(dlib, None)


@pytest.mark.parametrize("kind", ["facenet", pytest.param("dlib", marks=pytest.mark.slow)])
def test_a_claim_is_accepted_at_the_threshold_and_is_a_query_of_its_own(kind, photographs, request):
    target = request.getfixturevalue(kind)
    oracle = VerificationOnly().open(target, None)
    similar = ScoresOnly().open(target, None).scores(photographs.pixels)
    threshold = (target.module if isinstance(target, Target) else target.service).threshold
    off = ~torch.eye(3, dtype=torch.bool)
    assert similar[[0, 2, 4]][off].min() < threshold <= similar[[0, 2, 4]][off].max()
    assert oracle.accepts(photographs.pixels, photographs.classes).all()
    others = (photographs.classes + 1) % 3
    assert oracle.accepts(photographs.pixels, others).tolist() == (similar[range(6), others] >= threshold).tolist()
    assert oracle.queries == oracle.ledger.total.images == 12  # each image with two claims
    told = opinion(oracle, photographs.pixels).exp() > 0.5
    assert told.equal(similar >= threshold) and oracle.ledger.total.images == 18
    assert not isinstance(oracle, LabelOracle) and isinstance(oracle, VerificationOracle)


def test_a_verifier_may_show_by_which_number_it_decides(facenet, photographs):
    oracle, claims = VerificationOnly(numbers=True).open(facenet, None), (photographs.classes + 1) % 3
    assert isinstance(oracle, ComparingOracle) and not isinstance(oracle, LabelOracle)
    similar = ScoresOnly().open(facenet, None).scores(photographs.pixels)
    torch.testing.assert_close(oracle.similarities(photographs.pixels), similar)
    assert oracle.queries == oracle.ledger.total.images == 18
    plain = VerificationOnly().open(facenet, None)
    assert oracle.everybody(photographs.pixels).equal(plain.everybody(photographs.pixels))
    assert oracle.accepts(photographs.pixels, claims).equal(plain.accepts(photographs.pixels, claims))
    assert oracle.ledger.total.images == 18  # nothing new


def test_an_interface_may_show_a_part_of_the_similarities(facenet, dlib, photographs):
    for target in (facenet, dlib):
        whole = ScoresOnly().open(target, None).similarities(photographs.pixels)
        shown = ScoresOnly(shape=Shape(top=2, decimals=1)).open(target, None)
        part = shown.similarities(photographs.pixels)
        assert part.isnan().sum(1).tolist() == [1] * 6 and shown.labels(photographs.pixels).equal(whole.argmax(1))
        torch.testing.assert_close(part[~part.isnan()], whole.round(decimals=1)[~part.isnan()])
        assert shown.scores(photographs.pixels).amin(1).equal(part.nan_to_num(9.0).amin(1))  # hidden: the least shown


def test_the_recogniser_does_not_judge_itself(facenet, dlib, photographs):
    people = People(("a", "b", "c"), (0, 1, 2), photographs, photographs, {})
    for target, kind, other in ((facenet, FaceNet(), Dlib()), (dlib, Dlib(), FaceNet())):
        with pytest.raises(GmiError, match="is not independent"):
            Judges((kind.load(torch.device("cpu")),)).refuse_dependent(target, None, "ORL", people)
        Judges((other.load(torch.device("cpu")),)).refuse_dependent(target, None, "ORL", people)


def test_templates_of_ones_own_and_of_the_wrong_length(photographs, tmp_path):
    judge = FaceNet().load(torch.device("cpu"))
    path = tmp_path / "leaked.safetensors"
    config = TemplateTarget(recogniser=FaceNet(), leaked=str(path))
    save_file({"templates": judge.embed(photographs[[1, 3, 5]].pixels)}, path)
    target = config.load(PEOPLE, photographs)
    assert isinstance(target, Target)
    assert (
        target(photographs.pixels)[[1, 3, 5]].diagonal().min() > target(photographs.pixels)[[0, 2, 4]].diagonal().min()
    )
    whole = torch.ones(3, 512)
    for wrong in ({"templates": torch.ones(2, 512)}, {"other": whole}):
        save_file(wrong, path)
        with pytest.raises(GmiError, match=r"templates of shape \(3, 512\) is expected"):
            config.load(PEOPLE, photographs)
    empty, unknown = whole.clone(), whole.clone()
    empty[1], unknown[2, 3] = 0, torch.nan
    for wrong in (empty, unknown, whole.to(torch.int8)):
        save_file({"templates": wrong}, path)
        with pytest.raises(GmiError, match="floating-point templates that are finite and not all 0"):
            config.load(PEOPLE, photographs)
    with pytest.raises(GmiError, match=r"save .* with safetensors, as one tensor named templates"):
        replace(config, leaked=str(tmp_path)).load(PEOPLE, photographs)


def test_a_list_with_names_is_read_by_them(photographs, tmp_path):
    """Several templates of a person are one, their mean; people whom the audit does not know do not matter."""
    made = FaceNet().load(torch.device("cpu")).embed(photographs.pixels)
    path = tmp_path / "leaked.npz"
    config = TemplateTarget(recogniser=FaceNet(), leaked=str(path))
    names = np.array(["s03", "nobody", "s01", "s02", "s01"])
    np.savez(path, names=names, templates=made[[4, 3, 0, 2, 1]].numpy())
    leaked = config.load(PEOPLE, photographs).module.templates
    torch.testing.assert_close(leaked, torch.stack([made[:2].mean(0), made[2], made[4]]))
    wrong = {
        "has no template of s02": {"names": names[:3], "templates": made[:3].numpy()},
        r"names of shape \(5,\) .*templates of shape \(3, 512\)": {"names": names, "templates": made[:3].numpy()},
        "needs arrays names and templates": {"templates": made.numpy()},
        "cannot be read as .npz": {"names": names.astype(object), "templates": made[:5].numpy()},
    }
    for words, arrays in wrong.items():
        np.savez(path, **arrays)
        with pytest.raises(GmiError, match=words):
            config.load(PEOPLE, photographs)
    path.write_bytes(b"PK")
    with pytest.raises(GmiError, match=r"cannot be read as \.npz"):
        config.load(PEOPLE, photographs)


def test_a_classifier_has_no_templates(world):
    for access in (EmbeddingsOnly(), VerificationOnly()):
        with pytest.raises(GmiError, match="is for a target of type templates"):
            access.open(world.target, None)


def test_an_interface_that_compares_is_acquitted_only_if_it_was_solved(facenet, world):
    """By similarities, labels or decisions; who has the templates or the weights has nothing to solve for."""
    inputs = SimpleNamespace(system=object(), target=facenet)
    compare = (ScoresOnly(), LabelsOnly(), VerificationOnly())
    assert all(compares(level.open(facenet, None), inputs) for level in compare)
    assert not any(compares(level.open(facenet, None), inputs) for level in (WholeModel(), EmbeddingsOnly()))
    nobody = SimpleNamespace(system=None, target=world.target)
    assert not any(compares(level.open(world.target, None), nobody) for level in (ScoresOnly(), LabelsOnly()))
    api = SimpleNamespace(system=None, target=Served(None, "similarities", PEOPLE, "0"))
    assert compares(LabelsOnly().open(facenet, None), api)
    copy = Solve(recogniser=FaceNet(), search=Guided())
    unsolved, unsure, sure = solved(Evolution(), None), solved(copy, Learnt(foretold=0.55)), solved(copy, Learnt(0.9))
    assert (
        unsolved.severity == unsure.severity == "warning" and sure.severity == solved(copy, None).severity == "passed"
    )
    assert "type: solve" in unsolved.message and "search.recogniser" in unsure.message
    weak = solved(replace(copy, search=Evolution()), Learnt(0.9))
    assert weak.severity == "warning" and "through" in weak.message
    assert followed().severity == "warning"
