"""What a piece of work says of the target, by its path in a run folder."""

_OURS = ("judged", "random", "oracle", "shadow")
"""What a part of the name of a piece begins with that is made without asking the target."""
AGAIN = "again"
"""The last part of the name of a piece that says only that a target answers as it did."""


def asks(piece: str) -> bool:
    """Whether a piece of that path is of the target: not what judges make of images, nor made without it."""
    parts = piece.split("/")
    answers = "answers" not in parts or "target" in parts
    return answers and not confirms(piece) and not any(each.startswith(_OURS) for each in parts)


def confirms(piece: str) -> bool:
    """Whether a piece of that path says only that the target answers as it did."""
    return piece.split("/")[-1].split(".")[0] == AGAIN


def fresh(piece: str) -> bool:
    """Whether the target was sent images for a piece of that path, and not answered from what was kept."""
    return "checks" in piece.split("/")
