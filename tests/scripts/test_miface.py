"""MIFace as a baseline: what it costs is counted, whatever the library does with the target."""

import sys

import numpy as np
import pytest
import torch

from gmi import cli
from scripts import miface


class Attack:
    """As the library's: two steps from black, each with a slope and another look; a whole batch at once."""

    def __init__(self, model: miface.Counted) -> None:
        self.model = model

    def infer(self, x: None, y: np.ndarray) -> np.ndarray:
        images = torch.zeros(len(y), 1, 16, 16)
        for _ in range(2):
            shown = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.model(shown)[range(len(y)), y].sum(), shown)
            images = (images + slope).clamp(0, 1)
            with torch.no_grad():
                self.model(images)
        return images.numpy()


@pytest.mark.parametrize("confidences", [True, False])
def test_passes_and_slopes_of_each_person_are_counted(world, confidences: bool) -> None:
    model = miface.Counted(world.target, confidences)
    for person in (3, 1):
        found = miface.inverted(Attack(model), model, person)
        assert (found.passes, found.slopes, tuple(found.image.shape)) == (4, 2, (1, 16, 16))
    black = torch.zeros(2, 1, 16, 16)
    assert model(black).sum(1).allclose(torch.ones(2)) == confidences


def test_without_the_library_one_sentence_says_how_to_get_it(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "art", None)
    with pytest.raises(SystemExit) as ended:
        cli.run(miface.main, ["quickstart", "--out", "never.safetensors"])
    assert ended.value.code == 2
    assert "pip install . adversarial-robustness-toolbox" in capsys.readouterr().err
