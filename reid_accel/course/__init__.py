"""The course's files."""
