"""Guided extraction from an unconditional model: its own samples give the conditions that it lacks.

SIDE (Chen, Wang, Zou & Ma, Extracting Training Data from Unconditional Diffusion Models, arXiv:2410.02467, 2024):
clusters among samples of the model stand for classes, a classifier learns them at every level of noise, and guidance
towards them finds more copies of training records than sampling alone. What was learnt many times comes out many
times, so coherent clusters gather around such records.

Differs from the paper: features for the clusters are small copies of the images, which is what copies are alike in, and
not a network's; the coherence of a cluster is that of `gmi.extraction.clusters`; clusters that are not coherent are
not led to, but stay classes, so that the classifier's probabilities are those of the model; the guidance has one
weight; samples that were learnt from count among the attack's samples, so that it has no more of them than plain
sampling has.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.extraction.clusters import coherence, features, kmeans
from gmi.extraction.sampling import Towards, follow, noise
from gmi.protocols import Denoiser, NoisePath
from gmi.rng import Rng, seed_of
from gmi.settings import Count, NonNegative, Positive, Share, settings

_ATTEMPTS = 8  # of k-means
_WIDTH = 32  # channels of the classifier's first layer
_GRID = 4  # height and width of its last features, by which it knows where in the image something is


@settings
class Side:
    """Samples that are led to what the model makes again and again, in place of a part of the plain ones."""

    type: Literal["side"] = "side"
    samples: Count = 200  # plain samples from which clusters are learnt; of all samples, the others are led
    clusters: Count = 60  # clusters among them; few samples each, so that what is repeated has one of its own
    coherence: Share = 0.7  # of a cluster, below which it is dropped, unless all would be; 0.7: four alike samples
    weight: NonNegative = 2.0  # of the guidance; 1: the model's own share of the cluster; above: more typical of it
    steps: Count = 500  # updates of the classifier's weights
    batch: Count = 64  # samples in an update, each at a level of noise of its own
    lr: Positive = 1e-3  # learning rate of AdamW, which falls linearly to 0

    def __post_init__(self) -> None:
        if self.clusters > self.samples:
            raise ValueError("clusters must not exceed samples")

    @torch.no_grad()
    def learn(self, prior: Denoiser, seed: int, batch: int) -> dict[str, Tensor]:
        """The classifier's weights, and `led` (M,): the clusters that are worth it. batch: samples at once."""
        numbers = range(self.samples)
        starts = [noise(prior, numbers[first : first + batch], seed) for first in range(0, self.samples, batch)]
        latents = [follow(prior, start) for start in starts]
        points = features(torch.cat([prior.image(clean).clamp(0, 1) for clean in latents]))
        labels = kmeans(points, self.clusters, Rng([seed_of(seed, "clusters", number) for number in range(_ATTEMPTS)]))
        filled = labels.bincount(minlength=self.clusters) > 0
        alike = filled & (coherence(points, labels, self.clusters) >= self.coherence)
        led = (alike if alike.any() else filled).nonzero()[:, 0]
        clean = torch.cat(latents)
        return {**self.train(prior.path, clean, labels.to(clean.device), seed), "led": led}

    def train(self, path: NoisePath, clean: Tensor, labels: Tensor, seed: int) -> dict[str, Tensor]:
        """The weights of a classifier that knows the clusters (N,) of clean latents (N, C, H, W) with any noise."""
        network = self._network(clean.shape[1], seed).to(clean.device).train()
        draws = torch.Generator().manual_seed(seed_of(seed, "updates"))
        levels = torch.tensor([path.levels((number + 1) / path.timesteps) for number in range(path.timesteps)])
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / self.steps)
        for _ in range(self.steps):
            # samples as often as the model makes them: the classifier's probabilities are to be its own
            rows = torch.randint(len(clean), (self.batch,), generator=draws).to(clean.device)
            times = torch.randint(path.timesteps, (self.batch,), generator=draws)
            fresh = torch.randn(self.batch, *clean.shape[1:], generator=draws).to(clean)
            signal, level = levels[times].T.to(clean)[:, :, None, None, None]
            with torch.enable_grad():
                loss = F.cross_entropy(network(signal * clean[rows] + level * fresh, signal, level), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return {name: value.detach().clone() for name, value in network.state_dict().items()}

    def sampler(self, prior: Denoiser, learned: dict[str, Tensor]) -> Towards:
        """Guided samples of a model from which this was learnt."""
        network = self._network(prior.sample(Rng([0])).shape[1], 0)
        network.load_state_dict({name: learned[name] for name in network.state_dict()})
        network.to(prior.sample(Rng([0])).device).eval().requires_grad_(False)

        def classifier(noisy: Tensor, time: float) -> Tensor:
            return network(noisy, *noisy.new_tensor(prior.path.levels(time))).log_softmax(1)

        return Towards(prior, classifier, learned["led"], self.weight)

    def untrained(self, prior: Denoiser) -> Towards:
        """Guided samples by a classifier that knows nothing, which take as long."""
        weights = self._network(prior.sample(Rng([0])).shape[1], 0).state_dict()
        return self.sampler(prior, {**weights, "led": torch.arange(self.clusters)})

    def _network(self, channels: int, seed: int) -> "TimeClassifier":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "classifier"))
            return TimeClassifier(channels, self.clusters)


class TimeClassifier(nn.Module):
    """A small network that tells clusters of noisy latents; the share of noise is one more channel.

    It is shown the linear guess of the clean latents, signal noisy / (signal^2 + level^2), whose gradient goes to
    nothing where there is no signal: there the guidance divides by the signal.
    """

    def __init__(self, channels: int, clusters: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + 1, _WIDTH, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, 2, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(),
            nn.Linear(2 * _WIDTH * _GRID**2, clusters),
        )

    def forward(self, noisy: Tensor, signal: Tensor, level: Tensor) -> Tensor:
        """Logits (N, K) of noisy latents (N, C, H, W), with levels of one for all, or (N, 1, 1, 1)."""
        guess = signal / (signal**2 + level**2) * noisy
        share = (level / (signal + level)).expand(len(noisy), 1, *noisy.shape[2:])
        return self.layers(torch.cat([guess, share], 1))
