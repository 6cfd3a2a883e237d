"""Lays Labeled Faces in the Wild out for the configs/lfw_*.yaml audits.

    OUT/people/NAME/NNN.png      who has 20 images or more, 30 of them at most: the target's classes
    OUT/strangers/NAME/NNN.png   who has 5 to 19: distractors in the gallery and strangers for the thresholds

The images come from scikit-learn's fetch_lfw_people (pip install scikit-learn), which downloads them once, or from a
folder with one folder of face crops a person. They are made grey and square. Real people: for research only.

Example: python scripts/prepare_lfw.py --out data/lfw
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from gmi.cli import run
from gmi.errors import GmiError
from gmi.images import folder, people

CROP = (slice(70, 195), slice(62, 187))  # of 250 x 250: the face, as scikit-learn cuts it, but square
SIZE = 112
ENOUGH, MOST, FEW = 20, 30, 5  # images of a person to be a class; of those used; of a person to be a stranger

Person = tuple[str, list[Image.Image]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises GmiError where the images cannot be had or OUT exists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/lfw"), help="folder to make (default: data/lfw)")
    parser.add_argument("--folder", help="take the images from here: one folder of face crops a person")
    options = parser.parse_args(arguments)
    if options.out.exists():
        raise GmiError(f"{options.out} exists: remove it, or name another --out.")
    draft = options.out.with_name(f".{options.out.name}-new")
    shutil.rmtree(draft, ignore_errors=True)
    counts = {"people": 0, "strangers": 0}
    for name, images in _lying(options.folder) if options.folder else _fetched():
        if len(images) >= FEW:
            role = "people" if len(images) >= ENOUGH else "strangers"
            counts[role] += 1
            place = draft / role / name
            place.mkdir(parents=True)
            for number, image in enumerate(images[:MOST]):
                image.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(place / f"{number:03d}.png")
    if not all(counts.values()):
        shutil.rmtree(draft, ignore_errors=True)
        raise GmiError(
            f"There are {counts['people']} people with {ENOUGH} images and {counts['strangers']} with {FEW}."
        )
    draft.replace(options.out)
    print(f"{options.out}: {counts['people']} people, {counts['strangers']} strangers")


def _lying(where: str) -> Iterator[Person]:
    names, found = people(folder(where, "--folder"))
    for person, name in enumerate(tqdm(names, desc="people")):
        yield name, [_opened(path) for path, _, whose in found if whose == person]


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def _fetched() -> Iterator[Person]:
    """Under numbers: their names are no part of an audit."""
    try:
        from sklearn.datasets import fetch_lfw_people  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise GmiError("scikit-learn is needed to fetch the images: pip install scikit-learn.") from error
    try:
        lfw = fetch_lfw_people(min_faces_per_person=FEW, resize=None, slice_=CROP)
    except OSError as error:
        raise GmiError(
            f"The images cannot be fetched ({error}): fetch them elsewhere and name their --folder."
        ) from error
    for person in tqdm(range(len(lfw.target_names)), desc="people"):
        own = lfw.images[lfw.target == person]
        yield f"{person:04d}", [Image.fromarray((one * 255).round().astype("uint8")) for one in own]


if __name__ == "__main__":
    run(main)
