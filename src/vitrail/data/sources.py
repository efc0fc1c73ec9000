"""What a recipe's `data` key can name, by its `source`."""

from typing import Annotated

from pydantic import Field

from vitrail.data.emoji_sources import GlyphsSection, ScenesSection
from vitrail.data.folders import FolderSection
from vitrail.data.hub import DatasetSection
from vitrail.data.pairs import PairsSection

DataSection = Annotated[
    GlyphsSection | ScenesSection | PairsSection | FolderSection | DatasetSection, Field(discriminator="source")
]
