"""Gradients averaged over random views of an image (AlignMI, NeurIPS 2025), in the memory of one view."""

from collections.abc import Callable

from torch import Tensor


def averaged(images: Tensor, loss: Callable[[Tensor], Tensor], views: int) -> tuple[Tensor, Tensor]:
    """The mean over views of losses (N,) of images (N, C, H, W), and its gradient with respect to the images.

    loss: the losses of one random view of each image. The images' own graph is not walked, so that it is walked once
    for all views: `images.backward(gradient)`.
    """
    shown, total = images.detach().requires_grad_(), images.new_zeros(len(images))
    for _ in range(views):
        value = loss(shown)
        value.sum().backward()
        total += value.detach()
    assert shown.grad is not None
    return total / views, shown.grad / views
