"""Judges: models that never take part in a search."""

from typing import Annotated

from pydantic import Field

from gmi.judges.aligned import MobileFaceNet
from gmi.judges.face import Dlib, FaceNet
from gmi.judges.own import ModuleRecogniser, OnnxRecogniser

AnyFaceJudge = Annotated[
    Dlib | FaceNet | MobileFaceNet | OnnxRecogniser | ModuleRecogniser, Field(discriminator="type")
]
"""Every face recogniser that can judge."""
