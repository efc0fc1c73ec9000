"""Build Emoji World: fetch, match, render, and write Parquet with a data card and a contact sheet."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vitrail.data.emoji.concepts import read_concepts
from vitrail.data.emoji.corrections import corrected
from vitrail.data.emoji.fetch import CLDR, CLDR_DERIVED, EMOJIBASE, PACKAGES, STYLES, Package, Progress, fetch, members
from vitrail.data.emoji.load import data_folder, import_parquet, load_glyphs
from vitrail.data.emoji.render import Drawing, read_drawings, render
from vitrail.data.glyphs import Concept, GlyphTable
from vitrail.data.sheet import draw_glyphs
from vitrail.data.splits import base_of, unseen_combination, unseen_concept
from vitrail.errors import UsageError, VitrailError

SIZES = range(8, 513)
"""The sizes glyphs can be rendered at, in pixels on a side."""

_LAYOUT = 3  # raise it when the columns or what they hold change, so that old parts are made again
_RECORD = b"emoji-world"  # the key of the Parquet metadata that says what a part was made from
_FEWEST_STYLES = 2  # what one style alone draws teaches nothing about styles


@dataclass(frozen=True)
class EmojiWorld:
    """What was built.

    Attributes:
        folder: where it lies.
        size: pixels on a side.
        glyphs: how many glyphs there are of each style.
        concepts: how many concepts two styles or more draw.
        complete: how many of them every style draws.
    """

    folder: Path
    size: int
    glyphs: Mapping[str, int]
    concepts: int
    complete: int

    def to_dict(self) -> dict[str, Any]:
        """As plain types, ready for JSON."""
        return asdict(self) | {"folder": str(self.folder), "glyphs": dict(self.glyphs)}

    def __str__(self) -> str:
        styles = ", ".join(f"{style} {count:,}" for style, count in self.glyphs.items())
        return (
            f"Emoji World in {self.folder}: {sum(self.glyphs.values()):,} glyphs of {self.size} pixels ({styles}), "
            f"{self.concepts:,} concepts, {self.complete:,} of them in every style"
        )


def build(
    destination: str | Path | None = None,
    *,
    size: int = 64,
    source: str | Path | None = None,
    progress: Progress = lambda what, done, total: None,
    packages: Sequence[Package] = PACKAGES,
) -> EmojiWorld:
    """Build Emoji World in a folder: one Parquet file a style, a data card, the licences and a contact sheet.

    A build that was interrupted goes on where it stopped: tarballs are kept in `packages/` of the folder, and a style
    that was finished at this size, from these packages, is not drawn again.

    Args:
        destination: the folder; `data_folder()` by default.
        size: pixels on a side of each glyph, 8–512.
        source: a folder that holds the packages' tarballs; else they are fetched with the npm client.
        progress: told what is being done, how much of it is done, and how much there is.
        packages: what to build from: these names, in other versions perhaps.

    Raises:
        UsageError: a size out of range.
        VitrailError: the packages cannot be had or are damaged, an extra is not installed, or the folder cannot be
            written.
    """
    if size not in SIZES:
        raise UsageError(f"glyphs can be {SIZES[0]} to {SIZES[-1]} pixels on a side, not {size}")
    folder = data_folder() if destination is None else Path(destination).expanduser()
    import_parquet()  # a missing extra is better named before the fetching than after
    record = {"layout": _LAYOUT, "size": size, "packages": {package.name: package.sha512 for package in packages}}
    card = folder / "README.md"  # is written last, and so says that all the rest is there
    try:
        folder.mkdir(parents=True, exist_ok=True)
        todo = [style for style in STYLES if _record_of(folder / f"{style}.parquet") != record]
        if not todo and card.is_file():
            return _describe(folder, load_glyphs(folder, complete=False))
        card.unlink(missing_ok=True)
        tarballs = fetch(packages, folder / "packages", Path(source).expanduser() if source else None, progress)
        if todo:
            _write_parts(folder, todo, record, tarballs, progress)
        _write_licences(folder, tarballs)
        table = load_glyphs(folder, complete=False)
        draw_glyphs(table).save(folder / "sheet.png")
        world = _describe(folder, table)
        _write_text(card, _card(world, table, packages))
    except OSError as error:
        raise VitrailError(
            f"{error.filename or folder} cannot be written or read: {error.strerror or error}"
        ) from error
    return world


def _write_parts(
    folder: Path, todo: list[str], record: dict[str, Any], tarballs: Mapping[str, Path], progress: Progress
) -> None:
    drawings: dict[str, dict[str, Drawing]] = {}
    for done, (style, package) in enumerate(STYLES.items()):
        progress("read the drawings", done, len(STYLES))
        drawings[style] = corrected(package, read_drawings(tarballs[package]))
    progress("read the words", 0, 1)
    concepts = read_concepts(tarballs)
    drawn_in = {code: [style for style in STYLES if code in drawings[style]] for code in concepts}
    kept = [concept for concept in concepts.values() if len(drawn_in[concept.code]) >= _FEWEST_STYLES]
    for style in todo:
        rows = []
        mine = [concept for concept in kept if style in drawn_in[concept.code]]
        for done, concept in enumerate(mine):
            progress(f"draw {style}", done, len(mine))
            try:
                picture = render(drawings[style][concept.code], record["size"])
            except (ValueError, OSError) as error:
                raise VitrailError(f"the drawing of '{concept.name_en}' in {style} is broken ({error})") from error
            rows.append(_row(concept, style, drawn_in[concept.code], picture))
        progress(f"draw {style}", len(mine), len(mine))
        _write_parquet(folder / f"{style}.parquet", rows, record)


def _row(concept: Concept, style: str, styles: list[str], picture: bytes) -> dict[str, Any]:
    facts = asdict(concept)
    code = facts.pop("code")
    return {
        "picture": {"bytes": picture, "path": f"{style}/{code}.png"},
        "concept": code,
        "style": style,
        **facts,
        "styles": styles,
        "base": base_of(code),
        "unseen_concept": unseen_concept(code),
        "unseen_combination": unseen_combination(code, style, STYLES),
    }


def _write_parquet(path: Path, rows: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Write a part whole or not at all, with the features that `datasets` reads so that pictures decode as images."""
    parquet = import_parquet()
    import pyarrow

    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    lists = ("keywords_en", "keywords_zh", "styles")
    types = {name: pyarrow.list_(pyarrow.string()) if name in lists else pyarrow.string() for name in rows[0]}
    text = {"dtype": "string", "_type": "Value"}
    features = {name: [text] if name in lists else text for name in rows[0]} | {"picture": {"_type": "Image"}}
    metadata = {
        b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        _RECORD: json.dumps(record).encode(),
    }
    schema = pyarrow.schema(types | {"picture": picture}, metadata=metadata)
    partial = path.with_suffix(".partial")
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), partial, row_group_size=512)
    os.replace(partial, path)


def _record_of(path: Path) -> dict[str, Any] | None:
    """What a part says it was made from; None where there is no whole part."""
    if not path.is_file():
        return None
    try:
        return json.loads(import_parquet().read_schema(path).metadata[_RECORD])
    except (OSError, ValueError, KeyError, TypeError):  # cut short, or some other Parquet file
        return None


def _write_licences(folder: Path, tarballs: Mapping[str, Path]) -> None:
    """The words' licences ask that their text go along; the drawings' packages carry none, and the card links them."""
    (folder / "licences").mkdir(exist_ok=True)
    for package in (CLDR, CLDR_DERIVED, EMOJIBASE):
        for path, content in members(tarballs[package]):
            if path == "LICENSE":
                _write_text(folder / "licences" / f"{package}.txt", content.decode())


def _describe(folder: Path, table: GlyphTable) -> EmojiWorld:
    drawn = Counter(table.concept)
    glyphs = Counter(table.style)
    return EmojiWorld(
        folder=folder,
        size=table.size,
        glyphs={style: glyphs[style] for style in STYLES},
        concepts=len(drawn),
        complete=sum(count == len(STYLES) for count in drawn.values()),
    )


def _card(world: EmojiWorld, table: GlyphTable, packages: Sequence[Package]) -> str:
    import jinja2

    pairs = list(zip(table.concept, table.style, strict=True))
    template = files("vitrail.data.emoji").joinpath("card.md").read_text(encoding="utf-8")
    return jinja2.Template(
        template, keep_trailing_newline=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    ).render(
        world=world,
        packages=packages,
        groups=Counter(concept.group for concept in table.concepts.values()),
        bases=len(set(map(base_of, table.concepts))),
        tones=Counter(concept.skin_tone != "none" for concept in table.concepts.values()),
        unseen_concept=Counter(map(unseen_concept, table.concept)),
        unseen_combination=Counter(unseen_combination(*pair, STYLES) for pair in pairs),
    )


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
