"""Emoji World: three thousand things, each drawn in four art styles, with words in English and Chinese."""

from vitrail.data.emoji.build import EmojiWorld, build
from vitrail.data.emoji.fetch import PACKAGES, STYLES
from vitrail.data.emoji.load import data_folder, load_glyphs

__all__ = ["PACKAGES", "STYLES", "EmojiWorld", "build", "data_folder", "load_glyphs"]
