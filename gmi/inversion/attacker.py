"""The attack and its controls: what each shows of every person, as pieces of work in a run folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from gmi.audits import Hardware
from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.controls import Unmoved, random_prior
from gmi.inversion.fitting import Fitting
from gmi.inversion.meter import Meter, Spent, joined
from gmi.inversion.release import release
from gmi.oracles.interface import Interface
from gmi.protocols import Candidates, Prior, VerificationOracle, WhiteBoxOracle
from gmi.rng import Rng, seed_of
from gmi.run import Run, Tensors
from gmi.search.attack import Attack
from gmi.search.objectives import cross_entropy
from gmi.search.selection import keep_best, opinion, pool_scores, preselect, robust_scores
from gmi.search.signature import ConfinedSearch, JointSearch, OfflineSearch, Search, shared_queries
from gmi.views import grey

PROBES = 8
"""Images by which the checks see how a target answers: of an interface, they are asked about twice."""

_PIECE = 250  # images of a pool in one piece of work


@dataclass(frozen=True)
class Attacker:
    """Selection, search, selection, release: the same for every oracle. Latents come from named generators.

    The names of steps are part of every draw and of the run folder: another name is another run.
    """

    plan: Attack
    prior: Prior
    people: People
    run: Run
    hardware: Hardware
    spent: dict[str, Spent] = field(default_factory=dict)  # by step, filled as they are done

    @property
    def classes(self) -> Tensor:
        """The attacked people (A,)."""
        return torch.tensor(self.people.attacked)

    @property
    def _meter(self) -> Meter:
        return Meter(self.run, self.hardware.device, self.spent, self.plan.memory)

    def attack(self, step: str, oracle: VerificationOracle) -> Images:
        """What the attack releases: for each class the kept candidates, best first."""
        search, asked = self.prepare(_before(step, "prepare"), oracle)
        own = asked is not oracle
        scored = _before(step, "own_pool" if own else "pool")
        released = self._searched(step, asked, search, self.pool(scored, asked, self._pool))
        if own:  # what a copy is asked is no query
            self.spent.update({name: replace(self.spent[name], queries=0) for name in (scored, step)})
        return released

    def best_of(self, step: str, oracle: VerificationOracle, pool: Tensor) -> Images:
        """What is released of the pool's best samples without a search. pool: log-probabilities (N, K)."""
        return self._searched(step, oracle, Unmoved(), pool)

    @property
    def _pool(self) -> range:
        return range(self.plan.selection.pool)

    def _searched(self, step: str, oracle: VerificationOracle, search: Search, pool: Tensor) -> Images:
        count = self.plan.selection.candidates
        starts = preselect(pool, self.classes, count)  # (A, count), numbers of the pool

        def compute(rows: Tensor) -> Iterator[Tensors]:
            classes = self.classes[rows].repeat_interleave(count).to(self.hardware.device)
            rng = self._rng(step, [(person, i) for person in self.classes[rows].tolist() for i in range(count)])
            latents = self._latents(starts[rows].flatten().tolist())
            quiet = not PartialState().is_main_process
            # of one person there may be more candidates than a batch
            most = len(classes) if isinstance(search, JointSearch) else max(1, self.plan.batch)
            found = []
            with self.hardware.autocast(), tqdm(desc="steps", leave=False, disable=quiet) as bar:
                for start in range(0, len(classes), most):
                    part = slice(start, start + most)
                    found.append(
                        search(oracle, self.prior, latents[part], classes[part], rng[part], lambda *_: bar.update())
                    )
            candidates = Candidates(
                torch.cat([each.images.float() for each in found]),  # whatever autocast made of them
                *(torch.cat([getattr(each, name) for each in found]) for name in ("classes", "latents")),
            )
            _refuse_broken(candidates.images, "The search ends in images")
            return self._released(oracle, candidates, rng)

        return self._people(step, oracle, compute, self.plan.people_at_once)

    def pool(self, name: str, oracle: VerificationOracle, numbers: range) -> Tensor:
        """Log-probabilities (N, K) of the prior's samples with these numbers, the same ones for every oracle."""

        @torch.no_grad()
        def drawn(batch: Sequence[int]) -> Tensor:
            images = self.prior.decode(self._latents(batch)).clamp(0, 1)
            _refuse_broken(images, "The prior makes samples")
            return images

        return self._scored(name, oracle, numbers, drawn)

    def _scored(
        self, name: str, oracle: VerificationOracle, numbers: range, look: Callable[[Sequence[int]], Tensor]
    ) -> Tensor:
        """Log-probabilities (N, K) of the images that `look` gives for some of the numbers."""
        fitting = Fitting(self.hardware.device, self.plan.memory)

        def compute(names: list[str]) -> Iterator[Tensors]:
            for piece in map(_number, names):
                found: list[Tensor] = []
                for batch in _batches(numbers[piece * _PIECE : (piece + 1) * _PIECE], self.plan.batch):
                    parts = fitting.pieces(batch, oracle, lambda some: pool_scores(oracle, look(some)))
                    found += [scores for _, scores, _ in parts]
                yield {"scores": torch.cat(found)}

        names = [f"{name}/{piece:04d}" for piece in range(-(-len(numbers) // _PIECE))]
        return torch.cat([piece["scores"] for piece in self._meter.each(name, names, oracle, compute)]).cpu()

    def probe(self, oracle: WhiteBoxOracle | Interface, name: str = "checks", count: int = PROBES) -> dict[str, Tensor]:
        """The answers that checks look at: log-probabilities (N, K) of prior samples, asked for twice.

        Where the adversary has the model, they are its logits, and the norms (N,) of their gradients are there, too.
        """

        def compute(names: list[str]) -> Iterator[Tensors]:
            latents = self.prior.sample(self._rng("probe", range(count))).requires_grad_()
            classes = self.classes[torch.arange(count) % len(self.classes)].to(self.hardware.device)
            with self.hardware.autocast():
                images = self.prior.decode(latents).clamp(0, 1)
                if isinstance(oracle, Interface):
                    yield {"logits": opinion(oracle, images), "again": self.probed(oracle, count)}
                    return
                logits = oracle.logits(images)
                (gradient,) = torch.autograd.grad(cross_entropy(logits, classes).sum(), latents)
                again = oracle.logits(self.prior.decode(latents).clamp(0, 1))
            yield {"logits": logits, "again": again, "gradients": gradient.flatten(1).norm(dim=1)}

        (answers,) = self._meter.each(name, [f"{name}/0000"], oracle, compute)
        return answers

    @torch.no_grad()
    def probed(self, oracle: Interface, count: int = PROBES) -> Tensor:
        """What an interface answers now (N, K) to the samples of `probe`, whatever it did before."""
        latents = self.prior.sample(self._rng("probe", range(count)))
        with self.hardware.autocast(), oracle.ledger.anew():
            return opinion(oracle, self.prior.decode(latents).clamp(0, 1)).cpu()

    def prepare(self, name: str, oracle: VerificationOracle) -> tuple[Search, VerificationOracle]:
        """The search, with what all classes share where it learns that first, and the oracle that it asks from then on.

        That is another one only where what it learnt takes the target's place.
        """
        search, shared = self.plan.search, shared_queries(self.plan.search)
        if shared == 0:
            return search, oracle

        def compute(names: list[str]) -> Iterator[Tensors]:
            with self.hardware.autocast():
                yield search.prepare(oracle, self.prior, self._rng("prepare", range(shared)))

        (learned,) = self._meter.each(name, [f"{name}/0000"], oracle, compute)
        asked = search.copy(learned, self.hardware.device) if isinstance(search, OfflineSearch) else oracle
        return search.taught(learned), asked

    def taught(self, step: str) -> Tensors:
        """What the search of a step that was made had learnt of the target; empty where it learns nothing."""
        if shared_queries(self.plan.search) == 0:
            return {}
        return self.run.read(f"{_before(step, 'prepare')}/0000")

    def random(self, name: str, oracle: VerificationOracle) -> Images:
        """Samples of the prior, as many as the attack releases images; no queries."""
        keep = self.plan.selection.keep

        def compute(rows: Tensor) -> Iterator[Tensors]:
            rng = self._rng(name, [(person, i) for person in self.classes[rows].tolist() for i in range(keep)])
            classes = self.classes[rows].repeat_interleave(keep).to(self.hardware.device)
            return self._encoded(random_prior(self.prior, classes, rng))

        return self._people(name, oracle, compute, self.plan.batch)

    def public(self, name: str, oracle: VerificationOracle, images: Tensor) -> Images:
        """The public images (N, C, H, W) that the same selection takes for each class (control C4)."""
        count = min(self.plan.selection.candidates, len(images))
        scores = self._scored(
            f"{name}_pool",
            oracle,
            range(len(images)),
            lambda batch: images[[*batch]].to(self.hardware.device),
        )
        chosen = preselect(scores, self.classes, count)

        def compute(rows: Tensor) -> Iterator[Tensors]:
            classes = self.classes[rows].repeat_interleave(count).to(self.hardware.device)
            rng = self._rng(name, [(person, i) for person in self.classes[rows].tolist() for i in range(count)])
            taken = images[chosen[rows].flatten()].to(self.hardware.device)
            return self._released(oracle, Candidates(taken, classes, taken.new_zeros(len(taken), 0)), rng)

        return self._people(name, oracle, compute, max(1, self.plan.batch // count))

    def _released(self, oracle: VerificationOracle, candidates: Candidates, rng: Rng) -> Iterator[Tensors]:
        """The candidates that stay sure of their class under random views."""
        selection, classes = self.plan.selection, candidates.classes
        scores = robust_scores(oracle, candidates.images, classes, rng, selection.final_views)
        return self._encoded(candidates[keep_best(scores, classes, selection.keep)])

    def _encoded(self, candidates: Candidates) -> Iterator[Tensors]:
        """One piece a class; images as bytes (n, C, H, W)."""
        images = candidates.images if self.people.coloured else grey(candidates.images)
        images = (release(images) * 255).round().byte()
        for person in dict.fromkeys(candidates.classes.tolist()):
            rows = candidates.classes == person
            yield {"images": images[rows], "classes": candidates.classes[rows]}

    def _people(
        self, name: str, oracle: VerificationOracle, compute: Callable[[Tensor], Iterator[Tensors]], group: int
    ) -> Images:
        """One piece a person, computed in groups of fixed size."""
        rows = {f"{name}/{person:04d}": row for row, person in enumerate(self.classes.tolist())}
        pieces = self._meter.each(
            name, list(rows), oracle, lambda names: compute(torch.tensor([rows[key] for key in names])), group
        )
        return joined(pieces, len(rows), self.run.vault is not None)

    def _latents(self, numbers: Iterable[int]) -> Tensor:
        """Samples of the pool by their numbers, as the search can reach them."""
        latents, search = self.prior.sample(self._rng("pool", numbers)), self.plan.search
        return search.confine(latents) if isinstance(search, ConfinedSearch) else latents

    def _rng(self, purpose: str, keys: Iterable[object]) -> Rng:
        return Rng([seed_of(self.plan.seed, purpose, key) for key in keys])


def _refuse_broken(images: Tensor, what: str) -> None:
    if not images.isfinite().all():
        raise GmiError(
            f"{what} that are not finite: the prior or the target is broken or needs full precision (mixed_precision: "
            "no in accelerate's configuration), or the search's steps are too large."
        )


def _before(step: str, other: str) -> str:
    """The name of the step that prepares another: "pool" of "search", "oracle_pool" of "oracle"."""
    stem = step.removesuffix("search")
    return f"{stem}{other}" if stem != step else f"{step}_{other}"


def _number(name: str) -> int:
    return int(name.rsplit("/", 1)[1])


def _batches(numbers: range, size: int) -> Iterator[range]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
