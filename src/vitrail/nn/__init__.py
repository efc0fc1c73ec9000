"""Tiles: the pieces every model is cut from. They know only torch."""
