"""Diffusion and flow priors: closed forms, the steps of diffusers' own schedulers, bounded memory, any folder."""

import copy
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.mixture import KEPT, PATHS, Mixture
from safetensors.torch import load_file, save_file

from gmi.errors import GmiError
from gmi.inversion.controls import Unmoved
from gmi.priors.diffusion import Diffusion, DiffusionPrior
from gmi.priors.path import DiffusionPath, EdmPath, FlowPath, step
from gmi.protocols import Denoiser
from gmi.rng import Rng
from gmi.search.guided import Guided
from gmi.search.particles import Particles
from gmi.search.signature import refuse_misfit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unet():
    from diffusers.models.unets.unet_2d import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        )


def folder(unet, where: Path, scheduler=None) -> Path:
    """As diffusers writes it."""
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    DDPMPipeline(unet, scheduler or DDPMScheduler()).save_pretrained(where)
    return where


@pytest.mark.parametrize("name", PATHS)
def test_a_gaussian_is_reached_and_by_heun_with_fewer_steps(name):
    """Noise z becomes mean + spread * z, exactly, on either path. Half the step, half the error; Heun: a quarter."""
    path, mean, spread = PATHS[name], 0.3, 0.5
    prior = DiffusionPrior(Mixture(torch.full((1, 1, 2, 2), mean, dtype=torch.float64), spread, path), path)
    noise = torch.linspace(-1.5, 1.5, 4, dtype=torch.float64).reshape(1, 1, 2, 2)

    def field(noisy, time):
        return path.direction(noisy, prior.denoise(noisy, time), time)

    def error(steps: int, heun: bool) -> float:
        noisy = noise
        for now, after in pairwise(path.times(steps)):
            noisy = step(path, field, noisy, now, after, heun)
        return (noisy - mean - spread * noise).abs().max().item()

    assert error(100, False) < 0.025 and error(100, True) < error(100, False) / 5
    assert error(50, False) / error(100, False) == pytest.approx(2, rel=0.1)
    if name == "flow":  # DDPM's table of levels is too coarse near the image
        assert error(50, True) / error(100, True) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("limit", [None, 0.8])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_steps_are_those_of_diffusers_ddim(unet, prediction, limit):
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    clip = {"clip_sample": limit is not None, "clip_sample_range": limit or 1.0}
    scheduler = DDIMScheduler(timestep_spacing="trailing", prediction_type=prediction, **clip)
    scheduler.set_timesteps(10)
    unet = copy.deepcopy(unet).double()  # at the start of the path, rounding is multiplied by 1 / signal, 150
    prior = DiffusionPrior(
        unet, DiffusionPath(tuple(scheduler.alphas_cumprod.double().tolist()), prediction, limit), steps=10
    )
    noise = prior.sample(Rng([1, 2])).double()
    expected = noise
    with torch.no_grad():
        for time in scheduler.timesteps:
            expected = scheduler.step(
                unet(expected, time).sample, time, expected, use_clipped_model_output=True
            ).prev_sample
    torch.testing.assert_close(prior.decode(noise), ((expected + 1) / 2).clamp(0, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_steps_are_those_of_diffusers_flow_matching(unet, shift):
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7))
    prior = DiffusionPrior(unet, FlowPath(shift), steps=7)
    noise = prior.sample(Rng([1, 2]))
    expected = noise
    with torch.no_grad():
        for time in scheduler.timesteps:
            expected = scheduler.step(unet(expected, time).sample, time, expected).prev_sample
    torch.testing.assert_close(prior.decode(noise), ((expected + 1) / 2).clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_steps_are_those_of_diffusers_edm(unet, tmp_path):
    """From the folder on, by a scheduler with settings of its own; the start is the same noise."""
    from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=20.0, sigma_data=0.4, rho=5.0)
    prior = Diffusion(folder=str(folder(unet, tmp_path / "made", scheduler)), steps=6).load(CPU)
    assert prior.path == EdmPath(0.01, 20.0, 5.0, 0.4)
    scheduler.set_timesteps(6)
    noise = prior.sample(Rng([1, 2]))
    expected = noise * scheduler.init_noise_sigma
    with torch.no_grad():
        for time in scheduler.timesteps:
            shown = scheduler.scale_model_input(expected, time)
            expected = scheduler.step(unet(shown, time).sample, time, expected).prev_sample
    torch.testing.assert_close(prior.decode(noise), ((expected + 1) / 2).clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_what_a_network_is_taught_is_what_stands_for_the_clean_image():
    """Of every path: `clean` of `output` is the clean image again."""
    clean, noise = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    paths = [*PATHS.values(), EdmPath(), *(DiffusionPath(KEPT, kind) for kind in ("sample", "v_prediction"))]
    for path in paths:
        for time in (0.9, 0.4, 0.1):
            signal, level = (torch.tensor(value, dtype=torch.float64) for value in path.levels(time))
            output = path.output(clean, noise, signal, level)
            torch.testing.assert_close(path.clean(output, signal * clean + level * noise, time), clean)


@pytest.mark.parametrize("path", [*PATHS.values(), EdmPath()], ids=[*PATHS, "edm"])
def test_clean_direction_and_advance_agree(path):
    """Towards the true direction one step of any length stays on the path from this noise to this image."""
    clean, noise = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for now, after in ((1.0, 0.5), (0.7, 0.2), (0.4, 0.0)):
        (signal, level), (then, rest) = path.levels(now), path.levels(after)
        noisy = signal * clean + level * noise
        moved = path.advance(noisy, path.direction(noisy, clean, now), now, after)
        torch.testing.assert_close(moved, then * clean + rest * noise)


def test_decoding_is_differentiable_and_its_memory_does_not_grow_with_the_steps(unet):
    noise = Rng([3]).normal(1, 8, 8).double()
    unet = copy.deepcopy(unet).double()
    prior = DiffusionPrior(unet, FlowPath(), steps=4)

    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).view(1, 1, 8, 8)

    def total(latents):
        for now, after in pairwise(prior.path.times(4)):
            latents = prior._step(latents, now, after)
        return ((latents + 1) / 2 * ramp).sum()  # before pixels are clamped, through which the gradient passes

    point = noise.clone().requires_grad_()
    (prior.decode(point) * ramp).sum().backward()
    nudge = torch.zeros_like(noise)
    nudge[0, 0, 3, 4] = 1e-6
    with torch.no_grad():
        slope = (total(noise + nudge) - total(noise - nudge)) / 2e-6
    assert point.grad is not None
    assert point.grad[0, 0, 3, 4].item() == pytest.approx(slope.item(), rel=1e-4)

    def kept(steps: int, whole: bool) -> int:
        """Bytes that the forward pass leaves for the backward pass."""
        sizes: dict[int, int] = {}

        def count(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        prior = DiffusionPrior(unet, FlowPath(), steps=steps)
        weights = {value.untyped_storage().data_ptr() for value in unet.state_dict().values()}
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            latents = noise.clone().requires_grad_()
            for now, after in pairwise(prior.path.times(steps)):
                latents = prior._step(latents, now, after) if whole else prior.decode(noise.clone().requires_grad_())
                if not whole:
                    break
        return sum(size for place, size in sizes.items() if place not in weights)

    one = kept(1, whole=True)
    assert kept(50, whole=True) > 40 * one
    assert kept(50, whole=False) < 3 * one


def test_folders_of_diffusers_load_in_both_layouts(unet, tmp_path):
    made = folder(unet, tmp_path / "made")
    prior = Diffusion(folder=str(made), steps=3).load(CPU)
    assert isinstance(prior, Denoiser) and isinstance(prior.path, DiffusionPath) and len(prior.path.kept) == 1000
    np.testing.assert_allclose(prior.path.kept, KEPT, rtol=1e-5)
    flat = tmp_path / "flat"
    shutil.copytree(made / "unet", flat)
    shutil.copy(made / "scheduler" / "scheduler_config.json", flat)
    again = Diffusion(folder=str(flat), steps=3).load(CPU)
    assert again.digest == prior.digest
    noise = prior.sample(Rng([1]))
    images = prior.decode(noise)
    assert torch.equal(again.decode(noise), images) and images.shape == (1, 1, 8, 8)
    assert images.min() >= 0 and images.max() <= 1


def test_a_flow_folder_in_half_precision_works_in_full(unet, tmp_path):
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    made = folder(unet, tmp_path / "made", FlowMatchEulerDiscreteScheduler(shift=2.0))
    weights = made / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.half() for key, value in load_file(weights).items()}, weights)
    prior = Diffusion(folder=str(made), steps=3).load(CPU)
    assert prior.path == FlowPath(2.0, 1000)
    assert prior.decode(prior.sample(Rng([1]))).dtype == torch.float32


@pytest.mark.parametrize(("scheduler", "limit"), [("PNDMScheduler", None), ("DDIMScheduler", 1.0)])
def test_clean_images_are_clipped_where_the_scheduler_does(unet, tmp_path, scheduler, limit):
    import diffusers

    made = folder(unet, tmp_path / "made", getattr(diffusers, scheduler)())
    path = Diffusion(folder=str(made), steps=3).load(CPU).path
    assert isinstance(path, DiffusionPath) and path.limit == limit


@pytest.mark.parametrize("kind", ["AutoencoderTiny", "AutoencoderKL"])
def test_latent_models_decode_as_their_autoencoder_does(unet, tmp_path, kind):
    import diffusers
    from diffusers.models.unets.unet_2d import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {
            "AutoencoderTiny": {
                "encoder_block_out_channels": (8, 8),
                "decoder_block_out_channels": (8, 8),
                "num_encoder_blocks": (1, 1),
                "num_decoder_blocks": (1, 1),
            },
            "AutoencoderKL": {
                "block_out_channels": (8, 8),
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
                "norm_num_groups": 4,
                "shift_factor": 0.1,
            },
        }[kind]
        vae = getattr(diffusers, kind)(**settings)
        latent = UNet2DModel.from_config(dict(unet.config) | {"in_channels": 4, "out_channels": 4})
    made = folder(latent, tmp_path / "made")
    vae.save_pretrained(made / "vae")
    prior = Diffusion(folder=str(made), steps=2).load(CPU)
    latents = prior.sample(Rng([1]))
    assert latents.shape == (1, 4, 8, 8)
    inside = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
    with torch.no_grad():
        expected = ((vae.decode(inside).sample + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(prior.image(latents), expected)
    assert prior.decode(latents).shape == (1, 3, 16, 16)
    other = DiffusionPrior(latent, prior.path)
    assert other.digest != prior.digest


def test_a_transformer_is_asked_for_nobody_in_particular(tmp_path):
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    with torch.random.fork_rng():
        torch.manual_seed(0)
        dit = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            sample_size=4,
            patch_size=2,
            norm_num_groups=4,
            num_embeds_ada_norm=10,
        )
    dit.save_pretrained(tmp_path / "transformer")
    DDIMScheduler(clip_sample=False).save_pretrained(tmp_path / "scheduler")
    prior = Diffusion(folder=str(tmp_path), steps=3).load(CPU)
    noisy = prior.sample(Rng([1, 2]))
    stamps = torch.full((2,), 999.0)
    with torch.no_grad():
        nobody, somebody = (dit(noisy, stamps, class_labels=torch.full((2,), label)).sample[:, :4] for label in (10, 0))
        found = prior.denoise(noisy, 1.0)
    torch.testing.assert_close(found, prior.path.clean(nobody, noisy, 1.0))
    assert not torch.allclose(found, prior.path.clean(somebody, noisy, 1.0))


def edit(place: Path, **changes) -> None:
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


def cut(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:-100])


def poison(place: Path) -> None:
    state = load_file(place)
    state["conv_in.bias"][0] = float("nan")
    save_file(state, place)


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
MISTAKES = {
    "no folder": (lambda made: shutil.rmtree(made), "There is no prior folder"),
    "a training": (lambda made: (made / "prior").mkdir(), "is the folder of a training: its prior is"),
    "nothing in it": (
        lambda made: [shutil.rmtree(made / part) for part in ("unet", "scheduler")],
        "is no folder of diffusers: config.json",
    ),
    "no scheduler": (lambda made: shutil.rmtree(made / "scheduler"), "scheduler_config.json cannot be used"),
    "another network": (
        lambda made: edit(made / "unet/config.json", _class_name="UNet2DConditionModel"),
        "holds UNet2DC",
    ),
    "another prior": (
        lambda made: (made / "unet/config.json").write_text("{}"),
        "unet is no folder of diffusers",
    ),
    "no size": (lambda made: edit(made / "unet/config.json", sample_size=None), "set sample_size"),
    "misfit": (lambda made: edit(made / "unet/config.json", block_out_channels=[8, 24]), "cannot be loaded|do not fit"),
    "truncated": (lambda made: cut(made / WEIGHTS), "cannot be loaded"),
    "NaN": (lambda made: poison(made / WEIGHTS), "conv_in.bias holds NaN"),
    "no weights": (lambda made: (made / WEIGHTS).unlink(), "cannot be loaded"),
    "unknown scheduler": (
        lambda made: edit(made / "scheduler/scheduler_config.json", _class_name="KarrasVeScheduler"),
        "KarrasVeScheduler is neither",
    ),
    "another prediction": (
        lambda made: edit(made / "scheduler/scheduler_config.json", prediction_type="flow"),
        "prediction_type is flow",
    ),
    "unknown table": (
        lambda made: edit(made / "scheduler/scheduler_config.json", beta_schedule="mine"),
        "settings cannot be used",
    ),
    "EDM of other predictions": (
        lambda made: edit(
            made / "scheduler/scheduler_config.json", _class_name="EDMEulerScheduler", prediction_type="v_prediction"
        ),
        "is one of EDM, but its prediction_type is v_prediction",
    ),
    "thresholds": (
        lambda made: edit(made / "scheduler/scheduler_config.json", thresholding=True),
        "thresholding is not supported",
    ),
    "a codebook": (lambda made: (made / "movq").mkdir(), "movq is an autoencoder that cannot be used"),
    "a flow of other predictions": (
        lambda made: edit(
            made / "scheduler/scheduler_config.json",
            _class_name="FlowMatchEulerDiscreteScheduler",
            prediction_type="epsilon",
        ),
        "is one of flow matching, but its prediction_type is epsilon",
    ),
    "a flow in disguise": (
        lambda made: edit(
            made / "scheduler/scheduler_config.json",
            _class_name="DPMSolverMultistepScheduler",
            use_flow_sigmas=True,
            prediction_type="flow_prediction",
        ),
        "use_flow_sigmas is not supported",
    ),
    "pure noise": (
        lambda made: edit(made / "scheduler/scheduler_config.json", rescale_betas_zero_snr=True),
        "ends in pure noise",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(unet, tmp_path, name):
    spoil, words = MISTAKES[name]
    made = folder(unet, tmp_path / "made")
    spoil(made)
    with pytest.raises(GmiError, match=words) as refusal:
        Diffusion(folder=str(made)).load(CPU)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "latents of 4 channels, but the prior makes 1"),
        ({"scaling_factor": 0.0}, "scaling_factor is 0.0, and must"),
        ({"scaling_factor": None}, "scaling_factor is None, and must"),
    ],
)
def test_an_autoencoder_of_other_latents_is_refused(unet, tmp_path, settings, words):
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    channels = 1 if settings else 4
    made = folder(unet, tmp_path / "made")
    AutoencoderTiny(**widths, **blocks, latent_channels=channels, **settings).save_pretrained(made / "vae")
    with pytest.raises(GmiError, match=words):
        Diffusion(folder=str(made)).load(CPU)


def test_an_autoencoder_that_scales_by_channel_is_followed(unet, tmp_path):
    """As pipelines of diffusers do: latents * std / scaling_factor + mean."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        latent = UNet2DModel.from_config(dict(unet.config) | {"in_channels": 2, "out_channels": 2})
        widths = {"latent_channels": 2, "norm_num_groups": 4, "block_out_channels": (4,)}
        vae = AutoencoderKL(**widths, latents_mean=[0.5, -0.2], latents_std=[2.0, 0.5], scaling_factor=0.25)
    made = folder(latent, tmp_path / "made")
    vae.save_pretrained(made / "vae")
    prior = Diffusion(folder=str(made), steps=1).load(CPU)
    latents = prior.sample(Rng([1]))
    inside = latents * torch.tensor([2.0, 0.5])[:, None, None] / 0.25 + torch.tensor([0.5, -0.2])[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(prior.image(latents), ((vae.decode(inside).sample + 1) / 2).clamp(0, 1))
        encoded = prior.clean(torch.full((1, 3, 8, 8), 0.3))
        expected = vae.encode(torch.full((1, 3, 8, 8), -0.4)).latent_dist.mode()
    back = encoded * torch.tensor([8.0, 2.0])[:, None, None] + torch.tensor([0.5, -0.2])[:, None, None]
    torch.testing.assert_close(back, expected)
    edit(made / "vae/config.json", latents_mean=[0.5])
    with pytest.raises(GmiError, match="latents_mean has 1 numbers for 2 channels"):
        Diffusion(folder=str(made)).load(CPU)
    edit(made / "vae/config.json", latents_mean=[0.5, 0.2])
    assert Diffusion(folder=str(made), steps=1).load(CPU).digest != prior.digest


def test_a_latent_folder_with_a_codebook_as_diffusers_publishes_it(tmp_path, monkeypatch):
    """The layout of the 256 px CelebA-HQ model, in small: unet, vqvae and a DDIM scheduler, by LDMPipeline itself."""
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.pipelines.deprecated.latent_diffusion_uncond import pipeline_latent_diffusion_uncond as module
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    blocks = {"block_out_channels": (8,), "norm_num_groups": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vqvae = VQModel(**blocks, latent_channels=3, num_vq_embeddings=16, scaling_factor=0.5)
        ways = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
        unet = UNet2DModel(sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, **blocks, **ways)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipeline = module.LDMPipeline(vqvae, unet, scheduler)
    pipeline.save_pretrained(tmp_path)
    prior = Diffusion(folder=str(tmp_path), steps=2).load(CPU)
    latents = prior.sample(Rng([1]))
    with torch.no_grad():
        torch.testing.assert_close(prior.image(latents), ((vqvae.decode(latents / 0.5).sample + 1) / 2).clamp(0, 1))
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: latents.clone())
        pipeline.set_progress_bar_config(disable=True)
        generated = pipeline(num_inference_steps=2, output_type="np")
    expected = torch.from_numpy(generated.images).permute(0, 3, 1, 2)
    torch.testing.assert_close(prior.decode(latents), expected, rtol=1e-3, atol=1e-3)
    latents.requires_grad_()
    prior.image(latents).sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0  # straight through the codebook


def test_weights_of_a_variant_and_averaged_ones_are_found(unet, tmp_path, capsys):
    made = folder(unet, tmp_path / "made")
    plain = Diffusion(folder=str(made), steps=1).load(CPU)
    assert capsys.readouterr().err == ""
    weights = load_file(made / WEIGHTS)
    half = {key: value.half() for key, value in weights.items()}
    (made / WEIGHTS).unlink()
    save_file(half, (made / WEIGHTS).with_suffix(".fp16.safetensors"))
    only = Diffusion(folder=str(made), steps=1).load(CPU)
    assert only.digest == Diffusion(folder=str(made), steps=1, variant="fp16").load(CPU).digest != plain.digest
    save_file({key: value + 1 for key, value in weights.items()}, (made / WEIGHTS).with_suffix(".non_ema.safetensors"))
    with pytest.raises(GmiError, match=r"several variants \(fp16, non_ema\): set prior\.variant"):
        Diffusion(folder=str(made)).load(CPU)
    assert Diffusion(folder=str(made), steps=1, variant="fp16").load(CPU).digest == only.digest
    with pytest.raises(GmiError, match=r"prior\.variant is bf16, and .* has fp16, non_ema\.$"):
        Diffusion(folder=str(made), variant="bf16").load(CPU)
    save_file(weights, made / WEIGHTS)
    with pytest.raises(GmiError, match=r"prior\.variant is fp_16, and .* has fp16, non_ema, weights without a variant"):
        Diffusion(folder=str(made), variant="fp_16").load(CPU)
    shutil.copytree(made / "unet", made / "unet_ema")
    for left in (made / "unet_ema").glob("*.safetensors"):
        left.unlink()
    save_file(weights, made / "unet_ema" / "diffusion_pytorch_model.safetensors")
    assert Diffusion(folder=str(made), steps=1).load(CPU).digest == plain.digest
    assert "the averaged weights in unet_ema are taken" in capsys.readouterr().err


def test_weights_in_several_files_are_one_prior(unet, tmp_path):
    made = folder(unet, tmp_path / "made")
    plain = Diffusion(folder=str(made), steps=1).load(CPU)
    shutil.rmtree(made / "unet")
    unet.save_pretrained(made / "unet", max_shard_size="5KB")
    assert len([*(made / "unet").glob("*.safetensors")]) > 2
    assert Diffusion(folder=str(made), steps=1).load(CPU).digest == plain.digest
    max((made / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(GmiError, match="cannot be loaded"):
        Diffusion(folder=str(made)).load(CPU)


def test_times_of_a_table_are_numbers_of_its_rows(unet, tmp_path):
    from diffusers.models.unets.unet_2d import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        counted = UNet2DModel.from_config(
            dict(unet.config) | {"time_embedding_type": "learned", "num_train_timesteps": 1000}
        )
    prior = Diffusion(folder=str(folder(counted, tmp_path / "made")), steps=4).load(CPU)
    noisy = prior.sample(Rng([1]))
    with torch.no_grad():
        output = counted(noisy, torch.tensor([999])).sample
    torch.testing.assert_close(prior.denoise(noisy, 1.0), prior.path.clean(output, noisy, 1.0))
    assert prior.decode(noisy).isfinite().all()


def test_a_prior_with_classes_is_asked_for_none_of_them(tmp_path):
    from diffusers.models.unets.unet_2d import UNet2DModel

    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(sample_size=8, layers_per_block=1, norm_num_groups=4, num_class_embeds=4, **blocks)
    made = folder(unet, tmp_path / "made")
    prior = Diffusion(folder=str(made), null_class=3, steps=2).load(CPU)
    noisy = prior.sample(Rng([1]))
    with torch.no_grad():
        nobody, somebody = (unet(noisy, 999, class_labels=torch.tensor([label])).sample for label in (3, 0))
    torch.testing.assert_close(prior.denoise(noisy, 1.0), prior.path.clean(nobody, noisy, 1.0))
    assert not torch.allclose(nobody, somebody)
    assert prior.digest != Diffusion(folder=str(made), null_class=2).load(CPU).digest
    with pytest.raises(GmiError, match=r"null_class is 4, and .* has 4 classes"):
        Diffusion(folder=str(made), null_class=4).load(CPU)


@pytest.fixture(scope="module")
def classed(tmp_path_factory) -> Path:
    """A folder of a prior with four classes, of which the last means none."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(sample_size=8, layers_per_block=1, norm_num_groups=4, num_class_embeds=4, **blocks)
    return folder(unet, tmp_path_factory.mktemp("classed") / "made")


def test_a_priors_own_classes_stand_for_the_targets(classed):
    prior = Diffusion(folder=str(classed), null_class=3, classes=(2, 0), steps=2).load(CPU)
    noisy, classes = prior.sample(Rng(range(3))), torch.tensor([1, 0, 1])
    with torch.no_grad():
        named = prior.network(noisy, 999, class_labels=torch.tensor([0, 2, 0])).sample
    torch.testing.assert_close(prior.denoise(noisy, 1.0, classes), prior.path.clean(named, noisy, 1.0))
    without = Diffusion(folder=str(classed), null_class=3, steps=2).load(CPU)
    assert prior.decode(noisy).equal(without.decode(noisy)) and prior.digest != without.digest
    images = prior.decode(noisy, classes)
    assert not images.equal(prior.decode(noisy)) and without.decode(noisy, classes).equal(without.decode(noisy))
    alone = torch.cat([prior.decode(noisy[row : row + 1], classes[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(images, alone, rtol=0, atol=1e-4)


class Silent:
    """A target of two classes whose logits say nothing."""

    queries, people = 0, 2

    def logits(self, images, classes=None):
        return images.flatten(1)[:, :2] * 0

    activations = scores = labels = accepts = everybody = logits


@pytest.mark.parametrize("search", [Guided(steps=2, through="clean"), Particles(steps=3), Unmoved()])
def test_searches_and_controls_walk_with_the_priors_own_classes(classed, search):
    prior = Diffusion(folder=str(classed), null_class=3, classes=(2, 0), steps=2).load(CPU)
    rng, classes = Rng(range(2)), torch.tensor([0, 1])
    refuse_misfit(search, Silent(), prior)
    found = search(Silent(), prior, prior.sample(rng), classes, Rng(range(2)))
    swapped = Diffusion(folder=str(classed), null_class=3, classes=(0, 2), steps=2).load(CPU)
    mirrored = search(Silent(), swapped, prior.sample(Rng(range(2))), classes.flip(0), Rng(range(2)))
    torch.testing.assert_close(found.images, mirrored.images)
    other = search(Silent(), swapped, prior.sample(Rng(range(2))), classes, Rng(range(2)))
    assert not torch.allclose(found.images, other.images)


def test_classes_that_cannot_be_the_priors_own_are_refused(classed, world):
    for wrong in (4, 3):
        with pytest.raises(GmiError, match=r"has the classes 0 to 3: name one of these in prior\.classes"):
            Diffusion(folder=str(classed), null_class=3, classes=(0, wrong)).load(CPU)
    with pytest.raises(GmiError, match=r"without classes: leave prior\.classes out"):
        Diffusion(folder="priors/flow48", classes=(0,)).load(CPU)
    prior = Diffusion(folder=str(classed), null_class=3, classes=(1, 2)).load(CPU)
    with pytest.raises(GmiError, match=r"names 2 classes, and the target has 6: name one for each"):
        refuse_misfit(Guided(), world.oracle(), prior)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_class_embeds": 3}, r"3 classes of its own: name the one that means none in prior\.null_class"),
        ({"class_embed_type": "timestep"}, "takes a condition .timestep.: an unconditional prior"),
        ({"in_channels": 2, "out_channels": 1}, "takes 2 channels and makes 1: it needs an image beside"),
    ],
)
def test_a_conditional_prior_is_refused(tmp_path, settings, words):
    from diffusers.models.unets.unet_2d import UNet2DModel

    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, layers_per_block=1, norm_num_groups=4, **blocks, **settings)
    with pytest.raises(GmiError, match=words):
        Diffusion(folder=str(folder(unet, tmp_path / "made"))).load(CPU)


def test_the_shipped_prior_makes_faces_not_noise_and_tells_its_terms():
    """Lighter in the middle than in the corners, and smooth: neighbours are alike, which in noise they are not."""
    shipped = Path(__file__).parents[2] / "priors" / "flow48"
    prior = Diffusion(folder=str(shipped), steps=6).load(CPU)
    with torch.no_grad():
        images = prior.decode(prior.sample(Rng(range(8))))
    assert images.shape == (8, 1, 48, 48)
    left, right = images[..., :-1].flatten(), images[..., 1:].flatten()
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] > 0.9
    corners = torch.cat([images[..., :8, :8], images[..., :8, -8:]]).mean()
    assert images[..., 16:32, 16:32].mean() > corners
    assert "non-commercial research only" in (shipped / "README.md").read_text()


def test_more_steps_than_the_prior_knows(unet, tmp_path):
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    made = folder(unet, tmp_path / "made", DDPMScheduler(num_train_timesteps=100))
    with pytest.raises(GmiError, match="101 steps are more than the 100"):
        Diffusion(folder=str(made), steps=101).load(CPU)
