"""Traces and replays in the forms that people and other tools read."""
