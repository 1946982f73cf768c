"""The same network, computed faster, and what measures it."""
