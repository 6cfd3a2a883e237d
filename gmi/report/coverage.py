"""Which kinds of privacy attack a run made and which it did not, by the names of NIST AI 100-2e2025 and MITRE ATLAS."""

from collections.abc import Collection
from typing import Any

KINDS = {
    "representatives": ("Inversion: images of a class's people", "NISTAML.032", "AML.T0024.001", "audit"),
    "templates": ("Inversion of biometric templates", "NISTAML.032", "AML.T0024.001", "audit"),
    "attributes": ("Inference of a person's attribute", "NISTAML.032", "AML.T0024.001", "attributes"),
    "records": ("Training records out of a generative model", "NISTAML.038", "AML.T0024", "extract"),
    "membership": ("Whether a record was trained on", "NISTAML.033", "AML.T0024.000", "audit"),
    "copying": ("Copying the model", "NISTAML.031", "AML.T0024.002", "audit"),
    "property": ("A property of the training set as a whole", "NISTAML.034", "AML.T0024", ""),
}


def coverage(made: Collection[str]) -> list[dict[str, Any]]:
    """A row for every kind: what it is, its names, the command that makes it, and whether it was made here.

    The command is empty where gmi has none.
    """
    return [
        {
            "what": what,
            "nist": nist,
            "atlas": atlas,
            "command": f"gmi {command}" if command else "",
            "made": kind in made,
        }
        for kind, (what, nist, atlas, command) in KINDS.items()
    ]
