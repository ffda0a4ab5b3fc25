"""How runs are kept: one folder a backend, and what all of them share."""
