"""System calls: argument checks, errno, and what each call does to an address space."""
