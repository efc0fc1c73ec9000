"""One publisher's layout of one family a file."""
