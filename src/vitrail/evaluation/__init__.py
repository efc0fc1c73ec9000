"""The scores that say how well a network does what it was trained for."""
