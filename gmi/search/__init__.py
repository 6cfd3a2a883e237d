"""Searches: what a configuration's `search:` block may be, one paper's algorithm a file."""

from typing import Annotated

from pydantic import Field

from gmi.search.boundary import Boundary
from gmi.search.conditional import Conditional
from gmi.search.evolution import Evolution
from gmi.search.genetic import Genetic
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.layered import Layered
from gmi.search.particles import Particles
from gmi.search.solve import Solve
from gmi.search.surrogate import Surrogate
from gmi.search.tuned import Tuned
from gmi.search.variational import Variational

AnySearch = Annotated[
    Gradient
    | Guided
    | Layered
    | Particles
    | Evolution
    | Genetic
    | Boundary
    | Conditional
    | Surrogate
    | Solve
    | Tuned
    | Variational,
    Field(discriminator="type"),
]
