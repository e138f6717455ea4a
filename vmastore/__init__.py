"""Event-sourced engine for Linux VMAs: record, replay, verify and bisect an address space."""
