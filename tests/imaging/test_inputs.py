"""What the user names becomes what is looked at, in an order people expect, and nothing is lost on the way."""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.errors import ImageError, UsageError
from vitrail.imaging.inputs import PICTURE_ENDINGS, find_inputs

PICTURE = b"P5 1 1 255\n\x07"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with pictures and other things."""
    for name in (
        *("photos/img10.png", "photos/img2.PNG", "photos/img1.jpg", "photos/notes.txt", "photos/.hidden.jpg"),
        *("photos/b/1.webp", "photos/a/deep/2.tif", "photos/.cache/3.jpg", "photos/b/no-ending"),
        *("photo[1].jpg", "photo1.jpg", "empty/readme.md", "single.dat", "x/dot./1.png"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*named):
    return [found.name for found in find_inputs(named)]


PHOTOS = ["photos/a/deep/2.tif", "photos/b/1.webp", "photos/img1.jpg", "photos/img2.PNG", "photos/img10.png"]


class TestPaths:
    def test_a_file_is_itself_whatever_its_ending(self, folder):
        (found,) = find_inputs(["single.dat"])
        assert found.source == found.name == "single.dat"
        assert found.open().image.getpixel((0, 0)) == (7, 7, 7)

    def test_a_folder_is_its_pictures(self, folder):
        assert names("photos") == PHOTOS
        assert names(Path("photos")) == PHOTOS
        assert names(str(folder / "photos")) == [str(folder / name) for name in PHOTOS]
        assert all(found.open().name == found.name for found in find_inputs(["photos"]))

    def test_order_is_kept_and_one_may_be_named_twice(self, folder):
        assert names("single.dat", "photos/b", "photo1.jpg", "single.dat") == [
            *("single.dat", "photos/b/1.webp", "photo1.jpg", "single.dat")
        ]

    def test_one_source_alone(self, folder):
        assert [found.name for found in find_inputs("photos")] == PHOTOS
        assert len(find_inputs(np.zeros((4, 5, 3), "u1"))) == 1
        assert len(find_inputs(Image.new("L", (2, 2)))) == 1

    def test_what_is_missing_is_kept_and_says_so(self, folder):
        missing, present = find_inputs(["missing.jpg", "single.dat"])
        with pytest.raises(ImageError, match=r"missing\.jpg: there is no such file"):
            missing.open()
        assert present.open().width == 1

    def test_a_folder_without_pictures_says_so(self, folder):
        (found,) = find_inputs(["empty"])
        assert (found.source, found.name) == ("empty", "empty")
        with pytest.raises(ImageError, match=r"^The folder empty has no pictures in it\.$"):
            found.open()

    def test_links_that_lead_back(self, folder):
        (folder / "photos/b/loop").symlink_to(folder / "photos")
        (folder / "photos/b/self").symlink_to(folder / "photos/b")
        (folder / "photos/linked.jpg").symlink_to(folder / "photo1.jpg")
        assert sorted(names("photos")) == sorted([*PHOTOS, "photos/linked.jpg"])
        assert len(names("photos/**/*.webp")) == 1

    def test_links_to_folders_are_followed(self, folder):
        (folder / "collection").mkdir()
        (folder / "collection/summer").symlink_to(folder / "photos/b")
        assert names("collection") == ["collection/summer/1.webp"]

    @pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
    def test_a_folder_that_may_not_be_read_is_reported_beside_the_others(self):
        user = os.geteuid()
        with tempfile.TemporaryDirectory() as top:
            os.chmod(top, 0o755)
            Path(top, "1.png").write_bytes(PICTURE)
            Path(top, "locked").mkdir(mode=0)
            if user == 0:
                os.seteuid(65534)  # root may read everything
            try:
                picture, locked = find_inputs([top])
            finally:
                os.seteuid(user)
        assert picture.name == os.path.join(top, "1.png")
        with pytest.raises(ImageError, match=r"^The folder .*locked cannot be read: Permission denied\.$"):
            locked.open()

    def test_heic_is_found_so_that_its_owner_hears_of_it(self, folder):
        (folder / "empty/iphone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        (found,) = find_inputs(["empty"])
        with pytest.raises(ImageError, match="is a HEIC picture"):
            found.open()

    def test_endings_are_lower_case(self):
        assert all(ending == ending.lower() and ending.startswith(".") for ending in PICTURE_ENDINGS)


class TestPatterns:
    def test_star(self, folder):
        assert names("photos/img*") == ["photos/img1.jpg", "photos/img2.PNG", "photos/img10.png"]
        assert names("photos/*") == [*PHOTOS[2:], "photos/notes.txt"]
        assert names("*.jpg") == ["photo1.jpg", "photo[1].jpg"]

    @pytest.mark.parametrize("prefix", ["", "./"])
    def test_two_stars(self, folder, prefix):
        files = ["photos/a/deep/2.tif", "photos/b/1.webp", "photos/b/no-ending", *PHOTOS[2:], "photos/notes.txt"]
        assert names(f"{prefix}photos/**") == [prefix + name for name in files]
        assert names(f"{prefix}**/*.webp") == [f"{prefix}photos/b/1.webp"]
        assert names(f"{prefix}**/b/*.webp") == [f"{prefix}photos/b/1.webp"]
        assert names(f"{prefix}**/deep/**/*.tif") == [f"{prefix}photos/a/deep/2.tif"]
        assert names(f"{prefix}**/1.png") == [f"{prefix}x/dot./1.png"]
        assert names(f"{prefix}**/*1.jpg") == [prefix + name for name in ("photo1.jpg", "photos/img1.jpg")]

    def test_two_stars_from_the_root(self, folder):
        assert names(f"{folder}/**/*.webp") == [f"{folder}/photos/b/1.webp"]
        assert names(f"{folder}/ph*/**/*.webp") == [f"{folder}/photos/b/1.webp"]

    def test_a_file_called_like_a_pattern(self, folder):
        assert names("photo[1].jpg") == ["photo[1].jpg"]
        (folder / "photo[1].jpg").unlink()
        assert names("photo[1].jpg") == ["photo1.jpg"]

    def test_below_a_folder_called_like_a_pattern(self, folder):
        (folder / "odd[a]/b").mkdir(parents=True)
        (folder / "odd[a]/b/1.png").write_bytes(PICTURE)
        assert names("odd*/**/*.png") == ["odd[a]/b/1.png"]

    @pytest.mark.parametrize("pattern", ["*.xyz", "nowhere/**", "**/nothing*"])
    def test_no_match_says_so(self, folder, pattern):
        (found,) = find_inputs([pattern])
        assert found.name == pattern
        with pytest.raises(ImageError, match=r"^No file matches .*\.$"):
            found.open()

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="ab*?[]/!-\0\n", max_size=12))
    def test_any_pattern_is_something(self, pattern):
        with tempfile.TemporaryDirectory() as top:
            Path(top, "a.png").write_bytes(PICTURE)
            for found in find_inputs([f"{top}/{pattern}"]):
                with contextlib.suppress(ImageError):
                    assert found.open().format == "PPM"


class TestOrder:
    @given(st.permutations(["9.png", "10.png", "a2b3.png", "a2b20.png", "a10.png", "B1.png", "c.png", "007.png"]))
    def test_natural(self, shuffled):
        with tempfile.TemporaryDirectory() as top:
            for name in shuffled:
                Path(top, name).write_bytes(b"")
            found = [os.path.basename(name) for name in names(top)]
        assert found == ["007.png", "9.png", "10.png", "a2b3.png", "a2b20.png", "a10.png", "B1.png", "c.png"]


class TestOthers:
    def test_sources_without_a_path(self):
        image, array = Image.new("RGB", (2, 3)), np.zeros((4, 5), "u1")
        found = find_inputs(["https://example.org/*.jpg", "HTTP://x/", image, array, PICTURE])
        assert [each.name for each in found] == [
            *("https://example.org/*.jpg", "HTTP://x/", "<image>", "<array>", "<bytes>")
        ]
        assert found[2].source is image
        assert found[3].source is array
        assert [each.open().width for each in found[2:]] == [2, 5, 1]

    def test_private_addresses_are_asked_for(self):
        (found,) = find_inputs(["http://127.0.0.1:9/"])
        with pytest.raises(ImageError, match="not a public address"):
            found.open()

    def test_what_is_no_source_is_reported_when_opened(self):
        (found,) = find_inputs([3])
        with pytest.raises(ImageError, match="cannot be opened from <int>"):
            found.open()

    def test_nothing(self):
        assert find_inputs([]) == []


class StandardInput:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


class TestStandardInput:
    def test_read_once_and_opened_as_often_as_wanted(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", StandardInput(PICTURE))
        (found,) = find_inputs(["-"])
        assert [found.open().name for _ in range(2)] == ["-", "-"]

    def test_twice_is_wrong_usage(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", StandardInput(PICTURE))
        with pytest.raises(UsageError, match="once"):
            find_inputs(["-", "cat.jpg", "-"])
        assert sys.stdin.buffer.tell() == 0

    def test_a_path_is_not_standard_input(self, folder):
        (folder / "-").write_bytes(PICTURE)
        (found,) = find_inputs([Path("-")])
        assert found.open().file_size == len(PICTURE)

    @pytest.mark.parametrize("standard_input", [None, StandardInput(b"")])
    def test_closed_or_empty_is_reported_and_the_rest_is_done(self, folder, monkeypatch, standard_input):
        monkeypatch.setattr(sys, "stdin", standard_input)
        broken, fine = find_inputs(["-", "single.dat"])
        with pytest.raises(ImageError, match="Standard input"):
            broken.open()
        assert fine.open().width == 1
