"""What StyleGAN priors learn by: the critic, its augmentation, the penalty. For the loop see test_prior_training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference.stylegans import drawn

from gmi.errors import GmiError
from gmi.training.style import StyleBased
from gmi.training.style_critic import Critic, augmented, spread_beside

LEARNER = StyleBased(latent=8, width=8, layers=2, channels=(12, 8), critic=(16, 8), every=4)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_augmentation_at_no_chance_changes_nothing_and_moves_by_whole_pixels():
    images = drawn(16, 3, 16, 16).clamp(-1, 1)
    torch.testing.assert_close(augmented(images, torch.tensor(0.0)), images, rtol=0, atol=1e-5)
    changed = augmented(images, torch.tensor(1.0), torch.Generator().manual_seed(0))
    again = augmented(images, torch.tensor(1.0), torch.Generator().manual_seed(0))
    assert torch.equal(changed, again) and ((changed - images).abs().mean((1, 2, 3)) > 0.1).all()
    rare = augmented(drawn(400, 1, 8, 8), torch.tensor(0.1), torch.Generator().manual_seed(0))
    share = (rare == augmented(drawn(400, 1, 8, 8), torch.tensor(0.0))).flatten(1).all(1).float().mean()
    assert 0.4 < share < 0.7  # 0.95 * 0.9 ** 6 is 0.505, and a whole-pixel move may be none


def test_the_critic_sees_how_much_images_differ():
    features = drawn(8, 3, 4, 4)
    beside = spread_beside(features)
    for image in range(8):
        group = features[image % 2 :: 2].double().numpy()
        assert float(beside[image, 3, 0, 0]) == pytest.approx(group.std(0).mean(), rel=1e-5)
    assert torch.equal(beside[:, :3], features) and spread_beside(features[:7]).shape == (7, 4, 4, 4)


def test_the_chance_grows_while_the_critic_is_sure_and_shrinks_when_it_is_not():
    critic = Critic((4, 4), 1)
    chances = []
    for opinions in [torch.ones(10)] * 30 + [-torch.ones(10)] * 60:
        critic.adapt(opinions, 0.6, 1000)
        chances.append(float(critic.chance))
    assert chances[2] == 0 and 0.2 < chances[29] < 0.3 and chances[-1] == 0 and float(critic.step) == 90


def test_the_penalty_comes_every_so_many_steps_and_that_many_times_as_great():
    """With the critic's augmentation off, so that the slope can be taken image by image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = LEARNER.build(8, 1)
    images = drawn(4, 1, 8, 8).tanh()

    def loss() -> float:
        return float(LEARNER.loss("critic", modules, images, torch.Generator().manual_seed(1)).detach())

    modules["critic"].adapt = lambda *_: None
    lazy = loss()
    modules["critic"].step.fill_(1)
    plain = loss()
    step, slow = 1e-2, 0.0
    critic = modules["critic"].double()
    for image in range(4):
        for pixel in range(64):
            moved = F.one_hot(torch.tensor(pixel), 64).reshape(1, 8, 8) * step
            pair = images.double().repeat(2, 1, 1, 1)
            pair[image] += moved
            pair[4 + image] -= moved
            with torch.no_grad():
                slow += float((critic(pair[:4]).sum() - critic(pair[4:]).sum()) / (2 * step)) ** 2 / 4
    gamma = 0.0002 * 8**2 / 4
    assert lazy - plain == pytest.approx(4 * gamma / 2 * slow, rel=1e-2)


def test_channels_that_do_not_fit(tmp_path):
    with pytest.raises(GmiError, match="makes 8 px, not 32"):
        LEARNER.build(32, 1)
    with pytest.raises(GmiError, match="equal lengths"):
        replace(LEARNER, critic=(8,)).build(8, 1)
