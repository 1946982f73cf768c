"""Darknet's files and the network they describe."""

from darknet.network import Darknet, DarknetFileError, parse_cfg

__all__ = ["Darknet", "DarknetFileError", "parse_cfg"]
