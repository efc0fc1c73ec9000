"""What `vitrail export` writes, a kind of network a file."""
