"""Open pictures safely, prepare them for a network, and draw on them."""
