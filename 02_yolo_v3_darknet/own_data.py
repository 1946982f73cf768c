"""What `check_data.py` looks at: labels of boxes. Nothing here loads PyTorch, which takes long."""

from common.labels.survey import survey_labels

survey_data = survey_labels
