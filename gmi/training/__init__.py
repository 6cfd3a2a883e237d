"""Training: what a configuration's `learner:` block may be."""

from typing import Annotated

from pydantic import Field

from gmi.training.learners import Adversarial, Denoising
from gmi.training.style import StyleBased

AnyLearner = Annotated[Denoising | Adversarial | StyleBased, Field(discriminator="type")]
