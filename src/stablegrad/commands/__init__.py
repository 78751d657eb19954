"""One thin module a command: flags in, a call into the rooms, text out."""
