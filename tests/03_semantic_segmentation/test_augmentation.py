"""What augmentation does to pictures and their label maps, and how batches are made of them."""

import pytest
import torch
from torchvision import tv_tensors

from common.masks import IGNORE_INDEX
from common.masks.augmentation import evaluation_transforms, training_transforms
from dataset import SegmentationDataset


def ramp(height=20, width=30):
    """A picture whose red channel is its label, with labels 0..5 in blocks."""
    labels = (torch.arange(height)[:, None] // 7 + torch.arange(width) // 11).to(torch.uint8)
    image = labels.repeat(3, 1, 1) * 40
    return tv_tensors.Image(image), {"labels": tv_tensors.Mask(labels), "image_id": 0}


def test_augmentation_moves_picture_and_labels_together():
    change = training_transforms(flip=0.5)
    flipped = 0
    for seed in range(6):
        torch.manual_seed(seed)
        image, target = change(*ramp())
        assert image.dtype == torch.float32
        assert torch.equal((image[0] * 255 / 40).round().to(torch.uint8), target["labels"])
        flipped += bool(target["labels"][0, 0])
    assert 0 < flipped < 6


def test_masks_are_never_interpolated():
    """Every label after the change is one from before, and the picture fits where it is flat."""
    change = training_transforms(scale=(0.7, 2.5), crop_size=(24, 24), photometric=0.0)
    before = set(ramp()[1]["labels"].unique().tolist())
    padded = 0
    for seed in range(30):
        torch.manual_seed(seed)
        image, target = change(*ramp())
        assert image.shape == (3, 24, 24)
        labels = target["labels"].as_subclass(torch.Tensor)
        assert set(labels.unique().tolist()) <= before | {IGNORE_INDEX}
        filled = labels == IGNORE_INDEX
        padded += bool(filled.any())
        assert torch.allclose(image[0][filled], torch.tensor(127 / 255))
        close = (image[0] * 255 / 40 - labels).abs()[~filled] < 0.6
        assert close.float().mean() > 0.7  # not at the edges, where the picture is interpolated
    assert 0 < padded < 30


def test_photometric_changes_leave_the_labels():
    torch.manual_seed(1)
    image, target = training_transforms(flip=0, photometric=1.0)(*ramp())
    assert torch.equal(target["labels"], ramp()[1]["labels"])
    assert not torch.allclose(image, evaluation_transforms()(*ramp())[0])


def test_collate_stacks_and_refuses_mixed_sizes():
    plain = evaluation_transforms()
    images, targets = SegmentationDataset.collate([plain(*ramp()), plain(*ramp())])
    assert (images.shape, targets["labels"].shape) == ((2, 3, 20, 30), (2, 20, 30))
    assert targets["image_id"] == [0, 0]
    with pytest.raises(ValueError, match=r"2 sizes .*\[\(20, 30\), \(21, 30\)\]. Cut"):
        SegmentationDataset.collate([plain(*ramp()), plain(*ramp(21))])
