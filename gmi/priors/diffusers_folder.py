"""Networks, autoencoders and schedulers in a folder that diffusers wrote."""

import json
import re
from pathlib import Path
from typing import Any

from torch import nn

from gmi.errors import GmiError, because, foreign
from gmi.priors.path import DiffusionPath, EdmPath, FlowPath
from gmi.protocols import NoisePath

PARTS = ("unet_ema", "unet", "transformer")
AUTOENCODERS = ("vae", "vqvae")
NETWORKS = ("UNet2DModel", "DiTTransformer2DModel")
_WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.(\w+))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)")


def read_path(config: dict[str, Any]) -> NoisePath:
    """The path of a scheduler's configuration. Raises GmiError if it is neither flow matching's nor DDPM's."""
    import diffusers  # takes seconds, which audits with other priors need not spend

    name = str(config.get("_class_name"))
    kind = (
        f"{name} is neither a DDPM-like scheduler of diffusers nor one of flow matching, or its settings cannot be used"
    )
    with foreign(lambda why: f"{kind} ({why})."):
        scheduler: Any = getattr(diffusers, name).from_config(config)
        settings = scheduler.config
        if name.startswith("FlowMatch"):
            _refuse(settings, "use_dynamic_shifting", "invert_sigmas", "shift_terminal")
            if (wanted := config.get("prediction_type", "flow_prediction")) != "flow_prediction":
                raise GmiError(f"The scheduler {name} is one of flow matching, but its prediction_type is {wanted}.")
            return FlowPath(float(settings.get("shift") or 1.0), int(settings.num_train_timesteps))
        if name.startswith("EDM"):
            if (wanted := config.get("prediction_type", "epsilon")) != "epsilon":
                raise GmiError(f"The scheduler {name} is one of EDM, but its prediction_type is {wanted}.")
            least, most, rho, spread = (float(settings[key]) for key in ("sigma_min", "sigma_max", "rho", "sigma_data"))
            return EdmPath(least, most, rho, spread, int(settings.num_train_timesteps))
        _refuse(settings, "thresholding", "use_flow_sigmas")
        table = tuple(scheduler.alphas_cumprod.double().tolist())
    limit = float(settings.get("clip_sample_range") or 1.0) if settings.get("clip_sample") else None
    return DiffusionPath(table, str(settings.get("prediction_type", "epsilon")), limit)


def _refuse(settings: dict[str, Any], *switches: str) -> None:
    for switch in switches:
        if settings.get(switch):
            raise GmiError(f"The scheduler's setting {switch} is not supported: a prior without it is needed.")


def _variant(folder: Path, asked: str | None, needed: bool) -> str | None:
    """The variant of the weights in a folder; None: the plain ones. Raises GmiError where it is not clear which.

    needed: the one that is asked for must be there; otherwise plain weights will do.
    """
    found = {match[1] for path in folder.iterdir() if (match := _WEIGHTS.fullmatch(path.name))}
    if asked is not None:
        if asked not in found and (needed or None not in found):
            raise GmiError(f"prior.variant is {asked}, and {folder} has {_those(found) or 'no weights'}.")
        return asked if asked in found else None
    if None in found or not found:
        return None
    if len(found) > 1:
        raise GmiError(
            f"{folder} has weights of several variants ({', '.join(sorted(map(str, found)))}): set prior.variant."
        )
    return found.pop()


def _those(variants: set[str | None]) -> str:
    return ", ".join(sorted(variant or "weights without a variant" for variant in variants))


def read_model(folder: Path, kinds: tuple[str, ...], variant: str | None) -> nn.Module:
    import diffusers

    name = read_json(folder / "config.json").get("_class_name")
    if name is None:
        raise GmiError(f"{folder} is no folder of diffusers.")
    if name not in kinds:
        raise GmiError(f"{folder} holds {name}: a prior needs {' or '.join(kinds)}.")
    with foreign(lambda why: f"{folder} cannot be loaded as {name}: {why}."):
        model, report = getattr(diffusers, name).from_pretrained(
            folder,
            variant=_variant(folder, variant, kinds == NETWORKS),
            local_files_only=True,
            output_loading_info=True,
            low_cpu_mem_usage=False,
        )
    if misfits := [*report["missing_keys"], *report["mismatched_keys"], *report["unexpected_keys"]]:
        raise GmiError(f"{folder}: the weights do not fit {name}; the first that differs is {misfits[0]}.")
    broken = [key for key, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise GmiError(f"{folder} is broken: {broken[0]} holds NaN or infinite values.")
    return model.float()


def read_autoencoder(folder: Path, channels: int, variant: str | None) -> nn.Module:
    """The autoencoder in a folder, for latents of so many channels. Raises GmiError if it does not suit them."""
    vae = read_model(folder, ("AutoencoderKL", "AutoencoderTiny", "VQModel"), variant)
    config: Any = vae.config
    if config.latent_channels != channels:
        raise GmiError(
            f"{folder} is for latents of {config.latent_channels} channels, but the prior makes {channels}: it is not "
            "the autoencoder that the prior was trained with."
        )
    if not 0 < (config.scaling_factor or 0) < float("inf"):
        raise GmiError(f"{folder}: scaling_factor is {config.scaling_factor}, and must be above 0.")
    for key in ("latents_mean", "latents_std"):
        if config.get(key) is not None and len(config.get(key)) != channels:
            raise GmiError(f"{folder}: {key} has {len(config.get(key))} numbers for {channels} channels.")
    return vae


def read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise GmiError(
            f"{path.parent} is no folder of diffusers: {path.name} cannot be used ({because(error)})."
        ) from error
    if not isinstance(tree, dict):
        raise GmiError(f"{path} holds no settings.")
    return tree
