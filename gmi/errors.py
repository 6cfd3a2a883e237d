"""The one exception that the toolkit's own checks raise."""


class GmiError(Exception):
    """A mistake or circumstance the user can mend: one clear sentence; command lines print it and exit with 2."""
