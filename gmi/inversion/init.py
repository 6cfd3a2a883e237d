"""The command that writes a configuration for a model and photographs of one's own, and checks that it loads."""

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

from gmi.assets.catalogue import resolve
from gmi.assets.factory import find_factory
from gmi.assets.weights import read_weights
from gmi.cli.options import QUESTIONS, flags_of
from gmi.data import folders, images
from gmi.errors import GmiError, because
from gmi.inversion.plan import Audit
from gmi.metrics.conclusion import FEWEST
from gmi.report.subjects import reworded
from gmi.settings import read
from gmi.targets.module import ModuleTarget
from gmi.targets.quality import refuse_unfit

LARGEST = 224  # pixels of a side, where photographs do not tell
LOOKED_AT = 200  # photographs whose sizes are read
FACES = {
    "subject": "faces",
    "prior_note": "What an adversary knows without the model: a generator of faces, trained on public photographs.",
    "prior": "{type: diffusion, folder: %s, steps: 10}",
    "views": "{scale: [0.75, 1.1], shift: 0.1, rotate: 15.0, exposure: 0.3}",
    "judges_note": (
        "Face recognisers that take no part in the attack; the verdict rests on the first. {type: facenet} is a\n"
        "# further one, which is refused for a model that was built on it, or trained on CASIA-WebFace."
    ),
    "judges": "[{type: dlib}, {type: mobilefacenet}]",
}
"""What a configuration has of faces."""
OBJECTS = {
    "subject": "objects",
    "prior_note": (
        "CHECK: what an adversary knows without the model, a generator of such images, trained on public ones by gmi\n"
        "# train-prior with data.subject: objects (docs/priors.md). Those of faces know nothing of them."
    ),
    "prior": "{type: diffusion, folder: runs/public-prior/prior, steps: 10}",
    "views": "{scale: [0.9, 1.1], shift: 0.1, flip: false}",
    "judges_note": (
        "CHECK: recognisers of such images that take no part in the attack; the verdict rests on the first. It is\n"
        "# trained on images that play no other part, a folder for each class: best these classes and many more."
    ),
    "judges": "[{type: trained, folder: judge, trained_on: [public images (judge)]}]",
}
"""What one has of anything else."""
CHECK = "CHECK"  # what is still to be filled in
COUNTS = ("num_classes", "n_classes", "classes", "num_labels", "people")
"""What factories call their number of classes."""


def main(arguments: Sequence[str]) -> None:
    """Writes the file, and prints what is still to be filled in.

    Raises GmiError for a mistake, before it writes, and where what it wrote does not load.
    """
    options = flags_of("init").parse_args(arguments)
    file = Path(options.folder, options.out)
    if file.exists():
        raise GmiError(f"{file} is there already, and is not overwritten: name another file with --out.")
    answers = {name: getattr(options, name) or _asked(about) for name, (_, about) in QUESTIONS.items()}
    people = answers.pop("people")
    if people is None:
        raise GmiError(f"--people is missing: {QUESTIONS['people'][1]}.")
    text = configuration(file, people, **answers, subject=options.subject)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise GmiError(f"{file} cannot be written ({because(error)}): name another folder.") from error
    print(checked(file, [name for name, answer in answers.items() if answer is None and name != "public"]))
    print(f"Then: gmi audit {file} --dry-run")


def _asked(about: str) -> str | None:
    """The answer to a question on a terminal; None if there is none, or no terminal."""
    if not sys.stdin.isatty():
        return None
    try:
        return input(f"{about[0].upper()}{about[1:]} (Enter: later): ").strip() or None
    except EOFError:
        return None


def configuration(
    file: Path,
    people: str,
    held_out: str | None = None,
    public: str | None = None,
    model: str | None = None,
    factory: str | None = None,
    subject: str = "faces",
) -> str:
    """The text of the file. Raises GmiError if something that is named cannot be found or read."""
    names, photographs = folders.people(folders.folder(people, "--people"))
    for key, name in (("--held-out", held_out), ("--public", public)):
        if name is not None:
            folders.folder(name, key)
    channels, *size = images.read([photographs[0][0]], [0], None).bytes.shape[1:]
    alike = _alike([path for path, _, _ in photographs]) and max(size) <= LARGEST
    height, width = size if alike else (LARGEST, LARGEST)
    fewest = min([person for _, _, person in photographs].count(number) for number in range(len(names)))
    colour = _colour(channels, model)
    note = "Other images of the same people, that the model never saw: reconstructions are compared with them."
    if held_out is None:
        note = (
            "CHECK: name a folder of other images of the same people. A number sets so many of each person aside, but\n"
            "  # then the model must not have been trained on these."
        )
    values = {
        "name": file.stem,
        "data": Path(people).name or "people",
        "people": people,
        "enrolment": held_out or max(1, min(5, fewest // 2)),
        "factory": factory or "my_module:network",
        "arguments": {} if factory is None else _arguments(factory, len(names)),
        "weights": model or "model.safetensors",
        "colour": colour,
        "mean": [0.5] if colour == "grey" else [0.485, 0.456, 0.406],
        "std": [0.5] if colour == "grey" else [0.229, 0.224, 0.225],
    }
    prior = "priors/flow64" if colour == "rgb" and resolve("priors/flow64").is_dir() else "priors/flow48"
    template = Template(Path(__file__).with_name("init.yaml").read_text("utf-8"))
    text = template.substitute(
        {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()},
        file=file,
        run=file.stem,
        height=height,
        width=width,
        size_check="" if alike else "CHECK, as photographs are large or of several sizes. ",
        enrolment_note=note,
        public="# public: faces/public" if public is None else f"public: {json.dumps(public, ensure_ascii=False)}",
        **(OBJECTS if subject == "objects" else FACES | {"prior": FACES["prior"] % prior}),
    )
    return reworded(text, subject, (people, *filter(None, (held_out, public, model, factory))))


def _alike(photographs: Sequence[Path]) -> bool:
    """Whether photographs are of one size, as far as they are looked at."""
    return len({images.size_of(path) for path in photographs[:: max(1, len(photographs) // LOOKED_AT)]}) == 1


def _colour(channels: int, model: str | None) -> str:
    """The colour of what the model takes: by its first convolution, or else as the photographs are."""
    state = {} if model is None else read_weights(Path(model).expanduser())
    kernels = [value.shape[1] for value in state.values() if value.ndim == 4]
    taken = kernels[0] if kernels and kernels[0] in (1, 3) else channels
    return "grey" if taken == 1 else "rgb" if channels == 3 else "grey as rgb"


def _arguments(factory: str, people: int) -> dict[str, int | str]:
    """The number of people under the name that the factory has for it, if it is one of the usual names.

    What factories of many models need besides, "CHECK" stands for.
    """
    if factory in ("timm:create_model", "timm.models:create_model"):
        return {"model_name": CHECK, "num_classes": people}
    if factory.startswith("transformers:") and factory.endswith(".from_pretrained"):
        return {"pretrained_model_name_or_path": CHECK, "num_labels": people}
    try:
        known = inspect.signature(find_factory(factory)).parameters
    except (TypeError, ValueError):  # there is none of what is written in C
        return {}
    if factory.startswith("torchvision.models:") and "weights" in known:
        return {"num_classes": people}
    return {name: people for name in COUNTS if name in known}


def checked(file: Path, missing: Sequence[str]) -> str:
    """What loads of the configuration, and what is still to be filled in. Raises GmiError where it does not load."""
    plan = read(file, Audit)
    places = {
        "held_out": "data.enrolment (images that the model never saw)",
        "model": "target.weights",
        "factory": "target.factory",
    }
    todo = [place for name, place in places.items() if name in missing]
    open_arguments = isinstance(plan.target, ModuleTarget) and CHECK in plan.target.arguments.values()
    todo += ["target.arguments"] if open_arguments else []
    todo += ["prior.folder", "judges"] if plan.data.subject == "objects" else []
    todo += ["size, colour, mean and std in target.input", "target.trained_on"]
    loaded, remark = f"{file} is written", ""
    try:
        people = plan.data.load()
        loaded += (
            f": {len(people.names)} people with {len(people.training)} training and {len(people.enrolment)} enrolment "
            "images"
        )
        if isinstance(plan.target, ModuleTarget) and not open_arguments and not {"model", "factory"} & {*missing}:
            refuse_unfit(plan.target.load(people.names), people, True)
            loaded += ", and weights that fit"
        if len(people.attacked) < FEWEST:
            remark = f" {len(people.attacked)} people are too few to conclude anything: take at least {FEWEST}."
    except GmiError as error:
        raise GmiError(f"{file} is written, but as it is it does not load: {error}") from error
    said = f"{loaded}; still to be filled in: {', '.join(todo)}.{remark}"
    return reworded(said, plan.data.subject, (str(file), *places.values()))
