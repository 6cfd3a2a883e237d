"""Targets: what a configuration's `target:` block may be."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from gmi.targets.json_endpoint import JsonTarget
from gmi.targets.module import ModuleTarget
from gmi.targets.onnx import OnnxTarget
from gmi.targets.open_inference import OpenInferenceTarget
from gmi.targets.templates import TemplateTarget


def _kind(target: Any) -> str:
    """The type of a target; one that does not say it is a module."""
    return target.get("type", "module") if isinstance(target, dict) else getattr(target, "type", "module")


LocalTarget = Annotated[
    Annotated[ModuleTarget, Tag("module")] | Annotated[TemplateTarget, Tag("templates")], Discriminator(_kind)
]
"""A target whose network is in this process."""

AnyTarget = Annotated[
    Annotated[ModuleTarget, Tag("module")]
    | Annotated[OpenInferenceTarget, Tag("open-inference")]
    | Annotated[JsonTarget, Tag("json")]
    | Annotated[OnnxTarget, Tag("onnx")]
    | Annotated[TemplateTarget, Tag("templates")],
    Discriminator(_kind),
]
