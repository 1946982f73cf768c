"""Readers of labelled pictures: boxes and outlines, in the formats that people bring.

One policy for all of them. What can be meant in one way only is read: numbers as text, sizes that
are missing, ids that are missing or stand twice, backslashes, endings in capitals, a byte order
mark, the encoding that a file declares. What was mended is counted, and said in one line a kind.
What can be meant in two ways, or is empty, is refused, with its file, its line and the remedy in
the words of the command; `--on-invalid drop` leaves it out and lists it. Nothing is trained on
without objects, with half of them gone, or with classes in another order between its parts,
without a line that says so.
"""
