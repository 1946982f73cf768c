"""What `check_data.py` looks at: masks with a class for each pixel."""

from dataset import survey_data

__all__ = ["survey_data"]
