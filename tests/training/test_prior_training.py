"""Training of priors: each kind learns, a kill at any moment changes nothing, and what comes out is a prior folder."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from conftest import repeats
from torchvision.transforms.functional import to_pil_image

from gmi import toy
from gmi.assets.weights import read_weights
from gmi.data.images import Images
from gmi.data.people import Faces
from gmi.data.public import PublicImages
from gmi.errors import GmiError
from gmi.judges.spaces import space_of
from gmi.metrics.distribution import frechet
from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Gan
from gmi.priors.stylegan import StyleGan
from gmi.rng import Rng
from gmi.run import Run
from gmi.settings import read
from gmi.training import command
from gmi.training import priors as prior_training
from gmi.training.learners import Adversarial, Denoising
from gmi.training.overlap import overlap
from gmi.training.priors import PriorTraining, train
from gmi.training.style import StyleBased

CPU = torch.device("cpu")
SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "priors").glob("*.yaml"))
LEARNERS = {
    "flow": Denoising(type="flow", channels=(8, 16), layers=1, attention=(), groups=4, steps=6),
    "ddpm": Denoising(type="ddpm", channels=(16, 32), layers=1, attention=(), groups=4, steps=20),
    "gan": Adversarial(latent=8, channels=(16, 8)),
    "stylegan": StyleBased(latent=8, width=8, layers=2, channels=(8, 8, 4), critic=(8, 8, 4), every=4),
}
PRIORS = {"gan": Gan, "stylegan": StyleGan}  # and Diffusion


class Space:
    """In FaceNet's place, which costs seconds: coarse light and dark."""

    def __init__(self, device: torch.device, batch: int) -> None: ...

    def __call__(self, images: torch.Tensor):
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1).numpy()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (prior_training, command):
        monkeypatch.setattr(module, "space_of", lambda subject, device, batch: Space(device, batch))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> Path:
    """Grey images of 16 px, that a small GAN made."""
    folder = tmp_path_factory.mktemp("public")
    prior = toy.prior(8)
    for number, image in enumerate(prior.decode(Rng(range(120)).normal(8))):
        to_pil_image(image).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def plan(public) -> PriorTraining:
    data = PublicImages(name="toys", folder=str(public), terms="none", size=16, grey=True, held_out=40)
    settings = {"steps": 12, "batch": 8, "lr": 2e-3, "warmup": 3, "ema": 0.8, "look": 4, "save": 3}
    return PriorTraining(name="toy", data=data, learner=LEARNERS["flow"], **settings)


def learn(plan: PriorTraining, folder: Path, report=None) -> prior_training.Progress:
    run = Run.open(folder, {"plan": plan.name})
    return train(plan, *plan.data.load(), run, Accelerator(cpu=True), report=report)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "prior").rglob("*.safetensors")
    return read_weights(path)


@pytest.mark.parametrize("name", repeats("flow", slow=("stylegan", "ddpm", "gan")))
def test_what_is_learned_comes_nearer_to_images_never_seen(plan, tmp_path, name):
    steps = 200 if name == "gan" else 80
    plan = replace(plan, learner=LEARNERS[name], steps=steps, batch=16, look=40, save=steps, ema=0.9)
    progress = learn(plan, tmp_path / "run")
    best = progress.history[progress.best]["distance"]
    untrained = learn(replace(plan, steps=1), tmp_path / "untrained").history[0]["distance"]
    assert best < untrained / 2
    folder = str(tmp_path / "run" / "prior")
    prior = PRIORS.get(name, Diffusion)(folder=folder).load(CPU)
    with torch.no_grad():
        made = (prior.decode(prior.sample(Rng(range(40)))) * 255).round().byte()
    space = Space(CPU, 8)
    reached = frechet(space(plan.data.load()[1].bytes), space(made))
    assert made.shape == (40, 1, 16, 16) and reached == pytest.approx(best, rel=0.5)  # other latents, half precision


@pytest.mark.parametrize(
    "moment",
    repeats(("flow", 5), ("gan", 11), slow=(("stylegan", 5), ("flow", 1), ("flow", 11), ("ddpm", 5), ("gan", 5))),
)
def test_a_kill_at_any_moment_changes_nothing(plan, tmp_path, moment):
    name, after = moment

    class Killed(Exception):
        pass

    def kill(step: int, loss: float) -> None:
        if step == after:
            raise Killed

    learner = LEARNERS[name]
    learner = learner if name in PRIORS else replace(learner, channels=(4, 8), attention=(), steps=1)
    plan = replace(plan, learner=learner, accumulate=2)
    whole = learn(plan, tmp_path / "whole")
    with pytest.raises(Killed):
        learn(plan, tmp_path / "killed", kill)
    assert learn(plan, tmp_path / "killed") == whole
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    card, other = (
        [line for line in (tmp_path / run / "prior" / "README.md").read_text().splitlines() if "| date |" not in line]
        for run in ("whole", "killed")
    )
    assert card == other
    card = "\n".join(card)
    assert "80 images, 40 more held out" in card and "FD-FaceNet" in card


def in_two_processes(plan: PriorTraining, folder: Path) -> None:
    AcceleratorState._reset_state(True)  # a forked process starts with its parent's idea of how many there are
    torch.set_num_threads(1)
    learn(plan, folder)


@pytest.mark.slow
def test_two_processes_train_one_prior_on_twice_the_images_a_step(plan, tmp_path):
    debug_launcher(in_two_processes, args=(plan, tmp_path / "two"), num_processes=2)
    assert "| steps | 12 of 16 images |" in (tmp_path / "two" / "prior" / "README.md").read_text()
    one, two = (learn(plan, tmp_path / "one").history, json.loads((tmp_path / "two" / "history.json").read_text()))
    assert [look["step"] for look in two] == [4, 8, 12] == [look["step"] for look in one]
    assert 0 < two[-1]["distance"] < 1.1 * one[-1]["distance"]


@pytest.mark.slow
def test_half_precision_learns_too(plan, tmp_path):
    AcceleratorState._reset_state(True)
    progress = train(
        replace(plan, steps=80, batch=16, look=80, ema=0.9),
        *plan.data.load(),
        Run.open(tmp_path / "run", {}),
        Accelerator(cpu=True, mixed_precision="bf16"),
    )
    AcceleratorState._reset_state(True)
    untrained = learn(replace(plan, steps=1), tmp_path / "untrained").history[0]["distance"]
    assert progress.history[0]["distance"] < untrained / 2
    assert "precision bf16" in (tmp_path / "run" / "prior" / "README.md").read_text()


def test_a_finished_training_is_not_done_again(plan, tmp_path):
    learn(plan, tmp_path / "run")
    steps = []
    assert learn(plan, tmp_path / "run", lambda step, loss: steps.append(step)).step == 12 and steps == []


def test_it_ends_when_nothing_gets_better_and_keeps_the_best(plan, tmp_path, monkeypatch):
    distances = iter([3.0, 1.0, 2.0, 2.5, 0.5])
    monkeypatch.setattr(prior_training, "frechet", lambda *_: next(distances))
    progress = learn(replace(plan, steps=100, look=2, patience=2), tmp_path / "run")
    assert progress.step == 8 and progress.best == 1
    assert "| steps | 4 of 8 images |" in (tmp_path / "run" / "prior" / "README.md").read_text()
    assert len(list((tmp_path / "run" / "grids").glob("*.png"))) == 4


def test_a_damaged_state_is_refused_with_what_to_do(plan, tmp_path):
    learn(plan, tmp_path / "run")
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(GmiError, match="remove it to train from the start"):
        learn(plan, tmp_path / "run")


def test_a_loss_that_breaks_is_told(plan, tmp_path):
    with pytest.raises(GmiError, match="lower lr"):
        learn(replace(plan, lr=1e30, clip=1e30, warmup=0), tmp_path / "run")


def faces(public: Path, folder: Path) -> Faces:
    """Four people of three images each, of which one is public."""
    for number, path in enumerate(sorted(public.glob("*.png"))[:12]):
        (folder / f"p{number % 4}").mkdir(parents=True, exist_ok=True)
        image = to_pil_image(toy.prior(8).decode(Rng([1000 + number]).normal(8))[0])
        image.save(folder / f"p{number % 4}" / path.name)
    return Faces(name="the people", folder=str(folder), enrolment=1)


def test_private_images_among_the_public_are_found(plan, public, tmp_path):
    people = faces(public, tmp_path / "people")
    images, held_out = plan.data.load()
    assert "strangers make" in overlap(people.load(), images, Space(CPU, 8))
    for some in (images, held_out):
        path = next(path for path in public.glob("*.png") if sha256(path.read_bytes()).hexdigest() == some.digests[0])
        (tmp_path / "people" / "p0" / "copy.png").write_bytes(path.read_bytes())
        with pytest.raises(GmiError, match="1 public images are images of the private set"):
            overlap(people.load(), some, Space(CPU, 8))


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (Denoising(type="flow", channels=(8, 16)), "levels of learner.channels are 0 to 1"),
        (
            Denoising(type="flow", channels=(8, 16, 16, 16, 16, 16)),
            "16 px cannot be halved 5 times.*take a multiple of 32",
        ),
        (Denoising(type="flow", channels=(10, 20), attention=(), groups=16), "diffusers cannot make this UNet"),
        (Adversarial(channels=(8,)), "makes 8 px, not 16"),
    ],
)
def test_networks_that_do_not_fit_the_images(plan, tmp_path, learner, words):
    with pytest.raises(GmiError, match=words):
        learn(replace(plan, learner=learner), tmp_path / "run")


def test_too_few_images(plan):
    with pytest.raises(GmiError, match=r"held_out is 120, but .* holds 120 images"):
        replace(plan.data, held_out=120).load()


def test_colour_and_grey_are_made_of_each_other(plan, public, tmp_path):
    grey = plan.data.load()[0].bytes
    colour = replace(plan.data, grey=False).load()[0].bytes
    assert torch.equal(colour, grey.expand(-1, 3, -1, -1))
    for path in public.glob("*.png"):
        to_pil_image(torch.rand(3, 16, 16)).save(tmp_path / path.name)
    assert replace(plan.data, folder=str(tmp_path)).load()[0].bytes.shape == (80, 1, 16, 16)


def test_the_command_trains_and_goes_on(plan, public, tmp_path, capsys):
    tree = {
        "name": "toy",
        "data": {"name": "toys", "folder": str(public), "terms": "none", "size": 16, "grey": True, "held_out": 40},
        "learner": {"type": "flow", "channels": [8, 16], "layers": 1, "attention": [], "groups": 4, "steps": 2},
        "steps": 4,
        "batch": 4,
        "look": 2,
        "private": {"name": "the people", "folder": str(tmp_path / "people"), "enrolment": 1},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(tree))
    faces(public, tmp_path / "people")
    arguments = [str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "run")]
    command.main(arguments)
    first = weights(tmp_path / "run")
    command.main(arguments)
    printed = capsys.readouterr().out.splitlines()
    assert (
        len(printed) == 6
        and printed[:3] == printed[3:]
        and "FD-FaceNet" in printed[2]
        and "strangers make" in printed[0]
    )
    card = (tmp_path / "run" / "prior" / "README.md").read_text()
    assert "compared with private ones" in card and "the people" not in card
    assert all(torch.equal(value, weights(tmp_path / "run")[key]) for key, value in first.items())
    assert [look["step"] for look in json.loads((tmp_path / "run" / "history.json").read_text())] == [2, 4]
    with pytest.raises(GmiError, match=r"differs in lr\)"):
        command.main([*arguments, "--lr", "0.5"])


def test_a_training_starts_from_another_prior(plan, tmp_path):
    learn(plan, tmp_path / "first")
    further = replace(plan.learner, start=str(tmp_path / "first" / "prior"))
    begun = further.build(16, 1)["prior"].state_dict()
    assert all(torch.equal(value.float(), begun[key]) for key, value in weights(tmp_path / "first").items())
    assert all(one.requires_grad for one in further.build(16, 1)["prior"].parameters())
    moved = learn(replace(plan, learner=further, steps=1), tmp_path / "second").history[0]
    fresh = learn(replace(plan, steps=1), tmp_path / "third").history[0]
    assert moved["prior"] < fresh["prior"]
    card = (tmp_path / "second" / "prior" / "README.md").read_text()
    assert "## It went on from another prior" in card and "| steps | 12 of 8 images |" in card
    assert str(tmp_path) not in card
    for other, words in (({"channels": (4, 8)}, "network of another shape"), ({"type": "ddpm"}, "along another path")):
        with pytest.raises(GmiError, match=words):
            replace(further, **other).build(16, 1)
    with pytest.raises(GmiError, match="network of another shape"):
        further.build(32, 1)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_reads_and_its_networks_can_be_made(path):
    shipped = read(path, PriorTraining)
    with torch.device("meta"):
        modules = shipped.learner.build(shipped.data.size, 1 if shipped.data.grey else 3)
    assert sum(value.numel() for value in modules["prior"].parameters()) < 20e6  # 40 MB in half precision


def test_learning_rate_rises_and_falls():
    plan = PriorTraining(
        name="p", data=PublicImages(name="d", folder="d", size=8, terms="t"), learner=Denoising(type="flow"),
        steps=100, lr=2.0, warmup=9, decay="cosine",
    )  # fmt: skip
    assert [plan.rate(step) for step in (0, 50, 100)] == pytest.approx([0.2, 1.0, 0.0])
    assert replace(plan, decay="none").rate(99) == 2.0


def test_a_share_of_the_times_is_uniform():
    """A network that answers with its time: late times are rare where they are logit-normal, and a tenth as said."""
    seen = []

    def network(noisy, stamps, return_dict):
        seen.append(stamps / 1000)
        return (noisy,)

    images, share = torch.zeros(20_000, 1, 1, 1), []
    for uniform in (0.0, 0.1):
        Denoising(type="flow", uniform=uniform).loss(
            "prior", {"prior": network}, images, torch.Generator().manual_seed(0)
        )
        share.append(float((seen[-1] < 0.2).float().mean()))
    # P(sigmoid(.8 + .8 n) < .2) = Phi((logit(.2) - .8) / .8) = Phi(-2.733) = .00314; a tenth of .2 on top
    assert share == pytest.approx([0.00314, 0.9 * 0.00314 + 0.02], abs=0.003)


def test_only_images_of_faces_are_mirrored_unless_it_is_said(plan):
    assert plan.mirrored and not replace(plan, subject="objects").mirrored
    assert replace(plan, subject="objects", mirror=True).mirrored and not replace(plan, mirror=False).mirrored
    slope = torch.arange(16).repeat(16, 1)[None, None].byte()
    images = Images.of(slope, torch.zeros(1, dtype=torch.int64))
    drawn = {
        mirror: prior_training._batch(images, 64, 0, torch.device("cpu"), mirror)[:, 0, 0, 0]
        for mirror in (True, False)
    }
    assert 10 < (drawn[True] != drawn[True].min()).sum() < 54 and len(drawn[False].unique()) == 1


def test_objects_are_compared_by_small_pixels():
    space = space_of("objects", torch.device("cpu"), 8)
    left = torch.randint(0, 255, (5, 3, 32, 32), dtype=torch.uint8)
    shrunk = (left.float() / 255).unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5))
    np.testing.assert_allclose(space(left), shrunk.flatten(1), atol=1e-6)
    assert space(left[..., :8, :8]).shape == (5, 192)  # what is smaller is not enlarged
