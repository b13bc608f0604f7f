"""The scripts that made worker/starter_model: one command, resumable, data from a registry."""
