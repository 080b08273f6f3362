"""Readers against files that nobody would write: seeds, mutations of them, and a watch on what a reader does."""
