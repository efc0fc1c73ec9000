import pytest

from vitrail.data.generated import generate_glyphs
from vitrail.data.glyphs import GlyphTable
from vitrail.data.scenes import Scene, Scenes


@pytest.fixture(scope="session")
def glyphs() -> GlyphTable:
    return generate_glyphs(60, size=32)


@pytest.fixture(scope="session")
def many(glyphs: GlyphTable) -> list[Scene]:
    return list(Scenes(glyphs, length=1500, seed=7))
