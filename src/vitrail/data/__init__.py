"""Data to train and test on: Emoji World's glyphs, glyphs drawn by code, and the scenes that are made of them."""
