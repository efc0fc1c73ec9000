"""The families, one a file. Each reads like its paper."""
