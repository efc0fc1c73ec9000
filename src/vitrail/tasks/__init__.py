"""The verbs, one a file. Each is a function whose result prints, draws and serialises."""
