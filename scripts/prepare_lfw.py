"""Lays Labeled Faces in the Wild out for the configs/lfw_*.yaml audits.

    OUT/people/NAME/NNN.png      the 59 with the most images, 30 of each at most: the target's classes
    OUT/strangers/NAME/NNN.png   who else has 5 or more: distractors in the gallery and strangers for the thresholds
    OUT/others/NAME/000.png      one photograph of each of 1,000 others: what an adversary asks an interface about

The images come from scikit-learn's fetch_lfw_people (pip install scikit-learn), which downloads them once, or from a
folder with one folder of face crops a person. They are made grey and square. Real people: for research only.

Example: python scripts/prepare_lfw.py --out data/lfw
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from gmi.cli import run
from gmi.data.folders import folder, people
from gmi.errors import GmiError

CROP = (slice(70, 195), slice(62, 187))  # of 250 x 250: the face, as scikit-learn cuts it, but square
SIZE = 112
PEOPLE = 59
ENOUGH, MOST, FEW = 20, 30, 5  # images of a person to be a class; of those used; of a person to be a stranger
OTHERS = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises GmiError where the images cannot be had or OUT exists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/lfw"), help="folder to make (default: data/lfw)")
    parser.add_argument("--folder", help="take the images from here: one folder of face crops a person")
    options = parser.parse_args(arguments)
    if options.out.exists():
        raise GmiError(f"{options.out} exists: remove it, or name another --out.")
    everybody = _lying(options.folder) if options.folder else _fetched()
    others = [person for person in everybody if len(person.images) < FEW][:OTHERS]
    persons = sorted(
        (person for person in everybody if len(person.images) >= FEW),
        key=lambda person: (-len(person.images), person.name),
    )
    if len(persons) < PEOPLE + 2 or len(persons[PEOPLE - 1].images) < ENOUGH:
        raise GmiError(
            f"The benchmark needs {PEOPLE} people with {ENOUGH} images and others with {FEW}: there are fewer."
        )
    draft = options.out.with_name(f".{options.out.name}-new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for rank, person in enumerate(tqdm(persons, desc="people")):
            _lay(person, draft / ("people" if rank < PEOPLE else "strangers") / person.name)
        for person in others:
            _lay(Person(person.name, person.images[:1]), draft / "others" / person.name)
        draft.replace(options.out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    print(f"{options.out}: {PEOPLE} people, {len(persons) - PEOPLE} strangers, {len(others)} others")


@dataclass(frozen=True)
class Person:
    """A person of the data set."""

    name: str
    images: Sequence[Path | np.ndarray]  # files, or arrays (H, W) in [0, 1]


def _lay(person: Person, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, source in enumerate(person.images[:MOST]):
        try:
            with Image.open(source) if isinstance(source, Path) else Image.fromarray(_bytes(source)) as image:
                square = ImageOps.fit(image.convert("L"), (SIZE, SIZE), Image.Resampling.LANCZOS)
        except OSError as error:
            raise GmiError(f"{source} cannot be read as an image ({error}): replace or remove it.") from error
        square.save(folder / f"{number:03d}.png")


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


def _lying(where: str) -> list[Person]:
    names, photographs = people(folder(where, "--folder"))
    paths: list[list[Path]] = [[] for _ in names]
    for path, _, person in photographs:
        paths[person].append(path)
    return [Person(name, images) for name, images in zip(names, paths, strict=True)]


def _fetched() -> list[Person]:
    """The people of scikit-learn's copy, under numbers, as names are no part of an audit."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise GmiError("scikit-learn is needed to fetch the images: pip install -e '.[tabular]'.") from error
    fetch: Any = datasets.fetch_lfw_people
    try:
        lfw = fetch(min_faces_per_person=1, resize=None, slice_=CROP)
    except (OSError, ValueError) as error:
        raise GmiError(f"The images cannot be fetched ({error}): name a --folder that has them.") from error
    return [Person(f"{person:04d}", list(lfw.images[lfw.target == person])) for person in range(len(lfw.target_names))]


if __name__ == "__main__":
    run(main)
