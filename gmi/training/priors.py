"""Training a prior on public images, in one loop that can be killed at any moment.

    state.pt             the whole state of the training, as tensors and numbers
    prior/               the prior folder with its model card: the best so far
    grids/STEP.png       samples
    history.json         each look at the samples

Every draw comes from the seed, the step and the process, so that a resumed training makes the same weights as one that
was never interrupted (on a CPU, to the bit). Of the running average of the weights, the state is kept whose samples are
nearest to held-out public images, by the Frechet distance in FaceNet's feature space, or in that of small pixels.
"""

import copy
import io
import json
import math
import pickle
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.utils import save_image

from gmi.data.images import Images
from gmi.data.people import Faces
from gmi.data.public import PublicImages
from gmi.errors import GmiError
from gmi.files import written
from gmi.judges.spaces import space_of
from gmi.metrics.distribution import frechet
from gmi.processes import wait
from gmi.protocols import Prior
from gmi.rng import Rng, seed_of
from gmi.run import Run
from gmi.settings import OPERATIONAL, Count, Positive, Whole, settings
from gmi.tracking import Tracker
from gmi.training import AnyLearner
from gmi.training.learners import Learner

GRID = 36


@settings
class PriorTraining:
    """The training of one prior."""

    name: str  # name of the prior, and of the training's folder
    data: PublicImages  # images that it learns from
    learner: AnyLearner  # kind of prior, and its hyper-parameters
    # what the images show: decides the space in which samples are compared with held-out images, FaceNet's or pixels
    subject: Literal["faces", "objects"] = "faces"
    mirror: bool | None = None  # mirror half of the images; None: those of faces
    steps: Count  # updates of the weights
    batch: Count = 64  # images per batch in each process
    accumulate: Count = 1  # batches whose gradients are summed before the weights move
    lr: Positive = 2e-4  # learning rate of Adam
    warmup: Whole = 200  # steps over which the learning rate rises linearly
    decay: Literal["none", "cosine"] = "none"  # the learning rate's way down: along a half cosine to 0 at the last step
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the running average of the weights
    clip: Positive = 1.0  # greatest norm of the gradient
    look: Count = 1000  # steps between two looks at the samples
    save: Count = 500  # steps between two writings of state.pt
    patience: Count | None = None  # looks without a smaller distance after which the training ends; None: never
    private: Faces | None = None  # people that the public images must not show; checked before the training starts
    seed: Whole = 0  # seed of everything that is random
    track: Annotated[tuple[Tracker, ...], OPERATIONAL] = ()  # trackers of experiments that get losses and distances

    @property
    def mirrored(self) -> bool:
        """True when half of the images are mirrored."""
        return self.subject == "faces" if self.mirror is None else self.mirror

    @property
    def distance(self) -> str:
        """Name of the distance of samples to held-out images, which says in what space it is."""
        return "FD-FaceNet" if self.subject == "faces" else "FD-pixels"

    def rate(self, step: int) -> float:
        """The learning rate at a step, counted from 0."""
        rising = min(1.0, (step + 1) / (self.warmup + 1))
        return self.lr * rising * (0.5 + 0.5 * math.cos(math.pi * step / self.steps) if self.decay == "cosine" else 1.0)


@dataclass
class Progress:
    """The number of steps that are done, and the looks so far."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # per look: step, loss of each module, distance

    @property
    def best(self) -> int:
        """Index of the look with the smallest distance so far; -1 before the first look."""
        return min(range(len(self.history)), key=lambda i: self.history[i]["distance"], default=-1)

    def exhausted(self, patience: int | None) -> bool:
        """True when that many looks have brought no smaller distance; never with a patience of None."""
        return patience is not None and len(self.history) - 1 - self.best >= patience


def train(
    plan: PriorTraining,
    images: Images,
    held_out: Images,
    run: Run,
    accelerator: Accelerator,
    remark: str = "",
    report: Callable[[int, Mapping[str, float]], object] | None = None,
) -> Progress:
    """Trains to the end, from where the run folder stands.

    remark: text for the model card, in addition to the plan. report: called with each step's number, its
    losses and, where there was a look, the distance. Raises GmiError for mixed precision in fp16, a damaged state, a
    loss that is not finite, and a network that cannot be built.
    """
    if accelerator.mixed_precision == "fp16":
        raise GmiError("Priors are trained in full precision or in bf16: set mixed_precision to no or bf16.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)  # for the first weights; nothing later draws from the global generator
        modules = plan.learner.build(plan.data.size, 1 if plan.data.grey else 3)
    average = AveragedModel(modules["prior"], multi_avg_fn=get_ema_multi_avg_fn(plan.ema), use_buffers=True)
    average.to(accelerator.device)
    modules = {name: accelerator.prepare(module.train()) for name, module in modules.items()}
    optimisers = {
        name: torch.optim.Adam(module.parameters(), lr=plan.lr, betas=plan.learner.betas)
        for name, module in modules.items()
    }
    state = {"average": average, **{name: accelerator.unwrap_model(module) for name, module in modules.items()}}
    state |= {f"optimiser of {name}": optimiser for name, optimiser in optimisers.items()}
    progress = _resumed(run.folder / "state.pt", state)
    looker = Look(plan, held_out, accelerator.device) if accelerator.is_main_process else None

    while progress.step < plan.steps and not progress.exhausted(plan.patience):
        for optimiser in optimisers.values():
            optimiser.param_groups[0]["lr"] = plan.rate(progress.step)
        losses = _step(plan, modules, optimisers, images, progress.step, accelerator)
        average.update_parameters(state["prior"])
        progress.step += 1
        told: dict[str, float] = {f"loss/{name}": loss for name, loss in losses.items()}
        if progress.step % plan.look == 0 or progress.step == plan.steps:
            distance = looker(average.module, progress.step, run) if looker is not None else 0.0
            shared: Any = accelerator.reduce(torch.tensor(distance, device=accelerator.device), "sum")
            progress.history.append({"step": progress.step, "distance": float(shared), **losses})
            told[plan.distance] = float(shared)
            if looker is not None:
                run.write("history.json", json.dumps(progress.history, indent=1).encode())
                if progress.best == len(progress.history) - 1:
                    _export(plan, average.module, run, card(plan, progress, accelerator, len(images), remark))
        if report is not None:
            report(progress.step, told)
        looked = progress.history and progress.history[-1]["step"] == progress.step
        if accelerator.is_main_process and (progress.step % plan.save == 0 or looked):
            _save(run, state, progress)
    wait()
    return progress


def _step(
    plan: PriorTraining,
    modules: dict[str, Any],
    optimisers: Mapping[str, torch.optim.Optimizer],
    images: Images,
    step: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Moves every module's weights once, and returns their losses. Raises GmiError if one is not finite."""
    learner: Learner = plan.learner
    losses = {}
    for name, module in modules.items():
        optimisers[name].zero_grad()
        total = torch.zeros((), device=accelerator.device)  # a tensor, so that nothing waits for the device
        for part in range(plan.accumulate):
            seed = seed_of(plan.seed, name, step, part, accelerator.process_index)
            pixels = _batch(images, plan.batch, seed_of(seed, "batch"), accelerator.device, plan.mirrored)
            draws = torch.Generator(accelerator.device).manual_seed(seed)
            last = part == plan.accumulate - 1
            with accelerator.autocast(), nullcontext() if last else accelerator.no_sync(module):
                loss = learner.loss(name, modules, pixels, draws) / plan.accumulate
                accelerator.backward(loss)
            total += loss.detach()
        accelerator.clip_grad_norm_(module.parameters(), plan.clip)
        optimisers[name].step()
        losses[name] = total.item()
        if not np.isfinite(losses[name]):
            raise GmiError(f"The loss of {name} is {losses[name]} at step {step}: lower lr, and choose another --out.")
    return losses


def _batch(images: Images, size: int, seed: int, device: torch.device, mirror: bool) -> Tensor:
    """Images (size, C, S, S) in [-1, 1], drawn with replacement; half of them are mirrored, if any."""
    draws = torch.Generator().manual_seed(seed)
    chosen = images.bytes[torch.randint(len(images), (size,), generator=draws)].to(device)
    mirrored = (torch.rand(size, generator=draws) < 0.5 * mirror).to(device)[:, None, None, None]
    return torch.where(mirrored, chosen.flip(-1), chosen).float() / 127.5 - 1


class Look:
    """Distance of samples from the held-out images, with as many samples as images, always from the same latents."""

    def __init__(self, plan: PriorTraining, held_out: Images, device: torch.device) -> None:
        self._plan = plan
        self._space = space_of(plan.subject, device, plan.batch)
        self._real = self._space(held_out.bytes)

    def __call__(self, module: nn.Module, step: int, run: Run) -> float:
        """The Frechet distance at this step. Writes a grid of samples. Raises GmiError if samples are not finite."""
        samples = self._samples(self._plan.learner.prior(module))
        run.write(f"grids/{step:07d}.png", _grid(samples[:GRID]))
        return frechet(self._real, self._space(samples))

    @torch.no_grad()
    def _samples(self, prior: Prior) -> Tensor:
        """Samples (N, C, S, S), as bytes on the CPU; N is the number of held-out images."""
        batches = []
        for numbers in torch.arange(len(self._real)).split(self._plan.batch):
            rng = Rng([seed_of(self._plan.seed, "look", number) for number in numbers.tolist()])
            images = prior.decode(prior.sample(rng)).clamp(0, 1)
            if not images.isfinite().all():
                raise GmiError("The prior makes samples that are not finite: lower lr, and choose another --out.")
            batches.append((images * 255).round().byte().cpu())
        return torch.cat(batches)


def _grid(images: Tensor) -> bytes:
    content = io.BytesIO()
    save_image(images.float() / 255, content, format="png", nrow=round(len(images) ** 0.5))
    return content.getvalue()


def _export(plan: PriorTraining, module: nn.Module, run: Run, text: str) -> None:
    """Puts the prior folder in place whole, or not at all."""
    ready, draft, old = (run.folder / name for name in ("prior", ".prior-new", ".prior-old"))
    for folder in (draft, old):
        shutil.rmtree(folder, ignore_errors=True)
    with written(ready):
        plan.learner.save(copy.deepcopy(module), draft)
        (draft / "README.md").write_text(text, "utf-8")
        if ready.exists():
            ready.replace(old)
        draft.replace(ready)
    shutil.rmtree(old, ignore_errors=True)


def card(plan: PriorTraining, progress: Progress, accelerator: Accelerator, count: int, remark: str) -> str:
    """The model card, in Markdown. count: number of images that the prior learnt from."""
    look, data = progress.history[progress.best], plan.data
    device = torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else "CPU"
    rows = {
        "date": date.today().isoformat(),
        "data": f"{data.name}: {count:,} images, {data.held_out:,} more held out",
        "terms of the data": data.terms,
        "images": f"{data.size} x {data.size}, {'grey' if data.grey else 'colour'}",
        "steps": f"{look['step']:,} of {plan.batch * plan.accumulate * accelerator.num_processes} images",
        "hardware": f"{accelerator.num_processes} x {device}, precision {accelerator.mixed_precision}",
        plan.distance: f"{look['distance']:.4f} between {data.held_out:,} samples and the held-out images",
        **{f"learner.{key}": value for key, value in asdict(plan.learner).items()},
    }
    start = rows.pop("learner.start", None)
    if start is not None:
        card_of_start = Path(start) / "README.md"
        remark += "\n\n## It went on from another prior\n\n" + (
            card_of_start.read_text("utf-8").replace("# ", "### ", 1)
            if card_of_start.is_file()
            else f"{Path(start).name}, without a card."
        )
    table = "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    return (
        f"# {plan.name}\n\nA generative prior for privacy audits of models whose owner asks, trained by gmi "
        f"(`gmi train-prior`) on public images.\n\n| | |\n|---|---|\n{table}\n{remark}\n"
    )


def _save(run: Run, state: dict[str, Any], progress: Progress) -> None:
    content = io.BytesIO()
    torch.save({"progress": asdict(progress), **{name: part.state_dict() for name, part in state.items()}}, content)
    run.write("state.pt", content.getvalue())


def _resumed(path: Path, state: dict[str, Any]) -> Progress:
    """Loads the saved state into `state`, and returns the progress. Raises GmiError if the file is damaged."""
    if not path.exists():
        return Progress()
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in state.items():
            part.load_state_dict(saved[name])
        return Progress(**saved["progress"])
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, pickle.UnpicklingError, EOFError) as error:
        raise GmiError(f"{path} is damaged ({error}): remove it to train from the start.") from error
