"""Judges: models that never take part in a search."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from gmi.judges.aligned import MobileFaceNet
from gmi.judges.face import Dlib, FaceNet
from gmi.judges.own import ModuleRecogniser, OnnxRecogniser
from gmi.judges.trained import TrainedRecogniser

AnyFaceJudge = Annotated[
    Dlib | FaceNet | MobileFaceNet | OnnxRecogniser | ModuleRecogniser | TrainedRecogniser,
    Field(discriminator="type"),
]
"""Every recogniser that can judge: of faces, of one's own, or trained for the audit."""


def refuse_faces(judges: Iterable[Any], subject: str) -> None:
    """Raises ValueError where a judge of faces is to judge something else."""
    if subject == "faces":
        return
    for judge in judges:
        if isinstance(judge, Dlib | FaceNet | MobileFaceNet) or getattr(judge, "align", "none") != "none":
            name = judge.type if isinstance(judge, Dlib) else judge.name
            raise ValueError(
                f"judges: {name} sees faces, and data.subject is {subject}: take type trained, or onnx or "
                "module with align: none"
            )
