"""What a recipe's `data` key can name, by its `source`."""

from typing import Annotated

from pydantic import Field

from vitrail.data.emoji_sources import GlyphsSection, ScenesSection
from vitrail.data.folders import FolderSection
from vitrail.data.hub import DatasetSection

DataSection = Annotated[GlyphsSection | ScenesSection | FolderSection | DatasetSection, Field(discriminator="source")]
