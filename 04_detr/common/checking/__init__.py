"""The machinery of `check(id, answer)`: it tries an answer and says what is wrong."""
