"""Overlap of public images with the audited people: a prior must not be trained on the people it helps to invert."""

import numpy as np
import torch
import torch.nn.functional as F

from gmi.checks import copies, public_people
from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.judges.spaces import FaceSpace, PixelSpace
from gmi.metrics import identity


def overlap(people: People, public: Images, space: FaceSpace | PixelSpace) -> str:
    """A sentence on how many public images look like the private people; in pixels, on copies alone.

    Raises GmiError if the two sets share files.
    """
    same = copies(people.copied(public), len(public))
    if same.severity == "stop":
        raise GmiError(same.message)
    if isinstance(space, PixelSpace):  # in which the same kind of object is near, whoever made it
        return same.message
    shown, trained, enrolled = (
        F.normalize(torch.from_numpy(space(images.bytes))) for images in (public, people.training, people.enrolment)
    )
    enrolment, training = people.enrolment.classes.numpy(), people.training.classes.numpy()
    photographs = identity.to_people((trained @ enrolled.T).numpy(), enrolment)
    own = training[:, None] == np.arange(len(people.names))
    best = identity.to_people((shown @ enrolled.T).numpy(), enrolment).max(1)
    return public_people(best, len(people.names), photographs[own], photographs[~own]).message
