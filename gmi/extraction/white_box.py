"""White-box tests for images in a training set: the distance that latents reach, and the loss of denoising.

Chen et al., GAN-Leaks, CCS 2020, sec. 4.3-4.4: the white-box attack searches for the latents whose image is nearest,
and is calibrated with the same distance for a reference model. For diffusion models, the loss of denoising stands for
the likelihood (Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, sec. 5.2), and its
ratio to a reference model's loss for the likelihood ratio.

Differs from the papers: the distance is the mean square alone; the loss is a mean over fixed times and fixed noise.
"""

from typing import TypeGuard

import torch
from torch import Tensor

from gmi.protocols import Denoiser, Prior
from gmi.rng import Rng, sent

TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def denoises(prior: Prior, shape: torch.Size) -> TypeGuard[Denoiser]:
    """True if a prior denoises images of that shape (C, H, W) themselves, not latents."""
    return isinstance(prior, Denoiser) and prior.sample(Rng([0])).shape[1:] == shape


def inverted(prior: Prior, images: Tensor, rng: Rng, steps: int, lr: float) -> Tensor:
    """Mean square difference (N,) of each image (N, C, H, W) and the nearest image that Adam meets in so many steps."""
    latents = prior.sample(rng).clone().requires_grad_()
    optimiser = torch.optim.Adam([latents], lr=lr)
    best = torch.full((len(images),), torch.inf, device=images.device)
    for step in range(steps + 1):
        difference = (prior.decode(latents) - images).square().flatten(1).mean(1)
        best = torch.minimum(best, difference.detach())
        if step < steps:
            optimiser.zero_grad()
            difference.sum().backward()
            optimiser.step()
    return best


@torch.no_grad()
def denoised(prior: Denoiser, images: Tensor, rng: Rng, draws: int) -> Tensor:
    """Mean square error (N,) of the prior's direction at noisy images, over TIMES and `draws` each.

    images: (N, C, H, W) in [0, 1]. It is the loss of training: of the noise on DDPM's path, of the velocity on flow
    matching's. Errors of clean images are small where there is little noise; by them, late times would be all.
    """
    clean = images * 2 - 1
    total = torch.zeros(len(images), device=images.device)
    for time in TIMES:
        signal, level = prior.path.levels(time)
        for _ in range(draws):
            noise = sent(rng.normal(*clean.shape[1:]), clean)
            noisy = signal * clean + level * noise
            found, true = (prior.path.direction(noisy, end, time) for end in (prior.denoise(noisy, time), clean))
            total += (found - true).square().flatten(1).mean(1)
    return total / (len(TIMES) * draws)
