"""Emoji World, built from small packages that are made here in the published packages' forms."""

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.emoji import PACKAGES, STYLES, build, data_folder, load_glyphs
from vitrail.data.emoji.concepts import code_of
from vitrail.data.emoji.corrections import corrected
from vitrail.data.emoji.fetch import CLDR, CLDR_DERIVED, EMOJIBASE, Package
from vitrail.data.emoji.render import read_drawings, render
from vitrail.data.splits import unseen_combination, unseen_concept
from vitrail.errors import UsageError, VitrailError

pytest.importorskip("pyarrow")
pytest.importorskip("resvg_py")

GROUPS = {"0": "people-body", "1": "animals-nature", "2": "symbols"}
EMOJI = {  # hexcode as emojibase writes it -> (English name, Chinese name, group, colour it is drawn in)
    "1F438": ("frog", "青蛙", 1, "#00c000"),
    "1F980": ("crab", "螃蟹", 1, "#e00000"),
    "00A9-FE0F": ("copyright", "版权", 2, "#202020"),
    "1F9D1": ("person", "成人", 0, "#ffd000"),
    "1F9D1-1F3FC": ("person: medium-light skin tone", "成人: 中等-浅肤色", 0, "#e8c090"),
    "1F9D1-1F3FD": ("person: medium skin tone", "成人: 中等肤色", 0, "#c09060"),
    "1F988": ("shark", "鲨鱼", 1, "#8090a0"),
    "1F989": ("owl", "猫头鹰", 1, "#806040"),
}
TWEMOJI_LACKS, ONLY_NOTO_HAS = "1F988", "1F989"


def tarball(files: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def vectors(hexcodes: list[str], spell, margin: int) -> dict[str, bytes | str]:
    """A package of Iconify: a filled square in the concept's colour, within a margin of a canvas of 32."""
    side = 32 - 2 * margin
    icons = {
        EMOJI[code][0].replace(" ", "-"): {
            "body": f'<rect x="{margin}" y="{margin}" width="{side}" height="{side}" fill="{EMOJI[code][3]}"/>'
        }
        for code in hexcodes
    }
    characters = {spell(code): EMOJI[code][0].replace(" ", "-") for code in hexcodes}
    return {
        "icons.json": json.dumps({"prefix": "x", "icons": icons, "width": 32, "height": 32}),
        "chars.json": json.dumps(characters),
    }


def picture(colour: str, size: int = 256) -> bytes:
    file = io.BytesIO()
    image = Image.new("RGBA", (size, size))
    image.paste(colour, (size // 4, size // 4, size * 3 // 4, size * 3 // 4))
    image.save(file, "WEBP", lossless=True)
    return file.getvalue()


def pictures(hexcodes: list[str]) -> dict[str, bytes | str]:
    """The package of pictures, with the two middle skin tones in each other's place as in the real one."""
    swapped = {"1F9D1-1F3FC": "1F9D1-1F3FD", "1F9D1-1F3FD": "1F9D1-1F3FC"}
    return {f"assets/{swapped.get(code, code).lower()}.webp": picture(EMOJI[code][3]) for code in hexcodes}


def words(language: str, column: int, kind: str, hexcodes: list[str]) -> dict[str, bytes | str]:
    said = {
        "".join(chr(int(point, 16)) for point in code.split("-")): {
            "default": [EMOJI[code][column], "thing"],
            "tts": [EMOJI[code][column]],
        }
        for code in hexcodes
    }
    return {f"{kind}/{language}/annotations.json": json.dumps({kind: {"annotations": said}})}


def listed(code: str) -> dict:
    emoji = "".join(chr(int(point, 16)) for point in code.split("-"))
    order = list(EMOJI).index(code)
    return {"hexcode": code, "emoji": emoji, "group": EMOJI[code][2], "subgroup": 7, "order": order}


def write_packages(folder: Path) -> list[Package]:
    """Write a tarball for each package of Emoji World; what is returned knows their digests."""
    simple = [code for code in EMOJI if "1F3F" not in code]
    toned = [code for code in EMOJI if "1F3F" in code]
    common = [code for code in EMOJI if code != ONLY_NOTO_HAS]
    entries = [listed(code) for code in simple]
    next(entry for entry in entries if entry["hexcode"] == "1F9D1")["skins"] = [listed(code) for code in toned]
    entries.append({"hexcode": "1F1E6", "emoji": "🇦"})  # a letter of flags, without a group
    contents = {
        STYLES["noto"]: vectors(list(EMOJI), lambda code: code_of(code), margin=2),
        STYLES["twemoji"]: vectors([c for c in common if c != TWEMOJI_LACKS], lambda code: code_of(code), margin=4),
        STYLES["fluent-flat"]: vectors(common, str.lower, margin=6),  # some write fe0f, some do not
        STYLES["fluent-3d"]: pictures(common),
        CLDR: {"LICENSE": "of the words"}
        | words("en", 0, "annotations", simple)
        | words("zh", 1, "annotations", simple),
        CLDR_DERIVED: {"LICENSE": "of more words"}
        | words("en", 0, "annotationsDerived", toned)
        | words("zh", 1, "annotationsDerived", toned),
        EMOJIBASE: {
            "LICENSE": "of the list",
            "en/data.json": json.dumps(entries),
            "meta/groups.json": json.dumps({"groups": GROUPS, "subgroups": {"7": "some-kind"}}),
        },
    }
    folder.mkdir(exist_ok=True)
    packages = []
    for package in PACKAGES:
        packed = tarball(contents[package.name])
        digest = base64.b64encode(hashlib.sha512(packed).digest()).decode()
        packages.append(replace(package, sha512=digest))
        (folder / package.tarball).write_bytes(packed)
    return packages


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[Path, list[Package]]:
    folder = tmp_path_factory.mktemp("tarballs")
    return folder, write_packages(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory, source):
    tarballs, packages = source
    return build(tmp_path_factory.mktemp("world"), size=16, source=tarballs, packages=packages)


def test_what_two_styles_draw_is_kept_and_counted(world):
    assert world.glyphs == {"noto": 7, "twemoji": 6, "fluent-flat": 7, "fluent-3d": 7}
    assert (world.concepts, world.complete, world.size) == (7, 6, 16)
    assert world.to_dict()["glyphs"] == world.glyphs
    assert "27 glyphs of 16 pixels" in str(world)


def test_the_table_has_every_style_of_a_complete_concept_and_its_words(world):
    table = load_glyphs(world.folder)
    assert table.pictures.shape == (24, 16, 16, 4)
    assert table.styles == tuple(STYLES)
    assert list(table.concepts) == ["1f438", "1f980", "00a9", "1f9d1", "1f9d1-1f3fc", "1f9d1-1f3fd"]
    assert all(table.has(code, style) for code in table.concepts for style in STYLES)
    frog, toned = table.concepts["1f438"], table.concepts["1f9d1-1f3fd"]
    assert (frog.emoji, frog.name_en, frog.name_zh, frog.group, frog.subgroup) == (
        "🐸",
        "frog",
        "青蛙",
        "animals-nature",
        "some-kind",
    )
    assert frog.keywords_en == ("frog", "thing")
    assert frog.keywords_zh == ("青蛙", "thing")
    assert (toned.skin_tone, toned.gender, frog.skin_tone) == ("medium", "none", "none")
    whole = load_glyphs(world.folder, complete=False)
    assert len(whole) == 27
    assert whole.has("1f988", "noto")
    assert not whole.has("1f988", "twemoji")
    assert "1f989" not in whole.concepts


def test_every_glyph_is_drawn_in_its_own_colour_and_manner(world):
    table = load_glyphs(world.folder, complete=False)
    margins = {"noto": 2, "twemoji": 4, "fluent-flat": 6, "fluent-3d": 8}
    colours = {code_of(hexcode): about[3] for hexcode, about in EMOJI.items()}
    for index, (code, style) in enumerate(zip(table.concept, table.style, strict=True)):
        glyph, margin = table.pictures[index], margins[style] // 2
        expected = [int(colours[code][start : start + 2], 16) for start in (1, 3, 5)]
        assert np.abs(glyph[6:10, 6:10, :3].astype(int) - expected).max() <= 2, (code, style)
        assert (glyph[6:10, 6:10, 3] >= 252).all()  # resampling rings a little
        assert (glyph[: margin - 1, :, 3] <= 2).all()
        assert (glyph[margin + 1, margin + 1 : -margin - 1, 3] > 245).all()


def test_pixels_are_mapped_and_decoded_once(world):
    table = load_glyphs(world.folder)
    assert isinstance(table.pictures, np.memmap)
    (mapped,) = world.folder.glob("glyphs-*.npy")
    made = mapped.stat().st_mtime_ns
    load_glyphs(world.folder)
    assert mapped.stat().st_mtime_ns == made
    assert not table.pictures.flags.writeable


def test_parquet_carries_splits_and_opens_with_datasets(world):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(world.folder / "*.parquet"), split="train", cache_dir=str(world.folder / "cache")
    )
    assert len(loaded) == 27
    assert isinstance(loaded.features["picture"], datasets.Image)
    table = load_glyphs(world.folder, complete=False)
    for row in loaded:
        code, style = row["concept"], row["style"]
        assert np.array_equal(np.asarray(row["picture"]), table.pictures[table.of(code, style)])
        assert row["picture"].mode == "RGBA"
        assert row["unseen_concept"] == unseen_concept(code)
        assert row["unseen_combination"] == unseen_combination(code, style, STYLES)
        assert row["base"] == code.split("-")[0]
        assert style in row["styles"]
        assert len(row["styles"]) == (3 if code == "1f988" else 4)
        assert row["keywords_en"][1] == "thing"


def test_the_card_says_what_was_built_and_whom_to_credit(world):
    card = (world.folder / "README.md").read_text(encoding="utf-8")
    for package in PACKAGES:
        assert f"| `{package.name}` | {package.version} |" in card
        assert package.licence in card
    assert "| twemoji | 6 |" in card
    assert "| animals-nature | 3 |" in card
    assert "{{" not in card
    assert (world.folder / "licences" / f"{CLDR}.txt").read_text() == "of the words"
    with Image.open(world.folder / "sheet.png") as sheet:
        assert sheet.width == 16 * 20 + 4


def test_a_second_build_draws_nothing_and_needs_no_package(world, tmp_path, source):
    before = {path.name: path.stat().st_mtime_ns for path in world.folder.glob("*.parquet")}
    steps: list[str] = []
    again = build(
        world.folder,
        size=16,
        source=tmp_path,  # has no tarball in it
        packages=source[1],
        progress=lambda what, done, total: steps.append(what),
    )
    assert again == world
    assert steps == []
    assert {path.name: path.stat().st_mtime_ns for path in world.folder.glob("*.parquet")} == before


def test_another_size_is_drawn_anew(tmp_path, source):
    tarballs, packages = source
    build(tmp_path, size=16, source=tarballs, packages=packages)
    assert load_glyphs(tmp_path).size == 16
    build(tmp_path, size=24, source=tarballs, packages=packages)
    assert load_glyphs(tmp_path).size == 24
    assert len(list(tmp_path.glob("glyphs-*.npy"))) == 1


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_emoji import write_packages
from vitrail.data.emoji import build

def progress(what, done, total):
    if (what, done) == ("draw fluent-flat", 3):
        os.kill(os.getpid(), signal.SIGKILL)

packages = write_packages(Path(sys.argv[2]))
build(sys.argv[1], size=16, source=sys.argv[2], packages=packages, progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills a process by signal")
def test_a_killed_build_goes_on_where_it_stopped(tmp_path, world):
    folder, tarballs = tmp_path / "world", tmp_path / "tarballs"
    run = subprocess.run([sys.executable, "-c", KILLED, folder, tarballs, Path(__file__).parent], check=False)
    assert run.returncode == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert set(finished) == {"noto.parquet", "twemoji.parquet"}
    with pytest.raises(VitrailError, match=r"fluent-flat.parquet, fluent-3d.parquet is missing .*vitrail data build"):
        load_glyphs(folder)

    drawn: list[str] = []
    packages = [replace(package, sha512=digest(tarballs / package.tarball)) for package in PACKAGES]
    build(folder, size=16, source=tarballs, packages=packages, progress=lambda what, done, total: drawn.append(what))
    assert not {"draw noto", "draw twemoji"} & set(drawn)
    assert {"draw fluent-flat", "draw fluent-3d"} <= set(drawn)
    for name, made in finished.items():
        assert (folder / name).stat().st_mtime_ns == made
    assert np.array_equal(load_glyphs(folder).pictures, load_glyphs(world.folder).pictures)
    assert not list(folder.glob("*.partial"))


def digest(path: Path) -> str:
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def test_a_part_that_was_cut_short_is_drawn_again(tmp_path, source):
    tarballs, packages = source
    build(tmp_path, size=16, source=tarballs, packages=packages)
    part = tmp_path / "noto.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(VitrailError, match=r"noto\.parquet cannot be read .* build Emoji World again"):
        load_glyphs(tmp_path)
    build(tmp_path, size=16, source=tarballs, packages=packages)
    assert len(load_glyphs(tmp_path, complete=False)) == 27


def test_missing_and_damaged_tarballs_are_named(tmp_path):
    packages = write_packages(tmp_path / "tarballs")
    damaged, missing = (tmp_path / "tarballs" / packages[index].tarball for index in (1, 4))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(VitrailError, match=rf"{damaged.name} is damaged or is not @iconify-json/twemoji 1\.2\.5"):
        build(tmp_path / "world", source=tmp_path / "tarballs", packages=packages)
    missing.unlink()
    with pytest.raises(VitrailError, match=f"lacks {missing.name}:"):
        build(tmp_path / "world", source=tmp_path / "tarballs", packages=packages)
    with pytest.raises(VitrailError, match="there is no Emoji World in"):
        load_glyphs(tmp_path / "world")


def test_a_tarball_whose_digest_is_right_but_that_is_none_is_named(tmp_path):
    packages = write_packages(tmp_path)
    path = tmp_path / packages[0].tarball
    path.write_bytes(b"not a tarball")
    packages[0] = replace(packages[0], sha512=digest(path))
    with pytest.raises(VitrailError, match=f"{path.name} is damaged and cannot be unpacked"):
        build(tmp_path / "world", source=tmp_path, packages=packages)


def test_a_package_without_drawings_and_a_broken_drawing_are_named(tmp_path):
    packages = write_packages(tmp_path)
    path = tmp_path / packages[0].tarball
    good = read_drawings(path)
    path.write_bytes(tarball({"README.md": "nothing else"}))
    with pytest.raises(VitrailError, match="holds no drawings"):
        read_drawings(path)
    files = vectors(list(EMOJI), code_of, margin=2)
    path.write_bytes(tarball(files | {"icons.json": str(files["icons.json"]).replace("/>", "")}))
    packages[0] = replace(packages[0], sha512=digest(path))
    with pytest.raises(VitrailError, match="the drawing of 'frog' in noto is broken"):
        build(tmp_path / "world", source=tmp_path, packages=packages)
    assert render(good["1f438"], 16).startswith(b"\x89PNG")


def test_without_npm_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        VitrailError, match=r"install Node\.js .* or give --from DIR, a folder with iconify-json-noto-"
    ) as said:
        build(tmp_path / "world")
    assert all(package.tarball in str(said.value) for package in PACKAGES)


def fake_npm(folder: Path, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\nimport pathlib, shutil, sys\n{script}")
    npm.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="stands in for npm with a script")
def test_npm_fetches_each_package_once_by_its_exact_version(tmp_path, monkeypatch):
    """The client is another program, and the network is not there in tests: a script stands in for both."""
    packages = write_packages(tmp_path / "registry")
    (tmp_path / "bin").mkdir()
    fake_npm(
        tmp_path / "bin",
        f"""
verb, name, *rest = sys.argv[1:]
assert verb == "pack" and "--ignore-scripts" in rest
package, version = name.rsplit("@", 1)
tarball = package.removeprefix("@").replace("/", "-") + "-" + version + ".tgz"
shutil.copy(pathlib.Path({str(tmp_path / "registry")!r}) / tarball, rest[rest.index("--pack-destination") + 1])
with open({str(tmp_path / "log")!r}, "a") as log:
    print(name, file=log)
""",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    build(tmp_path / "world", size=16, packages=packages)
    (tmp_path / "world" / "packages" / packages[2].tarball).write_bytes(b"damaged since")
    build(tmp_path / "world", size=8, packages=packages)
    asked = (tmp_path / "log").read_text().split()
    names = [f"{package.name}@{package.version}" for package in packages]
    assert asked == [*names, names[2]]


@pytest.mark.skipif(os.name == "nt", reason="stands in for npm with a script")
def test_what_npm_complains_of_is_passed_on(tmp_path, monkeypatch):
    fake_npm(tmp_path, 'sys.exit("npm error network getaddrinfo ENOTFOUND")')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        VitrailError, match=r"npm cannot fetch @iconify-json/noto@1\.2\.9 \(npm error network .*--from DIR"
    ):
        build(tmp_path / "world")


def test_sizes_out_of_range_and_folders_that_cannot_be_are_refused(tmp_path, source):
    tarballs, packages = source
    with pytest.raises(UsageError, match="8 to 512 pixels on a side, not 4"):
        build(tmp_path, size=4, source=tarballs, packages=packages)
    (tmp_path / "file").write_text("")
    with pytest.raises(VitrailError, match="file cannot be written or read"):
        build(tmp_path / "file", source=tarballs, packages=packages)


def test_the_folder_is_what_the_environment_says(tmp_path, monkeypatch, world):
    monkeypatch.setenv("VITRAIL_DATA", str(world.folder))
    assert data_folder() == world.folder
    assert len(load_glyphs()) == 24
    monkeypatch.delenv("VITRAIL_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "vitrail" / "data" / "emoji"


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("1F438", "1f438"),
        ("a9-fe0f", "00a9"),
        ("00A9", "00a9"),
        ("23-FE0F-20E3", "0023-20e3"),
        ("1f3f4_e0067", "1f3f4-e0067"),
    ],
)
def test_there_is_one_spelling_of_a_code(written, code):
    assert code_of(written) == code


def test_corrections_touch_one_package_and_lose_only_what_has_no_order():
    codes = [
        "1f44b-1f3fb",
        "1f44b-1f3fc",
        "1f44b-1f3fd",
        "1f48f-1f3fc",
        "1f48f-1f3fd",
        "1f9cf-200d-2640",
        "1f9cf-1f3fc-200d-2642",
        "1f6b5-1f3fb",
        "1f6b5-1f3fb-200d-2642",
    ]
    drawings = {code: code for code in codes}
    assert corrected(STYLES["noto"], drawings) == drawings
    assert corrected(STYLES["fluent-3d"], drawings) == {
        "1f44b-1f3fb": "1f44b-1f3fb",
        "1f44b-1f3fd": "1f44b-1f3fc",
        "1f44b-1f3fc": "1f44b-1f3fd",
        "1f48f-1f3fc": "1f48f-1f3fc",
        "1f48f-1f3fd": "1f48f-1f3fd",
        "1f9cf-200d-2642": "1f9cf-200d-2640",
        "1f9cf-1f3fd-200d-2640": "1f9cf-1f3fc-200d-2642",
        "1f6b5-1f3fb-200d-2642": "1f6b5-1f3fb-200d-2642",
    }


def test_a_drawing_that_is_not_square_is_centred(tmp_path):
    icons = {
        "icons": {"wide": {"body": '<rect width="32" height="16" fill="#f00"/>', "height": 16}},
        "width": 32,
        "height": 32,
    }
    (tmp_path / "p.tgz").write_bytes(tarball({"icons.json": json.dumps(icons), "chars.json": '{"1f438": "wide"}'}))
    with Image.open(io.BytesIO(render(read_drawings(tmp_path / "p.tgz")["1f438"], 32))) as image:
        assert image.getbbox() == (0, 8, 32, 24)
