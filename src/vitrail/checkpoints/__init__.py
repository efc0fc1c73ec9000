"""Find a checkpoint, read it, rename it: one publisher's layout a file."""
