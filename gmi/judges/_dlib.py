"""dlib's recogniser on arrays, and the program that runs it in a process of its own.

dlib holds the GIL, so threads gain nothing. `python -P _dlib.py FOLDER HEIGHT WIDTH` turns the pixels on its standard
input into rows on its standard output. It imports numpy and dlib only: it starts in a quarter of a second, wherever gmi
is installed, and unlike multiprocessing's children it never runs the caller's main script.
"""

# pyright: reportAttributeAccessIssue=false
# dlib has no stubs.

import sys
from pathlib import Path

import dlib
import numpy as np
from numpy.typing import NDArray

BATCH = 32
ON_GPU: bool = dlib.DLIB_USE_CUDA


class Recogniser:
    """Detects, aligns and embeds faces. Raises RuntimeError if `folder` lacks one of dlib's two files."""

    def __init__(self, folder: Path) -> None:
        self._detect = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rows (N, 129) for images (N, H, W, 3): a template, then 1 if a face was detected, 0 if the box is fixed."""
        aligned = [self._align(image) for image in images]
        templates = self._network.compute_face_descriptor([chip for chip, _ in aligned])
        pairs = zip(templates, aligned, strict=True)
        return np.array([[*template, detected] for template, (_, detected) in pairs], np.float32)

    def _align(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
        """The chip (150, 150, 3), and True if a face was detected."""
        height, width, _ = image.shape
        rim = width * 15 // 100  # a rim lets the detector find faces that fill the image
        image = np.pad(image, ((rim, rim), (rim, rim), (0, 0)), mode="edge")
        faces = self._detect(image, int(min(height, width) < 256))  # enlarged twice, unless that is slow and needless
        left, top, right, bottom = (rim + int(x) for x in (width * 0.1, height * 0.2, width * 0.9, height * 0.95))
        face = max(faces, key=lambda box: box.area(), default=dlib.rectangle(left, top, right, bottom))
        return dlib.get_face_chip(image, self._landmarks(image, face), size=150, padding=0.25), len(faces) > 0


def main(folder: str, height: str, width: str) -> None:
    """Reads images (H, W, 3) of bytes from standard input until it ends, and writes their rows to standard output."""
    recognise = Recogniser(Path(folder))
    while pixels := sys.stdin.buffer.read(BATCH * int(height) * int(width) * 3):
        images = np.frombuffer(pixels, np.uint8).reshape(-1, int(height), int(width), 3)
        sys.stdout.buffer.write(recognise(images).tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
