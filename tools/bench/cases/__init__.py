"""The work, one file a subject. Each file's `cases` returns what can be asked for with --only."""
