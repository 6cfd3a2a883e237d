"""Folders of the Hugging Face Hub."""

from pathlib import Path

from gmi.errors import GmiError, foreign

_PARTS = ("unet", "unet_ema", "transformer", "vae", "vqvae", "scheduler")
_FETCHED = ("config.json", "model.safetensors", "model_index.json", "scheduler_config.json", "README.md", "LICENSE*")
_FETCHED += ("diffusion_pytorch_model*", *(f"{part}/*.{end}" for part in _PARTS for end in ("json", "safetensors")))
"""What is fetched of a folder of the hub."""


def from_hub(name: str) -> Path:
    """The folder of `OWNER/NAME@REVISION` on the Hugging Face Hub: weights without code, and what describes them.

    It lies in huggingface_hub's own cache, which is asked first; HF_HUB_OFFLINE and HF_TOKEN have their usual meanings.
    Raises GmiError if the revision is not named or cannot be had.
    """
    from huggingface_hub import snapshot_download

    place, _, revision = name.partition("@")
    if not place or not revision:
        raise GmiError(f"hub:{name} names no revision: write hub:OWNER/NAME@REVISION, best with a commit's hash.")
    with foreign(lambda why: f"hub:{name} cannot be had ({why}): check the name, the network, and HF_HUB_OFFLINE."):
        folder = Path(snapshot_download(place, revision=revision, allow_patterns=[*_FETCHED]))
    if not any(folder.rglob("*.safetensors")):
        raise GmiError(f"hub:{name} holds no weights in safetensors where a prior has them: take another revision.")
    return folder
