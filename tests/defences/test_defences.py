"""Defences of the target's training: losses against slow formulas, and targets that still know their people."""

from dataclasses import replace
from itertools import product
from math import expm1, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from pydantic import TypeAdapter
from reference.bands import INPUT, PEOPLE, Net, accuracy, banded, seeded
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torchvision.models import resnet18

from gmi.assets.weights import digest
from gmi.defences import AnyDefence
from gmi.defences.at_at import AtAt
from gmi.defences.base import Defence, cross_entropy_loss
from gmi.defences.bido import Bido, coco, gaussian, hsic
from gmi.defences.bottleneck import Bottleneck, Noisy, rate, spread_of
from gmi.defences.dp_sgd import DpSgd, epsilon, group_epsilon
from gmi.defences.erasing import Erasing
from gmi.defences.label_smoothing import LabelSmoothing
from gmi.defences.skips import NoSkips
from gmi.defences.transfer import Transfer
from gmi.defences.trap import Trap
from gmi.errors import GmiError
from gmi.targets.module import ModuleTarget
from gmi.targets.networks import SmallCnn
from gmi.training.targets import Head, Scratch, fit

SMALL = replace(INPUT, size=(32, 32))
BLOCKS = ("features.0", "features.1", "features.2")
LESSONS = Scratch(steps=120, batch=16, lr=0.01)
CNN = ModuleTarget(factory="gmi.targets.networks:SmallCnn", arguments={"people": PEOPLE, "width": 4}, input=SMALL)


DEFENCES = [
    AtAt(iterations=2),
    Bido(blocks=BLOCKS),
    Bido(blocks=BLOCKS, measure="coco"),
    Bottleneck(),
    DpSgd(epsilon=500.0, clip=5.0),
    Erasing(),
    LabelSmoothing(),
    Transfer(frozen=("features.0",)),
    Trap(),
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learnt(defence: Defence, training: Head | Scratch = LESSONS, module: nn.Module | None = None, seed: int = 0):
    """A network that has learnt its people under a defence."""
    images = banded(8, 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = defence.harden(seeded(SmallCnn, people=PEOPLE, width=4) if module is None else module)
        input = SMALL if isinstance(training, Scratch) else INPUT
        training(module, input, images.bytes, defence.loss(module, images.classes), None, defence)
    return module


@pytest.mark.parametrize(
    "defence",
    [
        pytest.param(one, marks=pytest.mark.slow) if isinstance(one, AtAt | Trap | Erasing | DpSgd) else one
        for one in DEFENCES
    ],
    ids=lambda one: f"{one.type}{getattr(one, 'measure', '')}",
)
def test_a_defended_target_still_knows_its_people_and_comes_back_from_its_file(defence, tmp_path):
    module = learnt(defence)
    fresh = banded(8, 1)
    assert accuracy(module, SMALL, fresh.pixels, fresh.classes) >= 0.9
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, tmp_path / "model.safetensors")
    config = replace(CNN, defence=defence, weights=str(tmp_path / "model.safetensors"))
    back = config.load(("a", "b", "c"))
    with torch.no_grad():
        torch.testing.assert_close(back(fresh.pixels), module.eval()(SMALL(fresh.pixels)), rtol=1e-4, atol=1e-4)
    again = [learnt(defence, replace(LESSONS, steps=3)).state_dict().items() for _ in range(2)]
    assert digest(again[0]) == digest(again[1])
    assert TypeAdapter(AnyDefence).validate_python(TypeAdapter(AnyDefence).dump_python(defence)) == defence


@pytest.mark.parametrize(
    "defence", [LabelSmoothing(), Bottleneck(), DpSgd(epsilon=500.0, clip=5.0, part="head")], ids=lambda one: one.type
)
def test_a_defended_head_still_knows_its_people(defence):
    module = learnt(defence, Head(steps=100, mirror=False), seeded(Net))
    fresh = banded(8, 1)
    assert not any(part.training for part in module.modules())
    assert accuracy(module, INPUT, fresh.pixels, fresh.classes) >= 0.9


@pytest.mark.parametrize(
    ("defence", "training", "words"),
    [
        (AtAt(), Head(), "needs the whole network to learn"),
        (DpSgd(epsilon=8.0, part="head"), Head(), "image once: set training.mirror: false"),
        (DpSgd(epsilon=8.0), Head(mirror=False), "image once: set its part: head."),
        (DpSgd(epsilon=8.0), Head(), "set its part: head and set training.mirror: false"),
        (DpSgd(epsilon=8.0, part="head"), LESSONS, "leave out its part"),
        (NoSkips(), Head(), "no part named 'layer4'"),
        (Bido(blocks=("features.9",)), LESSONS, "no part named 'features.9'"),
        (Transfer(frozen=("body",)), LESSONS, "no part named 'body'"),
        (Transfer(frozen=("features", "head")), LESSONS, "nothing is left to learn"),
        (Bottleneck(part="features.0"), LESSONS, "features.0 is a Sequential, not a linear layer"),
        (NoSkips(stage="features"), LESSONS, "has no residual blocks of torchvision"),
        (NoSkips(), LESSONS, "no part named 'layer4'"),
        (DpSgd(epsilon=1e-4), LESSONS, "0.0001 at delta 1e-05 cannot be reached in 120 steps"),
    ],
)
def test_a_defence_that_does_not_fit_says_so_in_one_sentence(defence, training, words):
    with pytest.raises(GmiError, match=words):
        learnt(defence, training, seeded(Net) if isinstance(training, Head) else None)


def test_a_bottleneck_is_where_the_learning_is():
    with pytest.raises(
        GmiError, match=r"in the place of head, and first alone learns: set target\.defence\.part: first"
    ):
        Bottleneck(part="head").refuse("first", True)
    Bottleneck(part="head").refuse("head", True)
    Bottleneck(part="head").refuse(None, True)


def test_a_layer_that_opacus_cannot_handle_is_told_before_training():
    odd = nn.Linear(4, 2)
    odd.register_buffer("seen", torch.zeros(2))
    with pytest.raises(GmiError, match=r"Opacus cannot train this network privately: .*buffers"):
        DpSgd(epsilon=8.0).harden(nn.Sequential(odd))


# The losses, each against a formula that is written out


def test_label_smoothing_is_cross_entropy_with_a_soft_label():
    defence, outputs, classes = LabelSmoothing(alpha=-0.2), numbers(5, 4), torch.tensor([0, 1, 2, 3, 1])
    assert [defence.at(done) for done in (0, 0.5, 0.625, 0.75, 1)] == [0, 0, -0.1, -0.2, -0.2]
    for done in (0.2, 0.6, 0.9):
        alpha = defence.at(done)
        soft = (1 - alpha) * F.one_hot(classes, 4) + alpha / 4
        slow = -sum(soft[i, k] * log(outputs[i].softmax(0)[k]) for i, k in product(range(5), range(4))) / 5
        lesson = defence.loss(nn.Identity(), classes)
        assert lesson(lambda inputs: inputs, outputs, torch.arange(5), done).item() == pytest.approx(
            slow.item(), rel=1e-5
        )


def test_the_bottlenecks_rate_is_the_divergence_from_a_standard_normal():
    mean, spread = spread_of(numbers(6, 8))
    exact = kl_divergence(Normal(mean, spread), Normal(torch.zeros(()), torch.ones(()))).sum(1)
    torch.testing.assert_close(rate(mean, spread), exact)
    noisy, classes = Noisy(8, 3).eval(), torch.tensor([0, 1, 2, 0, 1, 2])
    whole = nn.Sequential(nn.Flatten(), noisy)
    inputs, rows = numbers(6, 8), torch.arange(6)
    plain = cross_entropy_loss(classes)(whole, inputs, rows, 0.0)
    told = rate(*spread_of(noisy.encode(inputs))).mean()
    torch.testing.assert_close(Bottleneck(beta=0.3).loss(whole, classes)(whole, inputs, rows, 0.0), plain + 0.3 * told)


def test_dependence_measures_are_the_written_out_sums():
    left, right = numbers(7, 3), numbers(7, 2, seed=1)
    apart = torch.cdist(left, left) ** 2
    torch.testing.assert_close(gaussian(left), (-apart / (2 * 25 * 3)).exp())
    k, m = gaussian(left).double().numpy(), gaussian(right).double().numpy()
    n = 7
    h = np.eye(n) - 1 / n
    k, m = h @ k @ h, h @ m @ h
    shares = [one @ np.linalg.inv(one + 1e-5 * n * np.eye(n)) for one in (k, m)]
    slow = np.trace(shares[0] @ shares[1])
    assert hsic(gaussian(left).double(), gaussian(right).double()).item() == pytest.approx(slow, rel=1e-4)
    most = np.sqrt(np.linalg.svd(k)[1][0] * np.linalg.svd(m)[1][0])
    slow = np.sqrt(np.linalg.svd(k @ m)[1][0]) / most
    assert coco(gaussian(left).double(), gaussian(right).double()).item() == pytest.approx(slow, rel=1e-4)


@pytest.mark.parametrize("measure", [hsic, coco])
def test_dependence_is_found_where_it_is(measure):
    values = numbers(200, 2)
    same, other = (measure(gaussian(values), gaussian(some)) for some in (values**3, numbers(200, 2, seed=1)))
    assert same > 1.5 * other
    constant = measure(gaussian(values), torch.ones(200, 200)).item()
    assert constant == pytest.approx(0, abs=2e-6)  # the root of 1e-12, at which its square is kept from 0


def test_bido_adds_the_dependence_of_every_block():
    module, classes = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)), torch.tensor([0, 1, 2, 1])
    inputs, rows = numbers(4, 6), torch.tensor([3, 0, 1, 2])
    lesson = Bido(blocks=("0", "1"), on_inputs=0.7, on_labels=0.4).loss(module, classes)
    hidden, labels = module[0](inputs), F.one_hot(classes[rows], 3).float()
    blocks = [gaussian(hidden), gaussian(module(inputs))]
    extra = sum(0.7 * hsic(gaussian(inputs), one) - 0.4 * hsic(one, labels @ labels.T) for one in blocks)
    expected = F.cross_entropy(module(inputs), classes[rows]) + extra
    torch.testing.assert_close(lesson(module, inputs, rows, 0.0), expected)


def test_at_at_moves_each_image_where_it_looks_most_like_the_other_person():
    """For a linear network of two people the best change is the radius against the slope's sign, everywhere."""
    module, inputs = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), numbers(4, 1, 3, 3)
    defence, classes = AtAt(radius=0.3, step=0.1, iterations=5, weight=0.5), torch.tensor([0, 1, 1, 0])
    moved = defence.perturbed(module, module, inputs, 1 - classes)
    towards = (module[1].weight[1 - classes] - module[1].weight[classes]).sign().reshape_as(inputs)
    torch.testing.assert_close(moved, inputs + 0.3 * towards)
    loss = defence.loss(module, classes)(module, inputs, torch.arange(4), 0.0)
    expected = F.cross_entropy(module(inputs), classes) + 0.5 * F.cross_entropy(module(moved), 1 - classes)
    torch.testing.assert_close(loss, expected)


def test_at_at_leaves_batch_statistics_to_the_images():
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(9, 2))
    before = digest(module.state_dict().items())
    AtAt().perturbed(module, module, numbers(4, 1, 3, 3), torch.tensor([0, 1, 1, 0]))
    assert digest(module.state_dict().items()) == before and all(one.grad is None for one in module.parameters())


def test_erasing_blanks_a_square_of_the_given_area_in_every_image():
    seen: list[Tensor] = []
    classes = torch.zeros(200, dtype=torch.int64)

    def answer(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros(len(images), 1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        Erasing(least=0.1, most=0.4).loss(nn.Identity(), classes)(answer, torch.zeros(200, 1, 32, 32), classes, 0.0)
    blank = seen[0][:, 0] == 0.5
    sides = blank.any(2).sum(1)
    assert torch.equal(blank.any(1).sum(1), sides) and torch.equal(blank.sum((1, 2)), sides**2)
    share = blank.double().mean((1, 2))
    assert share.min() > 0.08 and share.max() < 0.43  # whole pixels
    assert share.mean().item() == pytest.approx(0.25, abs=0.02)  # of a uniform draw: 4 standard errors
    with pytest.raises(ValueError, match="least must not exceed most"):
        Erasing(least=0.5, most=0.2)


@pytest.mark.slow
def test_a_trap_makes_its_pattern_mean_the_person():
    """What is planted is found: the pattern of a person, faint in anybody's image, names the person."""
    defence, images = Trap(blend=0.2, share=0.5), banded(8, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = seeded(SmallCnn, people=PEOPLE, width=4)
        lesson = defence.loss(module, images.classes)
        replace(LESSONS, steps=200)(module, SMALL, images.bytes, lesson, None, defence)
    fresh, meant = banded(8, 1), torch.arange(8 * PEOPLE) % PEOPLE
    meant = meant.roll(1)
    patterned = lesson.trapped(fresh.pixels, lesson.patterns, meant)
    assert accuracy(module, SMALL, patterned, meant) >= 0.8
    assert accuracy(module, SMALL, fresh.pixels, fresh.classes) >= 0.8
    assert lesson.patterns.min() >= 0 and lesson.patterns.max() <= 1


def test_transfer_keeps_what_is_public_and_takes_it_from_a_file(tmp_path):
    public = seeded(SmallCnn, people=9, width=4)
    with torch.no_grad():
        public.features[0][1].running_mean += 0.5
    save_file(public.state_dict(), tmp_path / "public.safetensors")
    defence = Transfer(frozen=("features.0", "features.1"), start=str(tmp_path / "public.safetensors"))
    module = learnt(defence, replace(LESSONS, steps=5))
    theirs, ours = public.state_dict(), module.state_dict()
    frozen = [name for name in ours if name.startswith(("features.0", "features.1"))]
    assert len(frozen) == 14 and all(torch.equal(ours[name], theirs[name]) for name in frozen)
    assert not torch.equal(ours["features.2.0.weight"], theirs["features.2.0.weight"])
    for name, words in (("absent", "cannot be read"), ("other", "no fitting features.0.0.weight")):
        save_file(seeded(SmallCnn, people=3, width=8).state_dict(), tmp_path / "other.safetensors")
        with pytest.raises(GmiError, match=words):
            learnt(replace(defence, start=str(tmp_path / f"{name}.safetensors")))


def test_without_skips_a_stage_is_its_convolutions_alone():
    images = numbers(2, 3, 32, 32)
    network = seeded(resnet18, num_classes=PEOPLE).eval()
    first = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1, network.layer2)
    hidden = network.layer3(first(images))
    for block in network.layer4:
        hidden = block.bn2(block.conv2(block.bn1(block.conv1(hidden)).relu())).relu()
    straight = NoSkips().harden(network).eval()
    with torch.no_grad():
        torch.testing.assert_close(straight(images), network.fc(hidden.mean((2, 3))))


# Differential privacy


@pytest.mark.parametrize(("noise", "share", "steps"), [(1.0, 0.1, 200), (2.0, 0.3, 60), (5.0, 1.0, 50)])
def test_epsilon_agrees_with_a_second_accountant(noise, share, steps):
    event = SelfComposedDpEvent(PoissonSampledDpEvent(share, GaussianDpEvent(noise)), steps)
    ours = epsilon(noise, share, steps, 1e-5)
    assert ours == pytest.approx(RdpAccountant().compose(event).get_epsilon(1e-5), rel=0.02)
    tight = PLDAccountant(value_discretization_interval=1e-3).compose(event).get_epsilon(1e-5)
    assert 0.8 * ours < tight <= ours * 1.001  # Renyi's is an upper bound, and not a loose one


@pytest.mark.slow
def test_a_persons_epsilon_is_the_best_that_composition_over_the_group_gives():
    def slow(noise: float, share: float, steps: int, size: int, delta: float) -> float:
        found = []
        for small in 10 ** np.linspace(-20, np.log10(delta), 100):
            one = epsilon(noise, share, steps, small)
            if small * expm1(size * one) / expm1(one) <= delta:
                found.append(size * one)
        return min(found, default=np.inf)

    assert group_epsilon(4.0, 0.2, 100, 5, 1e-5) == pytest.approx(slow(4.0, 0.2, 100, 5, 1e-5), rel=2e-2)
    assert group_epsilon(4.0, 0.2, 100, 1, 1e-5) == pytest.approx(epsilon(4.0, 0.2, 100, 1e-5))
    assert group_epsilon(0.2, 0.9, 1000, 60, 1e-5) == np.inf


def test_what_is_promised_is_what_is_trained_for():
    classes = torch.tensor([0, 0, 0, 1, 1, 2] * 10)
    promise = LESSONS.promise(DpSgd(epsilon=4.0), classes)
    assert promise is not None and 3.9 < promise.image.epsilon <= 4 and promise.images == 30
    assert promise.person.epsilon is None or promise.person.epsilon > 30 * 1
    assert Head(steps=50).promise(DpSgd(epsilon=4.0), classes).noise > promise.noise  # every image in every step
    assert LESSONS.promise(Erasing(), classes) is None
    assert "epsilon 3.9" in str(promise) or "epsilon 4.00" in str(promise)


def test_private_batches_take_each_image_by_itself():
    draws, defence = torch.Generator().manual_seed(0), DpSgd(epsilon=1.0)
    batches = [defence.draw(50, 5, draws) for _ in range(2000)]
    sizes = torch.tensor([len(one) for one in batches]).double()
    assert sizes.mean().item() == pytest.approx(5, abs=0.2) and sizes.var().item() == pytest.approx(4.5, abs=0.5)
    assert all(len(one.unique()) == len(one) for one in batches)


def test_private_training_replaces_batch_normalisation_and_survives_an_empty_batch():
    module = learnt(DpSgd(epsilon=50.0), replace(LESSONS, batch=1, steps=20))  # a third of the batches are empty
    kinds = {type(part).__name__ for part in module.modules()}
    assert "GroupNorm" in kinds and "BatchNorm2d" not in kinds
    assert all(value.isfinite().all() for value in module.state_dict().values())


def test_the_noise_of_private_training_is_what_its_promise_says():
    """Where no image has a gradient, a step is noise alone: of standard deviation noise clip / batch."""
    module, defence = nn.Sequential(nn.Flatten(), nn.Linear(40 * 40, 30)), DpSgd(epsilon=3.0, clip=0.5)
    before = [value.detach().clone() for value in module.parameters()]
    plain = torch.optim.SGD(module.parameters(), lr=1.0)
    with defence.learning(module, plain, 100, 10, 50, 0) as (answer, optimiser):
        (0 * answer(numbers(4, 1, 40, 40)).sum()).backward()
        optimiser.step()
    moved = torch.cat([(now.detach() - then).flatten() for now, then in zip(module.parameters(), before, strict=True)])
    promise = defence.promise(torch.arange(100) % 5, 10, 50)
    assert moved.std().item() == pytest.approx(promise.noise * 0.5 / 10, rel=0.02)  # 48,030 draws: 0.3 %
    assert promise.image.epsilon == pytest.approx(epsilon(promise.noise, 0.1, 50, 1e-5))


def test_private_batches_are_those_that_a_training_takes():
    sizes = []

    class Counting(DpSgd):
        def loss(self, module, classes):
            name = cross_entropy_loss(classes)

            def lesson(answer, inputs, rows, done):
                sizes.append(len(inputs))
                return name(answer, inputs, rows, done)

            return lesson

    learnt(Counting(epsilon=50.0), replace(LESSONS, batch=2, steps=30))
    assert 0 in sizes and max(sizes) > 2 and 1 < sum(sizes) / 30 < 3.2  # 2 on average, standard error 0.25


def test_bido_weighs_something():
    """Its term moves the features by no less than a hundredth of what the names do."""
    images = banded(8, 0)
    module = seeded(SmallCnn, people=PEOPLE, width=4).train()
    slopes = []
    for weights in ((0.0, 0.0), (0.05, 0.5)):
        lesson = Bido(blocks=BLOCKS, on_inputs=weights[0], on_labels=weights[1]).loss(module, images.classes)
        module.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of dropout
            lesson(module, SMALL(images.pixels), torch.arange(24), 0.0).backward()
        slopes.append(torch.cat([value.grad.flatten() for value in module.features.parameters()]))
    assert (slopes[1] - slopes[0]).norm() > 0.01 * slopes[0].norm()


def test_no_skips_of_a_single_block():
    network = seeded(resnet18, num_classes=PEOPLE).eval()
    straight = NoSkips(stage="layer4.0").harden(network)
    assert type(straight.layer4[0]).__name__ == "PlainBlock" and type(straight.layer4[1]).__name__ == "BasicBlock"


def test_one_image_moves_private_training_by_no_more_than_the_clip():
    """Without noise, a step of gradient descent on one image is at most clip / batch long."""

    class Quiet(DpSgd):
        def noise(self, share: float, steps: int) -> float:
            return 0.0

    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    before = torch.cat([value.detach().flatten().clone() for value in module.parameters()])
    image = 100 * numbers(1, 1, 3, 3)
    wrong = module(image).argmin(1)
    plain = torch.optim.SGD(module.parameters(), lr=1.0)
    with Quiet(epsilon=1.0, clip=0.01).learning(module, plain, 10, 5, 1, 0) as (answer, optimiser):
        cross_entropy_loss(torch.tensor([0, 1]))(answer, image, wrong, 0.0).backward()
        optimiser.step()
    moved = (torch.cat([value.detach().flatten() for value in module.parameters()]) - before).norm().item()
    assert moved == pytest.approx(0.01 / 5, rel=1e-3)


class Overwriting(nn.Module):
    """Activations and sums in place, as torchvision writes them; `effect`: a sum whose result is not handed on."""

    def __init__(self, effect: bool = False, inplace: bool = True) -> None:
        super().__init__()
        self.effect, self.inplace = effect, inplace
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.active, self.head = nn.ReLU(inplace), nn.Linear(4, PEOPLE)

    def forward(self, images: Tensor) -> Tensor:
        before = self.active(self.first(images))
        after = self.second(F.relu(before, inplace=self.inplace))
        if self.effect:
            after.add_(before)
        elif self.inplace:
            after += before
        else:
            after = after + before
        return self.head(F.hardswish(after, inplace=self.inplace).mean((2, 3)))


def test_networks_that_overwrite_activations_are_trained_privately_as_those_that_do_not():
    states = [
        learnt(DpSgd(epsilon=500.0), replace(LESSONS, steps=6), seeded(Overwriting, inplace=inplace))
        for inplace in (True, False)
    ]
    for name, value in states[0].state_dict().items():
        torch.testing.assert_close(value, states[1].state_dict()[name])


def test_a_sum_that_private_training_would_lose_is_refused():
    with pytest.raises(GmiError, match=r"write x = x \+ y"):
        learnt(DpSgd(epsilon=500.0), replace(LESSONS, steps=2), seeded(Overwriting, effect=True))


class Normalising(Overwriting):
    """It overwrites its input, which no hook hands on, and drops features by chance, whatever its mode."""

    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(super().forward(images.clone().sub_(0.5).div_(0.5)), training=True)


def test_networks_of_chance_are_compared_by_the_same_chance():
    before = torch.random.get_rng_state()
    learnt(DpSgd(epsilon=500.0), replace(LESSONS, steps=2), seeded(Normalising))
    assert torch.random.get_rng_state().equal(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 32),
        ("densenet121", 32),
        ("shufflenet_v2_x0_5", 32),
        ("mobilenet_v3_small", 32),
        ("inception_v3", 80),
        ("squeezenet1_0", 32),
    ],
)
def test_networks_of_torchvision_are_trained_privately(name, size):
    arguments = {"num_classes": PEOPLE} | ({"aux_logits": False, "init_weights": False} if "inception" in name else {})
    plan = ModuleTarget(
        factory=f"torchvision.models:{name}",
        arguments=arguments,
        input=replace(INPUT, size=(size, size), colour="grey as rgb"),
        defence=DpSgd(epsilon=50.0),
    )
    images = banded(2, 0)
    before = digest(plan.weighed().state_dict().items())
    module = fit(plan, replace(LESSONS, steps=2, batch=4), images.bytes, images.classes, torch.device("cpu"))
    assert digest(module.state_dict().items()) != before
    assert all(value.isfinite().all() for value in module.state_dict().values())
