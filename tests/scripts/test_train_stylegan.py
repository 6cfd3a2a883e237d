"""The fast training of StyleGANs: its convolutions are equal, and it leaves prior folders."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from reference.stylegans import drawn
from torchvision.transforms.functional import to_pil_image

from gmi.errors import GmiError
from gmi.priors.stylegan import StyleGan
from gmi.priors.stylegan_network import binomial, doubling_convolution
from gmi.rng import Rng
from gmi.training.style_critic import halving_convolution
from scripts import train_stylegan

CPU = torch.device("cpu")


def test_the_convolutions_of_the_fast_training_are_equal():
    features, weight = drawn(3, 4, 6, 6), drawn(5, 4, 3, 3, seed=1)
    joined = train_stylegan.Joined(CPU)
    for fast, slow in ((joined.doubling, doubling_convolution), (joined.halving, halving_convolution)):
        expected = slow(features, weight, binomial())
        torch.testing.assert_close(fast(features, weight, binomial()), expected)


def test_the_fast_training_leaves_priors(tmp_path, capsys):
    (tmp_path / "faces").mkdir()
    for number in range(12):
        to_pil_image(drawn(3, 8, 8, seed=number).sigmoid()).save(tmp_path / "faces" / f"{number}.png")
    tree = {
        "name": "toy",
        "data": {"name": "toys", "folder": str(tmp_path / "faces"), "terms": "none", "size": 8, "held_out": 2},
        "learner": {"type": "stylegan", "latent": 6, "width": 6, "layers": 2, "channels": [6, 5], "critic": [6, 5]},
        "steps": 1,
        "batch": 4,
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(tree))
    with torch.random.fork_rng():
        train_stylegan.main([str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "out"), "--seconds", "1"])
    folder = Path(capsys.readouterr().out.splitlines()[-1].partition(":")[0])
    prior = StyleGan(folder=str(folder)).load(CPU)
    assert prior.decode(prior.sample(Rng([0]))).shape == (1, 3, 8, 8) and prior.network.mapping.w_avg.abs().sum() > 0
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert log[0]["images"] == 64 and (tmp_path / "out" / "samples.png").is_file()
    tree["learner"] = {"type": "gan", "channels": [8]}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(GmiError, match="trains a prior of type gan; this trains stylegan"):
        train_stylegan.main([str(tmp_path / "toy.yaml")])
