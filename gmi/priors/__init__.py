"""Priors: what a configuration's `prior:` block may be."""

from typing import Annotated

from pydantic import Field

from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Gan
from gmi.priors.stylegan import StyleGan

AnyPrior = Annotated[Gan | StyleGan | Diffusion, Field(discriminator="type")]
