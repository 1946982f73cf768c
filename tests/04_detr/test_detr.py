"""The model against slow references and libraries; and that batches, sizes and switches hold."""

import math

import pytest
import torch
from torch import nn

from detr import FROZEN, Attention, DecoderLayer, build_model, efficientnet_lite0, sine_positions
from matcher import noisy_queries
from settings import make_settings


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_positions_number_by_number():
    fractions = random(5, 3)
    found = sine_positions(fractions, 8)
    assert found.shape == (5, 24)
    for row in range(5):
        for coordinate in range(3):
            x = fractions[row, coordinate].item()
            for k in range(4):
                waves = 10 * (1e-4) ** (k / 4)  # across the picture
                own = found[row, 8 * coordinate :]
                assert own[k].item() == pytest.approx(math.sin(2 * math.pi * waves * x), abs=1e-5)
                assert own[4 + k].item() == pytest.approx(
                    math.cos(2 * math.pi * waves * x), abs=1e-5
                )


def test_positions_tell_all_places_apart():
    rows, columns = torch.meshgrid(torch.arange(30) / 30, torch.arange(40) / 40, indexing="ij")
    written = sine_positions(torch.stack((columns, rows), dim=-1).flatten(0, 1))
    distances = torch.cdist(written, written).fill_diagonal_(9)
    assert distances.min() > 0.3


def slow_attention(layer, queries, keys, values, blocked):
    """One query and one head at a time."""
    output = torch.zeros_like(queries)
    weights = torch.zeros(len(queries), layer.heads, queries.shape[1], keys.shape[1])
    q, k, v = layer.query(queries), layer.key(keys), layer.value(values)
    width = q.shape[-1] // layer.heads
    for b in range(len(queries)):
        for h in range(layer.heads):
            part = slice(h * width, (h + 1) * width)
            for t in range(queries.shape[1]):
                seen = [m for m in range(keys.shape[1]) if not blocked[b, t, m]]
                scores = [math.exp(q[b, t, part] @ k[b, m, part] / width**0.5) for m in seen]
                for m, score in zip(seen, scores, strict=True):
                    weights[b, h, t, m] = score / sum(scores)
                    output[b, t, part] += score / sum(scores) * v[b, m, part]
    return layer.out(output), weights


@torch.no_grad()
def test_attention_against_loops():
    torch.manual_seed(0)
    layer = Attention(8, 2)
    queries, keys, values = random(2, 3, 8), random(2, 5, 8, seed=1), random(2, 5, 8, seed=2)
    blocked = random(2, 3, 5, seed=3) < 0.4
    blocked[..., 0] = False
    expected = slow_attention(layer, queries, keys, values, blocked)
    for found, wanted in zip(layer(queries, keys, values, blocked), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
def test_attention_against_pytorchs(masked):
    torch.manual_seed(0)
    own, library = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    for layer in (own.query, own.key, own.value, own.out):
        nn.init.normal_(layer.bias)
    library.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
    library.in_proj_bias.copy_(torch.cat([own.query.bias, own.key.bias, own.value.bias]))
    library.out_proj.load_state_dict(own.out.state_dict())
    queries, keys, values = random(2, 7, 16), random(2, 9, 16, seed=1), random(2, 9, 16, seed=2)
    blocked = (torch.arange(9) > torch.arange(7)[:, None] + 2) if masked else None
    expected = library(queries, keys, values, attn_mask=blocked, average_attn_weights=False)
    for found, wanted in zip(own(queries, keys, values, blocked), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert (own(queries, keys, values, blocked)[1].sum(-1) - 1).abs().max() < 1e-5


@torch.no_grad()
def test_decoder_layer_against_pytorchs():
    """Without positions it is PyTorch's own layer."""
    torch.manual_seed(0)
    own = DecoderLayer()
    library = nn.TransformerDecoderLayer(128, 8, 512, 0.0, batch_first=True)
    parts = ((own.self_attention, library.self_attn), (own.cross_attention, library.multihead_attn))
    for ours, theirs in parts:
        layers = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    library.linear1.load_state_dict(own.feed_forward[0].state_dict())
    library.linear2.load_state_dict(own.feed_forward[2].state_dict())
    queries, memory = random(2, 5, 128), random(2, 11, 128, seed=1)
    blocked = torch.eye(5, dtype=torch.bool).roll(1, 0).expand(2, 5, 5)
    found, _ = own(queries, torch.zeros(5, 128), memory, torch.zeros(11, 128), blocked)
    torch.testing.assert_close(found, library(queries, memory, tgt_mask=blocked[0]))


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (72, 96), (65, 97), (128, 64)])
def test_shapes(tiny_detr, some_targets, size):
    model, targets = tiny_detr(), some_targets(2, 0)
    noisy = noisy_queries(targets, 3, groups=2)
    found = model(random(2, 3, *size), noisy)
    maps = [(-(-size[0] // 32) * k, -(-size[1] // 32) * k) for k in (4, 2, 1)]
    places = sum(h * w for h, w in maps)
    assert found["shapes"] == maps
    assert found["logits"].shape == (4, 2, 6, 3) and found["boxes_cxcywh"].shape == (4, 2, 6, 4)
    assert found["denoised"]["logits"].shape == (3, 2, 4, 3)
    assert [one.shape for one in found["attention"]] == [(2, 8, 6, places)] * 3
    assert found["encoder_attention"].shape == (2, 8, *[maps[2][0] * maps[2][1]] * 2)
    assert found["places"].shape == (2, 6) and found["places"].max() < places
    assert found["boxes_cxcywh"].min() > 0 and found["boxes_cxcywh"].max() < 1


@torch.no_grad()
def test_learned_queries_on_one_map(tiny_detr):
    found = tiny_detr(queries="learned", refine=False, maps=1, denoising=False)(
        random(2, 3, 64, 96)
    )
    assert found["shapes"] == [(2, 3)]
    assert found["logits"].shape == (3, 2, 6, 3)
    assert found["places"] is None and found["denoised"] is None


@torch.no_grad()
def test_padding_is_the_mean_colour_on_the_right_and_below(tiny_detr):
    model, image = tiny_detr(), random(1, 3, 72, 100)
    padded = model.mean.expand(1, 3, 96, 128).clone()
    padded[..., :72, :100] = image
    small, large = model(image), model(padded)
    torch.testing.assert_close(small["shapes"], large["shapes"])
    scale = torch.tensor([100, 72, 100, 72]) / torch.tensor([128, 96, 128, 96])
    centres = model.anchors(maps_of(large), image)[:, :2] * scale[:2]
    torch.testing.assert_close(centres, model.anchors(maps_of(large), padded)[:, :2])


def maps_of(found):
    return [torch.zeros(1, 1, *shape) for shape in found["shapes"]]


def test_anchors_lie_in_the_middle_of_their_places(tiny_detr):
    model, image = tiny_detr(), torch.zeros(1, 3, 64, 96)
    anchors = model.anchors([torch.zeros(1, 1, 64 // s, 96 // s) for s in (8, 16, 32)], image)
    expected = []
    for stride, side in ((8, 0.12), (16, 0.25), (32, 0.5)):
        for row in range(64 // stride):
            for column in range(96 // stride):
                x, y = (column + 0.5) * stride / 96, (row + 0.5) * stride / 64
                expected.append([x, y, side, side])
    torch.testing.assert_close(anchors, torch.tensor(expected))


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_companions(tiny_detr):
    model, images = tiny_detr(), random(3, 3, 64, 96)
    together = model(images)
    for k in range(3):
        alone = model(images[k : k + 1])
        for name in ("logits", "boxes_cxcywh"):
            torch.testing.assert_close(
                alone[name][:, 0], together[name][:, k], rtol=1e-4, atol=1e-5
            )


@torch.no_grad()
def test_the_best_places_are_selected(tiny_detr):
    model, image = tiny_detr(), random(1, 3, 64, 96)
    maps, _, _ = model.encode(image)
    memory = model.memory_norm(torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1))
    scores = model.class_heads[0](memory)[0].max(dim=-1).values.tolist()
    best = sorted(range(len(scores)), key=lambda k: -scores[k])[:6]
    found = model(image)
    assert found["places"][0].tolist() == best
    torch.testing.assert_close(found["logits"][0, 0].max(-1).values, torch.tensor(scores)[best])


@torch.no_grad()
def test_first_answers_are_the_anchors(tiny_detr):
    """Box heads begin with 0: each layer hands on the box of the place that was selected."""
    torch.manual_seed(0)
    model = build_model(make_settings("street", pretrained=False), 3).eval()
    found = model(random(1, 3, 64, 96))
    anchors = model.anchors(maps_of(found), torch.zeros(1, 3, 64, 96))[found["places"][0]]
    for boxes in found["boxes_cxcywh"]:
        torch.testing.assert_close(boxes[0], anchors, rtol=0, atol=1e-5)
    assert found["logits"].sigmoid().median() < 0.1


def test_refinement_is_a_correction_of_the_layer_before(tiny_detr):
    image, steps = random(1, 3, 64, 96), {}
    for refine in (True, False):
        model = tiny_detr(refine=refine)
        for head in model.box_heads[1:]:  # the same correction in all layers: 0.1 of the logit
            nn.init.zeros_(head[-1].weight)
            nn.init.constant_(head[-1].bias, 0.1)
        steps[refine] = model(image)["boxes_cxcywh"].logit().diff(dim=0)
    torch.testing.assert_close(steps[True], torch.full_like(steps[True], 0.1), rtol=0, atol=1e-4)
    torch.testing.assert_close(steps[False][0], steps[True][0])
    torch.testing.assert_close(steps[False][1:], torch.zeros_like(steps[False][1:]))


def test_no_gradient_runs_through_the_boxes_that_are_handed_on(tiny_detr):
    model = tiny_detr()
    found = model(random(1, 3, 64, 96))
    found["boxes_cxcywh"][-1].sum().backward()
    assert model.box_heads[0][-1].weight.grad.abs().sum() == 0
    assert model.box_heads[3][-1].weight.grad.abs().sum() > 0


def test_the_body_is_that_of_imagenet_and_its_first_layers_rest():
    body = efficientnet_lite0(3, pretrained=True).train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    images = random(2, 3, 64, 64) * 9
    maps = body(images)
    assert [one.shape[1:] for one in maps] == [(40, 8, 8), (112, 4, 4), (320, 2, 2)]
    sum(one.sum() for one in maps).backward()
    for name, value in body.state_dict().items():
        assert torch.equal(value, before[name]), name
    resting = {n for n, p in body.named_parameters() if p.grad is None}
    assert resting and all(name.startswith(FROZEN) for name in resting)
    torch.testing.assert_close(body.eval()(images)[0], maps[0])
