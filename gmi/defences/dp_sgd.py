"""Differentially private training: each image's gradient is clipped, and noise hides whether the image was there.

Abadi et al., Deep Learning with Differential Privacy, CCS 2016, alg. 1, as implemented in Opacus: the gradients of
single images are clipped and summed, and Gaussian noise is added; batches by Poisson sampling; the Renyi accountant
(Mironov et al., 2019). A person has several images: the guarantee for all of them together follows by composition over
the group (Vadhan, The Complexity of Differential Privacy, 2017, lemma 2.2).

Differs from the paper: Adam takes the noisy gradients; batch normalisation, which mixes images, becomes group
normalisation; activations that a network makes in place are made beside their input. The noise comes from the
training's seed, so that an audit can be repeated: the promise holds for a published model only if that seed is kept
secret.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from math import expm1, inf, isfinite, log
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gmi.defences.base import Answer, Defence, Privacy, Promise, part_of, replace_part
from gmi.errors import GmiError
from gmi.rng import seed_of
from gmi.settings import Positive, Rate, settings

_ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(11, 64)) + [64, 96, 128, 256]
"""Orders of Renyi's divergence: any are valid, and more of them make the bound tighter."""
_BESIDE = {"add_": Tensor.add, "sub_": Tensor.sub, "mul_": Tensor.mul, "div_": Tensor.div}
"""Operations that leave their input as it is, by the names of those that `+=` and its like call."""


@settings
class DpSgd(Defence):
    """DP-SGD with a guarantee for each single image. It needs Opacus."""

    type: Literal["dp-sgd"] = "dp-sgd"
    epsilon: Positive  # guaranteed for one image, with delta
    delta: Rate = 1e-5  # guaranteed for one image, with epsilon
    clip: Positive = 1.0  # norm to which the gradient of one image is cut
    part: str | None = None  # name of the only part that learns, for a head; None: the whole network learns

    def refuse(self, part: str | None, mirror: bool) -> None:
        _refuse_uninstalled()
        if part == self.part and not mirror:
            return
        mends = []
        if part != self.part:
            mends.append("leave out its part" if part is None else f"set its part: {part}")
        if mirror:
            mends.append("set training.mirror: false")
        mend = " and ".join(mends)
        raise GmiError(f"dp-sgd protects what learns, and counts every image once: {mend}.")

    @property
    def changes(self) -> str:
        return "batch normalisation, which mixes images, becomes group normalisation in what learns"

    def harden(self, module: nn.Module) -> nn.Module:
        _refuse_uninstalled()
        from opacus import GradSampleModule
        from opacus.validators import ModuleValidator

        logging.getLogger("opacus").setLevel(logging.ERROR)
        learner = module if self.part is None else part_of(module, self.part, "target.defence.part")
        fixed = ModuleValidator.fix(learner)
        errors = ModuleValidator.validate(fixed.train(), strict=False)
        if errors := errors or GradSampleModule.validate(fixed, strict=False):
            raise GmiError(f"target.defence: Opacus cannot train this network privately: {errors[0]}.")
        return replace_part(module, self.part or "", fixed)

    @contextmanager
    def learning(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, count: int, batch: int, steps: int, seed: int
    ) -> Iterator[tuple[Answer, torch.optim.Optimizer]]:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        private = GradSampleModule(module)
        generator = torch.Generator(next(module.parameters()).device).manual_seed(seed_of(seed, "noise"))
        noisy = DPOptimizer(
            optimiser,
            noise_multiplier=self.noise(min(1.0, batch / count), steps),
            max_grad_norm=self.clip,
            expected_batch_size=min(batch, count),
            generator=generator,
        )
        # Opacus hooks every layer's backward pass, and torch warns that the first layer's input needs no gradient
        with _ignored("Full backward hook is firing"), _OutOfPlace():
            unseen = True

            def answer(images: Tensor) -> Tensor:
                nonlocal unseen
                if unseen and len(images):
                    _refuse_changed(private, images[:1])
                    unseen = False
                return private(images)

            try:
                yield answer, noisy
            finally:
                private.to_standard_module()

    def draw(self, count: int, batch: int, draws: torch.Generator) -> Tensor:
        """Indices (B,) of a Poisson sample: each image comes in with probability batch / count, so B varies from 0."""
        return (torch.rand(count, generator=draws) < batch / count).nonzero().squeeze(1)

    def noise(self, share: float, steps: int) -> float:
        """Standard deviation of the noise, in units of `clip`, for `steps` steps on that share of the images each.

        Raises GmiError if no noise reaches (epsilon, delta).
        """
        from opacus.accountants.utils import get_noise_multiplier

        try:
            with _ignored("Optimal order is the"):
                return get_noise_multiplier(
                    target_epsilon=self.epsilon,
                    target_delta=self.delta,
                    sample_rate=share,
                    steps=steps,
                    alphas=_ORDERS,
                )
        except ValueError as error:
            raise GmiError(
                f"target.defence.epsilon: {self.epsilon:g} at delta {self.delta:g} cannot be reached in {steps} steps "
                f"on {share:.0%} of the images each: raise epsilon, or take fewer steps or smaller batches."
            ) from error

    def promise(self, classes: Tensor, batch: int, steps: int) -> Promise:
        share, images = min(1.0, batch / len(classes)), int(classes.bincount().max())
        noise = self.noise(share, steps)
        person = group_epsilon(noise, share, steps, images, self.delta)
        image = Privacy(epsilon(noise, share, steps, self.delta), self.delta)
        return Promise(noise, image, Privacy(person if isfinite(person) else None, self.delta), images)


class _OutOfPlace(TorchFunctionMode):
    """Activations and sums are made beside their input, where a network would overwrite it, as torchvision's do.

    The hooks that take gradients image by image hand on views, which torch does not let anybody overwrite.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if named.get("inplace"):
            named["inplace"] = False
        elif (name := getattr(func, "__name__", "")) in _BESIDE and _handed_on(args[0]):
            func = _BESIDE[name]
        return func(*args, **named)


def _handed_on(value: Tensor) -> bool:
    """Whether a hook of a backward pass has handed it on."""
    return type(value.grad_fn).__name__ == "BackwardHookFunctionBackward"


def _refuse_changed(private: Any, images: Tensor) -> None:
    """Raises GmiError where a network gives something else because nothing is overwritten: a sum made for its effect.

    private: Opacus's wrapper of the network, within `_OutOfPlace`.
    """
    network = private._module.eval()
    private.disable_hooks()
    found = []
    for wrapped in (True, False):  # the second time as it is without `_OutOfPlace`
        with torch.random.fork_rng(), nullcontext() if wrapped else torch._C.DisableTorchFunction():
            torch.manual_seed(0)
            with torch.set_grad_enabled(wrapped):
                found.append((private if wrapped else network)(images.clone()).detach())
    beside, plain = found
    private.enable_hooks()
    network.train()
    if not torch.allclose(beside, plain, rtol=1e-3, atol=1e-4):
        raise GmiError(
            "target.defence: this network overwrites activations that it uses again (x.add_(y), or inplace=True): "
            "dp-sgd cannot train it so; write x = x + y, and inplace=False."
        )


def epsilon(noise: float, share: float, steps: int, delta: float) -> float:
    """The epsilon that holds for one image at this delta, by the Renyi accountant."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise, share, steps)]
    with _ignored("Optimal order is the"):
        return accountant.get_epsilon(delta, _ORDERS)


def group_epsilon(noise: float, share: float, steps: int, size: int, delta: float) -> float:
    """The epsilon that holds for `size` images together at this delta.

    It is size epsilon(d) for the largest d with d (e^(size eps) - 1) / (e^eps - 1) <= delta, or infinite if there is no
    such d above 1e-300.
    """

    def fits(logarithm: float) -> bool:
        single = epsilon(noise, share, steps, 10**logarithm)
        return logarithm * log(10) + _log_expm1(size * single) - _log_expm1(single) <= log(delta)

    low, high = -300.0, log(delta) / log(10)
    if fits(high):
        return size * epsilon(noise, share, steps, delta)
    if not fits(low):
        return inf
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return size * epsilon(noise, share, steps, 10**low)


def _refuse_uninstalled() -> None:
    if find_spec("opacus") is None:
        raise GmiError("A dp-sgd defence needs Opacus: pip install opacus.")


@contextmanager
def _ignored(words: str) -> Iterator[None]:
    """A context that silences warnings which begin with these words."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", words, UserWarning)
        yield


def _log_expm1(value: float) -> float:
    """log(e^value - 1) without overflow."""
    return value if value > 30 else log(expm1(max(value, 1e-300)))
