"""The part of a prior's latent space in which a search stays."""

from typing import Literal

from torch import Tensor

Constraint = Literal["sphere", "ball", "box", "none"]


def constrained(latents: Tensor, constraint: Constraint, radius: float | None) -> Tensor:
    """Latents (N, ...), each moved to the nearest that lies on a sphere, or in a ball or a box.

    radius: of the sphere or ball, or half a side of the box; None: sqrt(D), the length of a normal latent.
    """
    if constraint == "none":
        return latents
    flat = latents.flatten(1)
    size = flat.shape[1] ** 0.5 if radius is None else radius
    if constraint == "box":
        return latents.clamp(-size, size)
    factor = size / flat.norm(dim=1).clamp_min(1e-12)
    if constraint == "ball":
        factor = factor.clamp_max(1)
    return (flat * factor[:, None]).view_as(latents)
