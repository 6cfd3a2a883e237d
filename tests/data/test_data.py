"""Folders of faces: who is in which role, the same whoever else is there; and the digest that says so."""

import hashlib
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gmi.data import folders
from gmi.data import images as photographs
from gmi.data.images import read
from gmi.data.people import Faces, People
from gmi.errors import GmiError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photo(path: Path, shape: tuple[int, ...] = (6, 5)) -> Path:
    """Noise of its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = random.Random("/".join(path.parts[-2:])).choices(range(256), k=int(np.prod(shape)))
    Image.fromarray(np.array(values, np.uint8).reshape(shape)).save(path)
    return path


def people(
    folder: Path, names: Sequence[str] = "abc", count: int = 6, first: int = 0, shape: tuple[int, ...] = (6, 5)
) -> Path:
    for name in names:
        for number in range(first, first + count):
            photo(folder / name / f"{number}.png", shape)
    return folder


def faces(folder: Path, **changes) -> People:
    return Faces(**({"name": "toy", "folder": str(folder), "enrolment": 2} | changes)).load()


def roles(found: People, person: str = "") -> dict[str, str]:
    """Of each image, its role."""
    keys = [key.split("/", 1) for key in found.files]
    return {name: role for role, name in keys if name.startswith(person)}


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_split_is_disjoint_and_exhaustive(tmp_path):
    found = faces(people(tmp_path))
    assert found.names == ("a", "b", "c") and found.attacked == (0, 1, 2) and found.public is None
    assert found.enrolment.classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.training.classes.bincount().tolist() == [4, 4, 4]
    assert not set(found.training.digests) & set(found.enrolment.digests)
    assert {*found.training.digests, *found.enrolment.digests} == set(map(sha, tmp_path.rglob("*.png")))


def test_pixels_classes_and_digests_are_those_of_the_files(tmp_path):
    found = faces(people(tmp_path, shape=(6, 5, 3)))
    for role, images in (("training", found.training), ("enrolment", found.enrolment)):
        paths = [tmp_path / name for name, its in roles(found).items() if its == role]
        assert len(paths) == len(images)
        for path, pixels, person, digest in zip(paths, images.bytes, images.classes, images.digests, strict=True):
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
            assert found.names[person] == path.parent.name
            assert found.files[f"{role}/{path.relative_to(tmp_path)}"] == [role, path.parent.name, digest]
            assert digest == sha(path)
        torch.testing.assert_close(images.pixels * 255, images.bytes.float())


def test_a_seed_is_a_split(tmp_path):
    people(tmp_path, count=10)
    first = faces(tmp_path, seed=1)
    assert faces(tmp_path, seed=1).files == first.files
    assert roles(faces(tmp_path, seed=2)) != roles(first)


@pytest.mark.parametrize(
    "others", [{"names": "0z", "count": 3}, {"names": "b", "count": 4, "first": 6}], ids=["a person", "more images"]
)
def test_what_others_bring_changes_no_persons_split(tmp_path, others):
    before = faces(people(tmp_path, count=6))
    after = faces(people(tmp_path, **others))
    for person in "ac":
        assert roles(after, person) == roles(before, person) and len(roles(before, person)) == 6
    assert after.digest != before.digest


def test_a_folder_of_its_own_for_enrolment(tmp_path):
    own, others = people(tmp_path / "own", count=3), people(tmp_path / "others", count=2, first=3)
    found = faces(own, enrolment=str(others))
    assert roles(found) == {
        f"{name}/{number}.png": "training" if number < 3 else "enrolment" for name in "abc" for number in range(5)
    }
    assert set(found.enrolment.digests) == set(map(sha, others.rglob("*.png")))
    assert found.enrolment.classes.tolist() == [0, 0, 1, 1, 2, 2]


def test_some_people_are_attacked_and_all_are_enrolled(tmp_path):
    found = faces(people(tmp_path), attacked=2)
    assert len(set(found.attacked)) == 2 and found.enrolment.classes.unique().tolist() == [0, 1, 2]
    assert found.attacked == faces(people(tmp_path), attacked=2).attacked == tuple(sorted(found.attacked))
    assert len({faces(people(tmp_path), attacked=2, seed=seed).attacked for seed in range(20)}) == 3  # each pair


def test_size_fits_images_and_cuts_off_the_rest(tmp_path):
    """Of an image twice as wide as asked for, the middle half stays."""
    people(tmp_path, shape=(8, 8))
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 4:12] = 200
    for number in range(6):
        Image.fromarray(wide + np.uint8(number)).save(tmp_path / "a" / f"{number}.png")
    found = faces(tmp_path, size=(8, 8))
    assert found.training.bytes.shape == (12, 1, 8, 8)
    assert (found.training.bytes[found.training.classes == 0] >= 200).all()
    assert faces(tmp_path, size=(4, 2)).enrolment.bytes.shape == (6, 1, 4, 2)


def test_grey_among_colour_becomes_three_equal_channels(tmp_path):
    people(tmp_path, "ab", shape=(6, 5, 3))
    found = faces(people(tmp_path, "c"))
    assert found.training.bytes.shape == (12, 3, 6, 5) and found.enrolment.bytes.shape == (6, 3, 6, 5)
    for group in (found.training, found.enrolment):
        equal = (group.bytes == group.bytes[:, :1]).flatten(1).all(1)
        assert torch.equal(equal, group.classes == 2)


def test_many_images_lie_in_a_file_without_a_name_and_are_the_same(tmp_path, monkeypatch):
    people(tmp_path, "ab")  # grey, then colour
    held = faces(people(tmp_path, "c", shape=(6, 5, 3)))
    monkeypatch.setattr("gmi.data.images.HELD", 0)
    monkeypatch.setattr("gmi.data.images.is_memory", lambda _: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mapped = faces(tmp_path)
    for one, other in ((mapped.training, held.training), (mapped.enrolment, held.enrolment)):
        assert torch.equal(one.bytes, other.bytes) and one.digests == other.digests
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert torch.equal(mapped.training[[4, 1]].pixels, held.training[[4, 1]].pixels)


def test_a_disk_without_room_for_the_images_is_one_sentence(tmp_path, monkeypatch):
    people(tmp_path)
    monkeypatch.setattr("gmi.data.images.HELD", 0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gmi.data.images.is_memory", lambda _: False)
    monkeypatch.setattr("gmi.data.images.os.posix_fallocate", full)
    with pytest.raises(GmiError, match=r"takes no .* GB of images .*: set TMPDIR to a folder with room"):
        faces(tmp_path)
    monkeypatch.setattr("gmi.data.images.is_memory", lambda _: True)  # where a file would be memory, too
    assert len(faces(tmp_path).training) == 12


def test_public_images_at_any_depth_are_nobodys_and_fitted(tmp_path):
    for place in ("1.png", "deep/2.png", "deep/er/3.JPG"):
        photo(tmp_path / "public" / place, (20, 30))
    (tmp_path / "public" / "notes.txt").write_text("no image")
    public = faces(people(tmp_path / "own"), public=str(tmp_path / "public")).public
    assert public is not None and public.bytes.shape == (3, 1, 6, 5) and public.classes.tolist() == [-1] * 3
    assert set(public.digests) == {sha(path) for path in (tmp_path / "public").rglob("*.*") if path.suffix != ".txt"}


def test_strangers_are_nobody_of_the_people(tmp_path):
    people(tmp_path / "own")
    people(tmp_path / "others", names="xy", count=1, first=50, shape=(20, 30))
    found = faces(tmp_path / "own", strangers=str(tmp_path / "others"))
    assert found.strangers is not None and found.strangers.classes.tolist() == [3, 4]
    assert found.strangers.bytes.shape == (2, 1, 6, 5)
    assert sum(role == "strangers" for role, _, _ in found.files.values()) == 2
    assert found.digest != faces(tmp_path / "own").digest
    (tmp_path / "others" / "x" / "same.png").write_bytes((tmp_path / "own" / "a" / "0.png").read_bytes())
    with pytest.raises(GmiError, match=r"data\.strangers: 1 of its images show the people themselves"):
        faces(tmp_path / "own", strangers=str(tmp_path / "others"))


def test_strangers_with_as_many_images_as_an_enrolment_are_enrolled_with_so_many(tmp_path):
    people(tmp_path / "own")
    others = people(people(tmp_path / "others", "xz", count=5), "y", count=1, shape=(20, 30))
    found = faces(tmp_path / "own", strangers=str(others))
    assert found.distractors is not None and found.strangers is not None
    assert found.distractors.classes.tolist() == [3, 3, 5, 5]
    assert found.strangers.classes.tolist() == [3, 3, 3, 4, 5, 5, 5]
    digests = {*found.distractors.digests, *found.strangers.digests}
    assert digests == set(map(sha, others.rglob("*.png"))) and len(digests) == 11


def one_pixel(folder: Path) -> None:
    with Image.open(folder / "others" / "b" / "3.png") as image:
        image.putpixel((2, 1), image.getpixel((2, 1)) ^ 1)
        image.save(folder / "others" / "b" / "3.png")


def swap_roles(folder: Path) -> None:
    (folder / "own" / "b" / "0.png").rename(folder / "others" / "b" / "0.png")
    (folder / "others" / "b" / "3.png").rename(folder / "own" / "b" / "3.png")


def swap_people(folder: Path) -> None:
    (folder / "own" / "a").rename(folder / "own" / "x")
    (folder / "own" / "b").rename(folder / "own" / "a")
    (folder / "own" / "x").rename(folder / "own" / "b")


def leave(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")


@pytest.mark.parametrize(
    ("change", "same"), [(one_pixel, False), (swap_roles, False), (swap_people, False), (leave, True)]
)
def test_the_digest_is_of_files_roles_and_people(tmp_path, change, same):
    def digest(folder: Path) -> str:
        return faces(folder / "own", enrolment=str(folder / "others")).digest

    people(tmp_path / "here" / "own", count=3)
    people(tmp_path / "here" / "others", count=2, first=3)
    before = digest(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "elsewhere")
    assert digest(tmp_path / "elsewhere") == before
    change(tmp_path / "elsewhere")
    assert (digest(tmp_path / "elsewhere") == before) == same


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attacked": 4}, "has 3 people"),
        ({"enrolment": 6}, "needs 7 images or more"),
        ({"public": "absent"}, r"data\.public: there is no folder"),
        ({"enrolment": "absent"}, r"data\.enrolment: there is no folder"),
    ],
)
def test_what_does_not_fit_the_folder(tmp_path, changes, words):
    with pytest.raises(GmiError, match=words):
        faces(people(tmp_path), **changes)


def test_orl():
    found = faces(Path("asset:orl/images"), enrolment=5)
    assert len(found.names) == 40
    for images in (found.training, found.enrolment):
        assert images.bytes.shape == (200, 1, 112, 92) and (images.classes.bincount(minlength=40) == 5).all()


def test_groups_are_the_people_with_the_same_labels(tmp_path):
    folder, file = people(tmp_path / "faces"), tmp_path / "groups.csv"
    file.write_text("c,f,old\nb,m,young\n\na, f,old\nz,m,old\n")
    found = faces(folder, groups=str(file))
    assert found.groups == ("f, old", "m, young", "f, old") and faces(folder).groups is None
    assert found.digest != faces(folder).digest and found.private_digest == faces(folder).private_digest
    file.write_text("a,f\nb,\nc,m\n")
    with pytest.raises(GmiError, match=r"^data\.groups: .*groups\.csv has no labels of b: give"):
        faces(folder, groups=str(file))
    with pytest.raises(GmiError, match=r"data\.groups: .*none\.csv cannot be read"):
        faces(folder, groups=str(tmp_path / "none.csv"))


@pytest.mark.parametrize("name", ["@eaDir", ".thumbnails", "__MACOSX", "#recycle", "lost+found"])
@pytest.mark.parametrize("place", ["", "a", "a/inner"])
def test_folders_of_the_system_hold_no_photographs_at_any_depth(tmp_path, name, place):
    folder = people(tmp_path / "faces")
    before = faces(folder)
    photo(folder / place / name / "0.png")
    found = faces(folder)
    assert found.names == before.names and found.digest == before.digest
    assert found.left_out == (str(Path("faces", place, name)) + ": a hidden folder, or one of the system",)


def test_what_is_left_out_is_named_with_the_reason(tmp_path):
    folder = people(tmp_path / "faces")
    (folder / "a" / "0.heic").write_bytes(b"?")
    (folder / "a" / "noext").write_bytes(b"?")
    (folder / "a" / ".DS_Store").write_bytes(b"?")
    (folder / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "c" / "else").symlink_to(tmp_path)
    photo(folder / "c" / "6.JFIF".lower(), (6, 5)).rename(folder / "c" / "6.JFIF")
    found = faces(folder)
    assert len(found.training) + len(found.enrolment) == 19
    assert dict(each.split(": ") for each in found.left_out) == {
        "faces/a/0.heic": ".heic is not read",
        "faces/a/noext": "it has no suffix",
        "faces/b/gone.png": "a link to nothing",
        "faces/c/else": "a link to a folder",
    }
    table = str(found)
    assert "training" in table and "6 x 5" in table and "left out: 4" in table and "0.heic: .heic is not read" in table


def rewritten(path: Path, suffix: str, mode: str = "L") -> Path:
    """The same pixels in another file."""
    Image.open(path).convert(mode).save(path.with_name(f"again{suffix}"))
    return path.with_name(f"again{suffix}")


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".png"])
def test_the_same_picture_in_two_roles_is_refused_however_it_is_written(tmp_path, suffix):
    folder, others = people(tmp_path / "faces"), people(tmp_path / "others", "xyz")
    for role, words in (("enrolment", "is the same picture as"), ("strangers", "1 of its images show the people")):
        place = people(
            tmp_path / role, "abc" if role == "enrolment" else "xyz", first=10 if role == "enrolment" else 20
        )
        here = rewritten(folder / "b" / "3.png", suffix)
        shutil.move(here, place / place.joinpath("b" if role == "enrolment" else "y").name / here.name)
        with pytest.raises(GmiError, match=words):
            faces(folder, **{role: str(place)})
    assert faces(folder, strangers=str(others)).left_out == ()


def test_grey_in_three_channels_is_the_same_picture(tmp_path):
    grey = photo(tmp_path / "0.png")
    coloured, other = rewritten(grey, ".png", "RGB"), photo(tmp_path / "1.png", (6, 5, 3))
    pictures = [read([path], [0], None).pictures for path in (grey, coloured, other)]
    assert pictures[0] == pictures[1] != pictures[2]


def test_public_images_that_are_the_peoples_are_counted_by_their_pixels(tmp_path):
    folder = people(tmp_path / "faces")
    people(tmp_path / "public")
    photo(tmp_path / "public" / "z.png")
    for name in "abc":
        shutil.rmtree(tmp_path / "public" / name)
    shutil.move(rewritten(folder / "a" / "1.png", ".bmp"), tmp_path / "public" / "one.bmp")
    found = faces(folder, public=str(tmp_path / "public"))
    assert len(found.public) == 2 and found.copied(found.public) == 1


def test_a_name_is_the_same_in_every_normal_form_of_unicode(tmp_path):
    composed, apart = "Zo\u00e9", "Zoe\u0301"
    folder, held = people(tmp_path / "faces", [composed, "b"]), people(tmp_path / "held", [apart, "b"], first=10)
    assert faces(folder, enrolment=str(held)).names == (composed, "b")
    file = tmp_path / "groups.csv"
    file.write_text(f"{apart},f\nb,m\n", "utf-8")
    assert faces(folder, groups=str(file)).groups == ("f", "m")
    people(folder, [apart])
    with pytest.raises(GmiError, match="has two folders of Zo\u00e9"):
        faces(folder)


def test_a_name_that_is_no_text_is_refused_in_one_sentence(tmp_path):
    folder = people(tmp_path / "faces")
    with pytest.raises(GmiError, match=r"whose name is no text in UTF-8: rename it\.$"):
        (folder / "a" / "caf\udce9").mkdir()
        faces(folder)
    (folder / "a" / "caf\udce9").rmdir()
    (folder / "caf\udce9").mkdir()
    with pytest.raises(GmiError, match="whose name is no text in UTF-8: rename it"):
        faces(folder)


def test_an_orientation_is_followed_though_other_entries_are_broken(tmp_path):
    """Only the orientation is read of EXIF: writing the rest again would fail, and nobody asks for it."""
    folder = people(tmp_path / "faces", shape=(6, 6))
    upright = Image.open(folder / "a" / "0.png")
    tall = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4))
    exif = Image.Exif()
    exif[0x0112], exif[0x0103] = 6, 7  # turned by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    broken = tmp_path / "turned.png"
    for number in range(1, 9):
        exif[0x0112] = number
        turned = ImageOps.exif_transpose(Image.open(broken))
        upright.save(tmp_path / f"{number}.png", exif=exif)
        expected = ImageOps.exif_transpose(Image.open(tmp_path / f"{number}.png"))
        got = read([tmp_path / f"{number}.png"], [0], None).bytes[0, 0].numpy()
        assert (got == np.array(expected)).all()
        tall.save(tmp_path / f"{number}.tif", exif=exif)  # Pillow turns TIFFs by itself
        tall.save(tmp_path / f"tall{number}.png", exif=exif)
        wanted = np.array(ImageOps.exif_transpose(Image.open(tmp_path / f"tall{number}.png")))
        assert (read([tmp_path / f"{number}.tif"], [0], None).bytes[0, 0].numpy() == wanted).all()
    assert (read([broken], [0], None).bytes[0, 0].numpy() == np.array(turned)).all()


def test_what_is_nobodys_is_named_and_a_persons_link_is_followed(tmp_path):
    folder = people(tmp_path / "faces", "ab")
    people(tmp_path / "else", "c")
    (folder / "c").symlink_to(tmp_path / "else" / "c")
    photo(folder / "stray.png")
    found = faces(folder)
    assert found.names == ("a", "b", "c")
    assert found.left_out == ("faces/stray.png: it is in no person's folder",)


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGBA", 3), ("P", 3), ("CMYK", 3), ("LA", 1), ("1", 1), ("RGB", 3), ("L", 1)]
)
def test_photographs_of_any_usual_kind_are_read_as_trainings_read_them(tmp_path, mode, channels):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(noise).convert(mode).save(path)
    image = photographs.read([path], [0], None).bytes[0]
    with Image.open(path) as usual:
        expected = np.asarray(usual.convert("RGB" if channels == 3 else "L")).reshape(16, 16, channels)
    assert image.shape == (channels, 16, 16) and (image.permute(1, 2, 0).numpy() == expected).all()


def test_a_person_of_whom_no_photograph_can_be_read_is_told_the_kind(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a" / "0.png")
    (tmp_path / "b" / "0.HEIC").write_bytes(b"x")
    with pytest.raises(GmiError, match=r"b holds no image \(but \.heic: convert these to JPEG or PNG\)"):
        folders.people(tmp_path)
