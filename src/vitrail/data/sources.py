"""What a recipe's `data` key can name, by its `source`."""

from typing import Annotated

from pydantic import Field

from vitrail.data.answers import AnswersSection
from vitrail.data.emoji_sources import GlyphsSection, ScenesSection
from vitrail.data.folders import FolderSection
from vitrail.data.hub import DatasetSection
from vitrail.data.pairs import PairsSection
from vitrail.data.prompts import PromptsSection
from vitrail.data.senses import SensesSection
from vitrail.data.shots import ShotsSection
from vitrail.data.talk import TalkSection

DataSection = Annotated[
    GlyphsSection
    | ScenesSection
    | PairsSection
    | PromptsSection
    | TalkSection
    | AnswersSection
    | SensesSection
    | ShotsSection
    | FolderSection
    | DatasetSection,
    Field(discriminator="source"),
]
