"""Audits a classifier of your own: a network's factory, its weights, and photographs of its people.

python examples/audit_your_model.py faces/train faces/held_out model.safetensors

`faces/train` holds what the model was trained on, in one folder for each person; `faces/held_out` other photographs of
the same people, that it never saw. Change the factory, its arguments and `Input` to what your model needs.
"""

import os
import sys
from pathlib import Path

from gmi import Audit, audit
from gmi.data.people import Faces
from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Gan
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.selection import Selection
from gmi.targets.module import Input, ModuleTarget

PRIOR = Diffusion(folder="priors/flow48", steps=10)  # what an adversary knows of faces
SEARCH = Guided()  # the attack: more steps make it stronger and slower


def main(
    people: str,
    held_out: str,
    weights: str,
    out: str = "runs/mine",
    prior: Diffusion | Gan = PRIOR,
    search: Guided | Gradient = SEARCH,
    pool: int = 200,
) -> Path:
    """The report of an audit by these weights. pool: samples of the prior that the attack starts from."""
    network, classes = "torchvision.models:resnet18", len(os.listdir(people))
    adapter = Input(size=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    target = ModuleTarget(factory=network, arguments={"num_classes": classes}, weights=weights, input=adapter)
    data = Faces(name="my people", folder=people, enrolment=held_out, size=(64, 64))
    selection = Selection(pool=pool, candidates=1)
    plan = Audit(name="mine", data=data, target=target, prior=prior, search=search, selection=selection)
    return audit(plan, out)


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], sys.argv[3]))
