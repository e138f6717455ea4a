"""Importing as a user asks for it: files and what stands beside them, read together and stored once."""
