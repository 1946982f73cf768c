"""Label maps and their classes: read, checked and drawn."""
