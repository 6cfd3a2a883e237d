"""Judges on real faces (ORL), and the refusal of those that are not independent."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import alexnet

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError
from gmi.judges import _dlib, face
from gmi.judges.aligned import AlignedJudge, MobileFaceNet
from gmi.judges.classifier import Probe, ProbeJudge
from gmi.judges.face import Dlib, DlibJudge, FaceNet, FaceNetJudge
from gmi.judges.independence import refusal
from gmi.judges.perceptual import Lpips, LpipsJudge
from gmi.protocols import ClassifierJudge, FaceJudge, Judge, PerceptualJudge

pytestmark = pytest.mark.filterwarnings("error")

CPU = torch.device("cpu")


def orl(people: int, each: int) -> tuple[Tensor, Tensor]:
    """Images (people * each, 1, 112, 92) in [0, 1], and who is on them."""
    folders = sorted(resolve("asset:orl/images").iterdir())[:people]
    paths = [path for folder in folders for path in sorted(folder.iterdir())[:each]]
    images = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths])).float() / 255
    return images[:, None], torch.arange(people).repeat_interleave(each)


def loose(images: Tensor) -> Tensor:
    """The same faces, small and off the centre of a larger image."""
    return F.pad(images, (60, 10, 50, 15), mode="replicate")


@pytest.fixture(scope="module")
def dlib_judge() -> DlibJudge:
    return Dlib(workers=1).load(CPU)


@pytest.fixture(scope="module")
def facenet() -> FaceNetJudge:
    return FaceNet().load(CPU)


@pytest.fixture(scope="module")
def lpips_alex() -> LpipsJudge:
    return Lpips().load(CPU)


@pytest.fixture(scope="module")
def probe() -> ProbeJudge:
    return Probe().load(CPU)


@pytest.fixture(scope="module")
def mobilefacenet() -> AlignedJudge:
    return MobileFaceNet().load(CPU)


@pytest.fixture(params=["dlib_judge", "facenet", "mobilefacenet"])
def recogniser(request: pytest.FixtureRequest) -> DlibJudge | FaceNetJudge | AlignedJudge:
    return request.getfixturevalue(request.param)


def test_each_judge_has_the_methods_of_its_protocol(
    dlib_judge: DlibJudge,
    facenet: FaceNetJudge,
    mobilefacenet: AlignedJudge,
    lpips_alex: LpipsJudge,
    probe: ProbeJudge,
) -> None:
    faces: list[FaceJudge] = [dlib_judge, facenet, mobilefacenet]  # pyright compares
    perceptual: PerceptualJudge = lpips_alex
    classifier: ClassifierJudge = probe
    names = [judge.name for judge in (*faces, perceptual, classifier)]
    assert names == ["dlib", "facenet", "mobilefacenet", "lpips-alex", "probe"]


@pytest.mark.parametrize("config", [Dlib, FaceNet, MobileFaceNet, Lpips, Probe])
def test_a_config_refuses_what_it_does_not_know(config: type) -> None:
    with pytest.raises(ValidationError):
        config(wieghts="asset:dlib")


def test_loading_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    for config in (Dlib(), FaceNet(), MobileFaceNet(), Lpips(), Probe()):
        config.load(CPU)
    assert torch.equal(torch.get_rng_state(), before)


# Face recognisers


def test_a_recogniser_knows_people_apart(recogniser: DlibJudge | FaceNetJudge | AlignedJudge) -> None:
    images, people = orl(5, 3)
    templates = recogniser.embed(images)
    similarity = recogniser.similarity(templates, templates)
    assert templates.dtype == torch.float32 and len(templates) == 15
    assert similarity.shape == (15, 15) and torch.allclose(similarity, similarity.T, atol=1e-5)
    similarity.fill_diagonal_(-torch.inf)
    assert torch.equal(people[similarity.argmax(1)], people)  # rank-1 is 1


def test_a_recogniser_finds_the_face_in_a_loose_image(recogniser: DlibJudge | FaceNetJudge | AlignedJudge) -> None:
    images, _ = orl(4, 1)
    tight, found = recogniser.embed(images), recogniser.embed(loose(images))
    own = recogniser.similarity(tight, found).diagonal()
    across = recogniser.similarity(tight, tight).fill_diagonal_(-torch.inf).max()
    assert own.min() > across + 0.2  # without alignment the background moves all templates together


def test_a_template_depends_on_its_own_image_only(recogniser: DlibJudge | FaceNetJudge | AlignedJudge) -> None:
    images, _ = orl(3, 1)
    small = F.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    together = recogniser.embed(small)
    assert torch.allclose(together, torch.cat([recogniser.embed(one) for one in small.split(1)]), atol=1e-5)
    assert torch.allclose(together, recogniser.embed(small.expand(-1, 3, -1, -1)), atol=1e-5)  # grey is colour
    assert recogniser.embed(small[:0]).shape == (0, together.shape[1])


def test_a_recogniser_counts_the_images_without_a_face(recogniser: DlibJudge | FaceNetJudge | AlignedJudge) -> None:
    attempts, misses = recogniser.attempts, recogniser.misses
    recogniser.embed(torch.cat([orl(2, 1)[0], torch.full((1, 1, 112, 92), 0.5)]))
    assert (recogniser.attempts - attempts, recogniser.misses - misses) == (3, 1)


def test_a_diverged_image_is_refused(recogniser: DlibJudge | FaceNetJudge | AlignedJudge) -> None:
    with pytest.raises(GmiError, match="not finite"):
        recogniser.embed(torch.full((1, 3, 64, 64), torch.nan))


@pytest.mark.slow
def test_dlib_gives_the_same_from_several_processes(dlib_judge: DlibJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "_WORTH", 2)
    images, _ = orl(4, 1)
    judge = Dlib(workers=2).load(CPU)
    assert torch.equal(judge.embed(images), dlib_judge.embed(images))
    assert judge.attempts == 4
    judge = DlibJudge(_dlib.Recogniser(resolve("asset:dlib")), Path("nowhere"), 2)
    with pytest.raises(GmiError, match="workers: 1"):
        judge.embed(images)


def test_a_process_of_dlib_does_not_import_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-P", _dlib.__file__, str(resolve("asset:dlib")), "112", "92"]
    done = subprocess.run(command, input=b"", capture_output=True, check=True)
    modules = {line.rpartition(b"|")[2].strip().partition(b".")[0] for line in done.stderr.splitlines()}
    assert b"dlib" in modules and not modules & {b"torch", b"gmi"}


def test_dlib_distances_are_euclidean(dlib_judge: DlibJudge) -> None:
    left, right = torch.randn(30, 128), torch.randn(40, 128)
    right[0] = left[0] + 1e-6
    expected = -(left[:, None].double() - right.double()).square().sum(2).sqrt()
    assert torch.allclose(dlib_judge.similarity(left, right).double(), expected, atol=1e-6)


def test_dlib_shares_the_cores_with_the_processes_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(face, "_cores", lambda: 8)
    assert Dlib().load(CPU)._workers == 2
    monkeypatch.setattr(face, "_cores", lambda: 2)
    assert Dlib().load(CPU)._workers == 1


def test_dlib_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GmiError, match="has not the two files"):
        Dlib(weights=str(tmp_path)).load(CPU)
    monkeypatch.setitem(sys.modules, "dlib", None)
    monkeypatch.delitem(sys.modules, "gmi.judges._dlib")
    with pytest.raises(GmiError, match="pip install dlib-bin"):
        Dlib().load(CPU)


def test_facenet_sees_an_image_without_a_face_as_it_is(facenet: FaceNetJudge) -> None:
    from facenet_pytorch import InceptionResnetV1

    network = InceptionResnetV1().eval()
    network.load_state_dict(load_file(resolve("asset:facenet-casia/model.safetensors")))
    stripes = torch.linspace(0, 1, 160).expand(1, 3, 160, 160)
    with torch.no_grad():
        expected = network((stripes * 255 - 127.5) / 128)
    assert torch.allclose(facenet.embed(stripes), expected, atol=1e-5)
    assert torch.allclose(facenet.similarity(expected, -3 * expected), torch.tensor(-1.0))
    assert sum(weight.numel() for weight in facenet.weights()) == sum(p.numel() for p in network.parameters())


def test_facenet_takes_other_weights_of_known_origin(tmp_path: Path, facenet: FaceNetJudge) -> None:
    state = load_file(resolve("asset:facenet-casia/model.safetensors"))
    path = tmp_path / "vggface2.pt"
    torch.save(state | {"logits.weight": torch.zeros(9, 512)}, path)
    with pytest.raises(GmiError, match="trained_on"):
        FaceNet(weights=str(path)).load(CPU)
    judge = FaceNet(weights=str(path), trained_on=frozenset({"VGGFace2"}), name="facenet-vgg").load(CPU)
    assert judge.name == "facenet-vgg" and judge.trained_on == {"VGGFace2"}
    images, _ = orl(1, 1)
    assert torch.allclose(judge.embed(images), facenet.embed(images), atol=1e-5)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(GmiError, match="does not hold"):
        FaceNet(weights=str(path), trained_on=frozenset({"VGGFace2"})).load(CPU)


# LPIPS


def test_lpips_is_the_formula_of_the_paper(lpips_alex: LpipsJudge) -> None:
    import lpips

    features = alexnet(weights=None).features.eval()
    state = load_file(resolve("asset:lpips/alexnet.safetensors"))
    features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    heads = torch.load(Path(lpips.__file__).with_name("weights") / "v0.1/alex.pth", "cpu", weights_only=True)
    images = orl(3, 2)[0].expand(-1, 3, -1, -1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean[:, None, None]) / std[:, None, None]
    expected = torch.zeros(3)
    with torch.no_grad():
        for i, layer in enumerate(features):
            x = layer(x)
            if i in (1, 4, 7, 9, 11):
                unit = F.normalize(x)
                apart = (unit[0::2] - unit[1::2]).square().mean((2, 3))
                expected += apart @ heads[f"lin{(1, 4, 7, 9, 11).index(i)}.model.1.weight"].flatten()
    # The package has the mean and scale of ImageNet rounded to three digits, in [-1, 1].
    assert torch.allclose(lpips_alex.distance(images[0::2], images[1::2]), expected, rtol=1e-2)
    assert expected.min() > 0.05


def test_lpips_grows_with_blur_and_is_0_for_equal_images(lpips_alex: LpipsJudge) -> None:
    image, _ = orl(1, 1)
    blurred = torch.cat([F.avg_pool2d(image, k, 1, k // 2, count_include_pad=False) for k in (1, 3, 5, 9, 17)])
    distance = lpips_alex.distance(image.expand(5, -1, -1, -1), blurred)
    assert distance[0] == 0 and (distance.diff() > 0.01).all()
    assert torch.allclose(distance, lpips_alex.distance(blurred, image.expand(5, 3, -1, -1)))


def test_lpips_takes_small_images_and_gradients(lpips_alex: LpipsJudge) -> None:
    left, right = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    left.requires_grad_()
    distance = lpips_alex.distance(left, right)
    distance.sum().backward()
    assert distance.shape == (2,) and (distance > 0).all() and left.grad is not None and left.grad.abs().sum() > 0
    assert lpips_alex.distance(left[:0], right[:0]).shape == (0,)
    with pytest.raises(GmiError, match="pair by pair"):
        lpips_alex.distance(left, right[:1])


@pytest.mark.slow
def test_lpips_takes_vgg() -> None:
    judge = Lpips(net="vgg").load(CPU)
    images, _ = orl(2, 1)
    assert judge.distance(images[:1], images[:1]) == 0 and judge.distance(images[:1], images[1:]) > 0.1


def test_lpips_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(GmiError, match="no weights at"):
        Lpips(weights=str(tmp_path)).load(CPU)
    save_file({"weight": torch.zeros(1)}, tmp_path / "alexnet.safetensors")
    with pytest.raises(GmiError, match="does not hold torchvision's alexnet"):
        Lpips(weights=str(tmp_path)).load(CPU)


# The evaluation classifier


def test_the_probe_classifies_held_out_images(probe: ProbeJudge) -> None:
    images, people = orl(10, 10)
    train = torch.arange(100) % 2 == 0
    fresh = Probe().load(CPU)
    with pytest.raises(GmiError, match="fitted"):
        fresh.logits(images)
    fresh.fit(images[train], people[train])
    logits = fresh.logits(images[~train])
    assert logits.shape == (50, 10)
    assert (logits.argmax(1) == people[~train]).float().mean() >= 0.95
    probe.fit(images[train], people[train])
    assert probe.embed(images[:0]).shape == (0, 9216)
    assert torch.allclose(probe.logits(images[~train][:5]), logits[:5], atol=1e-4)  # no seed, no neighbours


def test_the_probe_is_at_the_optimum() -> None:
    """There the gradient by the bias is 0: the mean of the probabilities is the frequency of the classes."""
    images, people = orl(5, 4)
    probe = Probe(decay=0.1).load(CPU)
    probe.fit(images[4:], people[4:])  # class 0 has no image
    frequency = torch.tensor([0.0, 0.25, 0.25, 0.25, 0.25])
    assert torch.allclose(probe.logits(images[4:]).softmax(1).mean(0), frequency, atol=1e-4)


def test_the_probe_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(GmiError, match="no weights at"):
        Probe(weights=str(tmp_path)).load(CPU)
    save_file({"weight": torch.zeros(1)}, tmp_path / "alexnet.safetensors")
    with pytest.raises(GmiError, match="does not hold torchvision's alexnet"):
        Probe(weights=str(tmp_path)).load(CPU)


# Independence


class Some:
    """A judge of which only the weights matter."""

    name = "some"

    def __init__(self, network: nn.Module, *trained_on: str) -> None:
        self._network, self.trained_on = network, frozenset(trained_on)

    def weights(self) -> list[Tensor]:
        return list(self._network.parameters())


def network(seed: int, classes: int = 10) -> nn.Sequential:
    """Trained for a moment, so that the weights of two seeds have learnt the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = [nn.Conv2d(1, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.Flatten()]
        made = nn.Sequential(*body, nn.Linear(64 * 9, classes))
        train(made, steps=20, rate=3e-3)
    return made


def train(model: nn.Module, steps: int, rate: float) -> None:
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(images), torch.arange(64) % 10).backward()
        optimiser.step()


def folded(model: nn.Sequential) -> nn.Sequential:
    """Each unit times a factor of its own, as when a batch norm is folded into the convolution before it."""
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data *= torch.linspace(0.1, 10, len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
    return model


def tuned(model: nn.Sequential) -> nn.Sequential:
    train(model, steps=10, rate=1e-3)
    return model


TARGETS = {
    "same": lambda: network(0),
    "fine-tuned": lambda: tuned(network(0)),
    "folded": lambda: folded(network(0)),
    "half": lambda: network(0).half(),
    "wrapped": lambda: nn.ModuleDict({"first": network(1), "second": network(0)}),  # the target holds the judge
    "new head": lambda: nn.Sequential(*network(0)[:-1], nn.Linear(64 * 9, 500)),
    "part": lambda: nn.Sequential(network(0)[0]),  # the judge holds the target
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_judge_with_weights_of_the_target_is_refused(target: Callable[[], nn.Module]) -> None:
    judge: Judge = Some(network(0))
    said = refusal(judge, target().parameters(), frozenset())
    assert said and "some judge is not independent" in said and "weights" in said


def test_unrelated_networks_are_not_refused(facenet: FaceNetJudge) -> None:
    assert refusal(Some(network(0)), network(1).parameters(), frozenset({"LFW"})) is None
    assert refusal(Some(network(0)), [], frozenset()) is None
    assert refusal(Some(nn.BatchNorm2d(2000)), nn.BatchNorm2d(2000).parameters(), frozenset()) is None
    from facenet_pytorch import InceptionResnetV1

    assert refusal(facenet, InceptionResnetV1().parameters(), frozenset({"LFW"})) is None


def test_networks_with_a_table_in_common_are_not_refused() -> None:
    """Sinusoidal positions are the same in every vision transformer that has them."""
    table = nn.Parameter(torch.arange(2000.0).sin().reshape(1, 20, 100))
    one, other = network(0), network(1)
    for model in (one, other):
        model.register_parameter("positions", table)
    assert refusal(Some(one), other.parameters(), frozenset()) is None


def test_real_judges_are_refused_as_their_own_targets(
    facenet: FaceNetJudge, mobilefacenet: AlignedJudge, lpips_alex: LpipsJudge, dlib_judge: DlibJudge
) -> None:
    for judge in (facenet, mobilefacenet, lpips_alex):
        assert refusal(judge, judge.weights(), frozenset())
    assert refusal(mobilefacenet, facenet.weights(), frozenset({"CASIA-WebFace"})) is None
    assert refusal(lpips_alex, facenet.weights(), frozenset()) is None
    assert refusal(dlib_judge, facenet.weights(), frozenset({"CASIA-WebFace"})) is None


def test_a_judge_trained_on_the_private_data_is_refused(dlib_judge: DlibJudge) -> None:
    said = refusal(dlib_judge, [], frozenset({"LFW", "face scrub"}))
    assert said and "trained on FaceScrub" in said
