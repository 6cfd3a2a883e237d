"""A map from one recogniser's templates to another's: a planted one is found, and applied as it was learnt."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from torch import nn

from gmi.search.translation import STRENGTHS, Translated, Translation

pytestmark = pytest.mark.usefixtures("one_thread")


def planted(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Templates (N, 12), what a map makes of them scaled to length 1 (N, 5), and the map (5, 12)."""
    draws = torch.Generator().manual_seed(0)
    source, weight = torch.randn(count, 12, generator=draws), torch.randn(5, 12, generator=draws)
    result = F.normalize(source) @ weight.T + 3 + noise * torch.randn(count, 5, generator=draws)
    return source, result, weight


def test_a_planted_map_is_found_whatever_the_lengths_of_the_templates():
    source, result, weight = planted(400, 0.01)
    found = Translation.of(source * torch.linspace(0.5, 2, 400)[:, None], result)
    torch.testing.assert_close(found.weight, weight, rtol=0, atol=0.05)
    torch.testing.assert_close(found.mean, result.mean(0))


def test_the_ridge_is_the_librarys():
    source, result, _ = planted(60, 0.5)
    found = Translation.of(source, result)
    known, wanted = F.normalize(source.double()).numpy(), (result - result.mean(0)).double().numpy()
    ridge = RidgeCV(STRENGTHS).fit(known, wanted)
    assert found.weight.numpy() == pytest.approx(ridge.coef_, abs=1e-5)
    assert found.bias.numpy() == pytest.approx(ridge.intercept_, abs=1e-5)


def test_noise_and_few_images_make_the_map_smaller_and_not_wild():
    source, result, weight = planted(20, 2.0)
    assert Translation.of(source, result).weight.norm() < 1.5 * weight.norm()


def test_templates_are_translated_less_their_mean_and_with_gradients():
    source, result, _ = planted(400, 0.0)
    network = Translated(nn.Identity(), Translation.of(source, result))
    images = (7 * source).requires_grad_()
    torch.testing.assert_close(network(images), result - result.mean(0), rtol=0, atol=0.02)
    network(images).sum().backward()
    assert images.grad.abs().sum() > 0 and not network.linear.weight.requires_grad
