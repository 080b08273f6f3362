"""The network: it learns, moves with its input, and nothing that must not has a say in its results."""

import math

import pytest
import torch
from transformers import AutoModel, AutoModelForObjectDetection

from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednModel, find_intervals
from fedn_hf.layers_fedn import LANDMARK_CHANNELS, WHOLE_READING, without_turns
from fedn_hf.loss_fedn import interval_iou, make_proposal_grid
from fedn_hf.postprocessing_fedn import plan_windows

TINY_BACKBONE = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
PER_PROPOSAL = ("boundaries", "confidence", "type_logits", "logits")


def assert_same(one, other, tolerance=1e-4, moved=0):
    """Outputs agree, with boundaries moved by so many frames."""
    torch.testing.assert_close(one["boundaries"] + moved, other["boundaries"], atol=tolerance, rtol=0)
    for name in PER_PROPOSAL[1:]:
        torch.testing.assert_close(one[name], other[name], atol=tolerance, rtol=0)


def tiny(**changes) -> FednConfig:
    fields = {
        "backbone_config": None,
        "feature_size": 16,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "attention_window": 64,
        "use_intensity_head": True,
        "temporal_difference": True,
        "temporal_difference_frames": 32,
    }
    return FednConfig(**{**fields, **changes})


def detector(**changes) -> FednForFacialExpressionDetection:
    """A network in evaluation with weights large enough for every part to matter."""
    model = FednForFacialExpressionDetection(tiny(**{"initializer_range": 0.06, **changes})).eval()
    if (
        "boundaries" in model.branches
    ):  # but no proposals of thousands of frames, which single precision cannot resolve
        model.branches["boundaries"].predict.weight.data.mul_(0.1)
    return model


def labels_of(*intervals, type_label=0, class_label=0) -> dict:
    count = len(intervals)
    return {
        "intervals": torch.tensor(intervals).reshape(count, 2).float(),
        "type_labels": torch.full((count,), type_label),
        "class_labels": torch.full((count,), class_label),
    }


def made_sequences(count=8, frames=256, size=24):
    """Noise with a micro- and a macro-expression per sequence: humps in channel 8 and in that of the emotion."""
    generator = torch.Generator().manual_seed(1)
    features = 0.3 * torch.randn(count, frames, size, generator=generator)
    time = torch.arange(frames) + 0.5
    labels = []
    for row in range(count):
        intervals = torch.tensor([[10.0 + 3 * row, 18.0 + 4 * row], [110.0 + 5 * row, 140.0 + 14 * row]])
        classes = torch.tensor([row % 7, (row + 3) % 7])
        for (start, end), emotion in zip(intervals.tolist(), classes.tolist(), strict=True):
            inside = ((time >= start) & (time < end)).float()
            hump = inside * (2 - torch.cos(2 * torch.pi * (time - start) / (end - start)))
            features[row, :, emotion] += hump
            features[row, :, 8] += hump
        labels.append({"intervals": intervals, "type_labels": torch.tensor([1, 0]), "class_labels": classes})
    return features, labels


def fit(model, features, labels, steps):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model(frame_features=features, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.fixture(scope="module")
def learnt():
    """A small network that has learnt eight made sequences by heart."""
    torch.manual_seed(0)
    features, labels = made_sequences()
    config = tiny(feature_size=24, hidden_size=64, num_head_layers=1, dropout=0.0, temporal_difference=False)
    return fit(FednForFacialExpressionDetection(config), features, labels, 100), features, labels


def test_overfits_made_sequences(learnt):
    model, features, labels = learnt
    for sequence, label in zip(features, labels, strict=True):
        found = find_intervals(model.detect_from_features(sequence), fps=30, score_threshold=0.5)
        iou, best = interval_iou(label["intervals"][:, None], found.frames).max(1)
        assert iou.min() >= 0.8
        assert found.type[best].tolist() == label["type_labels"].tolist()
        assert found.label[best].tolist() == label["class_labels"].tolist()
        peaks = found.apex_frames[best] - label["intervals"].mean(1)
        assert (peaks.abs() <= 0.15 * label["intervals"].diff(dim=1)[:, 0] + 1).all()


def test_what_was_learnt_in_windows_is_found_in_a_long_sequence(learnt):
    model, features, labels = learnt
    events = torch.cat([label["intervals"] + 256 * row for row, label in enumerate(labels)])
    proposals = model.detect_from_features(features.flatten(0, 1))
    found = find_intervals(proposals, fps=30, score_threshold=0.5, nms="hard", class_aware=False)
    assert len(found) == len(events)
    assert interval_iou(events, found.frames).min() >= 0.8


def test_the_cascade_finds_the_same(learnt):
    joint, features, labels = learnt
    changes = {"dropout": 0.0, "temporal_difference": False, "use_intensity_head": False, "heads": "recognition"}
    config = tiny(feature_size=24, hidden_size=64, num_head_layers=1, **changes)
    recogniser = fit(FednForFacialExpressionDetection(config), features, labels, 50)
    spotted = joint.detect_from_features(features[0])
    found = find_intervals(
        spotted, fps=30, score_threshold=0.5, recognition=recogniser.detect_from_features(features[0])
    )
    _, best = interval_iou(labels[0]["intervals"][:, None], found.frames).max(1)
    assert found.label[best].tolist() == labels[0]["class_labels"].tolist()


@pytest.mark.parametrize("shift", [32, 64, 160])
def test_shifting_the_input_shifts_the_intervals(shift):
    model = detector()
    content, frames = torch.randn(1, 60, 16), 320
    outputs = []
    for start in (40, 40 + shift):
        features, mask = torch.randn(1, frames, 16), torch.zeros(1, frames, dtype=torch.bool)
        features[:, start : start + 60], mask[:, start : start + 60] = content, True
        outputs.append(model(frame_features=features, frame_mask=mask))
    here, there = (output.confidence[0] > -100 for output in outputs)
    assert here.sum() == there.sum() > 100
    visible = [
        {name: output[name][0, mask] for name in PER_PROPOSAL}
        for output, mask in zip(outputs, (here, there), strict=True)
    ]
    assert_same(*visible, moved=shift)
    torch.testing.assert_close(outputs[0].intensity[0, :-shift], outputs[1].intensity[0, shift:], atol=1e-4, rtol=0)


def test_batch_size_does_not_change_results():
    model, features = detector(), torch.randn(4, 128, 16)
    mask = torch.rand(4, 128) > 0.2
    together = model(frame_features=features, frame_mask=mask)
    for row in range(4):
        alone = model(frame_features=features[row : row + 1], frame_mask=mask[row : row + 1])
        assert_same(
            {name: together[name][row] for name in PER_PROPOSAL}, {name: alone[name][0] for name in PER_PROPOSAL}
        )
        torch.testing.assert_close(together.intensity[row], alone.intensity[0], atol=1e-4, rtol=0)


def test_chunk_size_does_not_change_results():
    model = FednModel(tiny(backbone_config=TINY_BACKBONE)).eval()
    pixels = torch.randn(1, 20, 3, 32, 32)
    expected = model.encode_frames(pixels)
    for size in (1, 7, 20):
        model.config.frame_chunk_size = size
        torch.testing.assert_close(model.encode_frames(pixels), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(model.encode_frames(pixels[0]), expected[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("landmarks", [0, 5])
def test_where_windows_start_does_not_change_results(landmarks):
    model = detector(num_landmarks=landmarks)
    features, mask = torch.randn(800, 16), torch.rand(800) > 0.05
    points = torch.rand(800, landmarks, 2) if landmarks else None
    context, stride = model.config.context_frames, model.config.total_stride

    def detect(own, offset):
        windows = plan_windows(800, own, context, stride, offset)
        return model.detect_from_features(features, points, mask, windows=windows, min_score=0).to_dict()

    whole = detect(2048, 0)  # one window
    for own, offset in ((512, 0), (512, 96), (256, 160), (64, 32)):
        cut = detect(own, offset)
        assert cut.keys() == whole.keys()
        # The order in which windows list their proposals differs: compare each with its nearest.
        ours, theirs = (
            torch.cat([raw[name].reshape(len(raw["boundaries"]), -1).double() for name in PER_PROPOSAL], dim=-1)
            for raw in (whole, cut)
        )
        assert len(ours) == len(theirs) > 2000
        distance, nearest = torch.cdist(ours, theirs, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        assert distance.max() < 1e-4
        assert len(nearest.unique()) == len(ours)
        torch.testing.assert_close(whole["intensity"], cut["intensity"], atol=1e-4, rtol=0)


def test_the_stated_context_is_enough_and_not_absurd():
    """A change far from a position leaves it alone, exactly; one at half the context is felt."""
    model = detector(num_head_layers=1)
    context = model.config.context_frames
    features = torch.randn(1, 3 * context, 16, requires_grad=True)
    outputs = model(frame_features=features)
    grid = make_proposal_grid(3 * context, model.config)
    middle = (grid.points - 1.5 * context).abs() <= 16
    total = sum(outputs[name][0, middle].square().sum() for name in ("confidence", "logits", "boundaries"))
    total.backward()
    felt = features.grad[0].abs().amax(-1).nonzero()[:, 0]
    assert felt.min() >= 0.5 * context - 16
    assert felt.max() <= 2.5 * context + 16
    assert felt.max() - felt.min() >= context


def test_masked_frames_have_no_influence():
    model = detector(num_landmarks=3)
    features = torch.randn(2, 96, 16, requires_grad=True)
    landmarks = torch.rand(2, 96, 3, 2, requires_grad=True)
    mask = torch.rand(2, 96) > 0.3
    mask[1, 40:] = False
    labels = [labels_of((20, 40)), labels_of((5, 20), (50, 60))]
    outputs = model(frame_features=features, landmarks=landmarks, frame_mask=mask, labels=labels)
    (outputs.loss + outputs.intensity.sum() + outputs.logits.sum()).backward()
    for values in (features, landmarks):
        assert (values.grad[~mask] == 0).all()
        assert (values.grad[mask].flatten(1) != 0).any(-1).float().mean() > 0.9
    broken = features.detach().clone()
    broken[~mask] = float("nan")
    again = model(frame_features=broken, landmarks=landmarks, frame_mask=mask)
    assert (again.confidence == outputs.confidence).all()
    assert (outputs.confidence[1].sigmoid() == 0).any()
    assert (outputs.intensity[~mask] == 0).all()


def test_half_precision_survives_a_long_stretch_without_a_face():
    model = detector(attention_window=64).half()
    mask = torch.ones(1, 600, dtype=torch.bool)
    mask[:, 200:330] = False
    outputs = model(frame_features=torch.randn(1, 600, 16).half(), frame_mask=mask)
    for values in (outputs.confidence, outputs.boundaries, outputs.logits, outputs.intensity):
        assert values.isfinite().all()


def test_a_window_without_any_face():
    model = detector()
    mask = torch.zeros(1, 64, dtype=torch.bool)
    model.train()
    outputs = model(frame_features=torch.randn(1, 64, 16), frame_mask=mask, labels=[labels_of((10, 20))])
    assert (outputs.confidence.sigmoid() == 0).all()
    assert outputs.loss == 0
    outputs.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    proposals = model.eval().detect_from_features(torch.randn(64, 16), frame_mask=mask[0])
    assert len(proposals.boundaries) == 0
    assert len(find_intervals(proposals, fps=30)) == 0


@pytest.mark.parametrize("frames", [1, 31, 33, 100])
def test_any_number_of_frames(frames):
    model = detector()
    outputs = model(frame_features=torch.randn(1, frames, 16))
    assert outputs.intensity.shape == (1, frames)
    assert len(model.detect_from_features(torch.randn(frames, 16), min_score=0).intensity) == frames


def test_eager_equals_sdpa():
    model = detector()
    features, mask = torch.randn(2, 128, 16), torch.rand(2, 128) > 0.2
    mask[1, 50:90] = False  # whole segments without a frame
    outputs = {}
    for kind in ("eager", "sdpa"):
        model.set_attn_implementation(kind)
        outputs[kind] = model(frame_features=features, frame_mask=mask)
    assert_same(outputs["eager"], outputs["sdpa"])
    torch.testing.assert_close(outputs["eager"].intensity, outputs["sdpa"].intensity, atol=1e-5, rtol=0)


def test_bfloat16_is_close_to_float32(learnt):
    """On a trained network: probabilities within 0.02, boundaries of confident proposals within a frame."""
    model, features, labels = learnt
    exact = model(frame_features=features)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(frame_features=features, labels=labels)
    rounded = model.to(torch.bfloat16)(frame_features=features.bfloat16(), labels=labels)
    model.to(torch.float32)
    confident = exact.confidence.sigmoid() > 0.5
    assert confident.sum() > 100
    for other in (mixed, rounded):
        assert other.boundaries.dtype == other.loss.dtype == torch.float32
        assert (exact.confidence.sigmoid() - other.confidence.float().sigmoid()).abs().max() < 0.02
        assert (exact.logits.sigmoid() - other.logits.float().sigmoid())[confident].abs().max() < 0.02
        assert (exact.boundaries - other.boundaries)[confident].abs().max() < 1
        assert (exact.intensity - other.intensity.float()).abs().max() < 0.02


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_reach_every_trainable_parameter(frozen):
    config = tiny(backbone_config=TINY_BACKBONE, freeze_backbone=frozen, num_landmarks=4)
    model = FednForFacialExpressionDetection(config).train()
    statistics = {name: value.clone() for name, value in model.fedn.frame_encoder.named_buffers()}
    outputs = model(
        torch.randn(2, 64, 3, 32, 32),
        landmarks=torch.rand(2, 64, 4, 2),
        labels=[labels_of((10, 20), class_label=1), labels_of((5, 60))],
    )
    outputs.loss.backward()
    for name, parameter in model.named_parameters():
        if frozen and "frame_encoder" in name:
            assert not parameter.requires_grad and parameter.grad is None, name
        else:
            assert parameter.requires_grad and parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name
    moved = [(value != statistics[name]).any() for name, value in model.fedn.frame_encoder.named_buffers()]
    assert any(moved) != frozen
    assert model.fedn.frame_encoder.training != frozen


def test_frozen_after_loading(tmp_path):
    config = tiny(backbone_config=TINY_BACKBONE)
    FednForFacialExpressionDetection(config).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    model = AutoModelForObjectDetection.from_pretrained(tmp_path)
    assert type(model) is FednForFacialExpressionDetection
    assert not any(parameter.requires_grad for parameter in model.fedn.frame_encoder.parameters())
    assert type(AutoModel.from_pretrained(tmp_path)) is FednModel


def test_saved_and_loaded_again_says_the_same(tmp_path):
    model, features = detector(), torch.randn(1, 64, 16)
    model.loss_normalizer.fill_(7.0)
    model.save_pretrained(tmp_path)
    again = FednForFacialExpressionDetection.from_pretrained(tmp_path).eval()
    assert again.loss_normalizer == 7.0
    assert (again(frame_features=features).logits == model(frame_features=features).logits).all()


@pytest.mark.parametrize(
    "changes, absent, terms",
    [
        ({}, (), "boundary confidence intensity label type"),
        ({"heads": "spotting", "use_intensity_head": False}, ("logits", "intensity"), "boundary confidence type"),
        ({"heads": "recognition"}, ("confidence", "type_logits"), "intensity label"),
        ({"use_segment_attention": False}, (), "boundary confidence intensity label type"),
        ({"use_sliding_window_attention": False}, (), "boundary confidence intensity label type"),
    ],
    ids=["joint", "spotting", "recognition", "no segment attention", "no sliding-window attention"],
)
def test_parts_can_be_switched_off(changes, absent, terms):
    model = FednForFacialExpressionDetection(tiny(**changes)).train()
    outputs = model(frame_features=torch.randn(2, 64, 16), labels=[labels_of((10, 30)), labels_of()])
    for name in ("logits", "confidence", "type_logits", "boundaries", "intensity"):
        assert (outputs.get(name) is None) == (name in absent)
    assert sorted(outputs.loss_dict) == terms.split()
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable.:FutureWarning")  # the new name came after 5.17
def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = FednForFacialExpressionDetection(tiny(dropout=0.0)).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(1)
        model(frame_features=torch.randn(1, 64, 16), labels=[labels_of((10, 30))]).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_the_normaliser_runs_only_in_training():
    model = detector()
    inputs = {"frame_features": torch.randn(1, 64, 16), "labels": [labels_of((10, 30))]}
    model(**inputs)
    assert model.loss_normalizer == 100
    model.train()(**inputs)
    assert 90 < model.loss_normalizer < 92  # 0.9 * 100 + 0.1 * a few positives


def test_hidden_states_are_the_pyramid():
    model = detector()
    outputs = model.fedn(frame_features=torch.randn(1, 128, 16), output_hidden_states=True)
    assert [len(state[0]) for state in outputs.hidden_states] == [64, 32, 16, 8, 4]
    for state, level in zip(outputs.hidden_states[1:], outputs.pyramid, strict=True):
        assert (state == level).all()
    assert model(frame_features=torch.randn(1, 128, 16), output_hidden_states=True).hidden_states is not None


def test_the_feature_path_compiles():
    model, features = detector(), torch.randn(1, 128, 16)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        expected, got = model(frame_features=features), compiled(frame_features=features)
    assert_same(expected, got)


NAN = torch.zeros(1, 32, 16)
NAN[0, 7, 3] = float("nan")


@pytest.mark.parametrize(
    "inputs, quoted",
    [
        ({}, "got neither"),
        ({"frame_features": torch.zeros(1, 32, 16), "pixel_values": torch.zeros(1, 2, 3, 8, 8)}, "got both"),
        ({"frame_features": torch.zeros(32, 16)}, r"got \(32, 16\)"),
        ({"frame_features": torch.zeros(1, 0, 16)}, r"got \(1, 0, 16\)"),
        ({"frame_features": torch.zeros(1, 32, 17)}, r"\(batch, frames, 16\), got \(1, 32, 17\)"),
        ({"frame_features": NAN}, r"got nan at \[0, 7\]"),
        ({"frame_features": torch.zeros(1, 32, 16), "frame_mask": torch.ones(1, 31)}, r"got \(1, 31\)"),
        ({"frame_features": torch.zeros(1, 32, 16), "landmarks": torch.zeros(1, 32, 5, 2)}, r"\(1, 32, 5, 2\)"),
        ({"pixel_values": torch.zeros(1, 2, 3, 8, 8)}, "backbone_config=None"),
        ({"pixel_values": torch.zeros(2, 3, 8, 8)}, r"got \(2, 3, 8, 8\)"),
    ],
)
def test_bad_inputs_are_quoted(inputs, quoted):
    with pytest.raises(ValueError, match=quoted):
        detector()(**inputs)


@pytest.mark.parametrize(
    "change, quoted",
    [
        ({"intervals": torch.tensor([[20.0, 10.0]])}, r"\(20.0, 10.0\)"),
        ({"intervals": torch.tensor([[10.0, 10.0]])}, r"start < end"),
        ({"intervals": torch.tensor([[float("nan"), 10.0]])}, "nan"),
        ({"intervals": torch.zeros(1, 3)}, r"\(1, 3\)"),
        ({"type_labels": torch.tensor([2])}, "0 to 1, or -100 if unknown, got 2"),
        ({"class_labels": torch.tensor([7])}, "0 to 6, or -100 if unknown, got 7"),
        ({"class_labels": torch.tensor([-1])}, "got -1"),
        ({"class_labels": torch.tensor([1, 2])}, r"got \[1, 2\]"),
        ({"apex": torch.tensor([31.0])}, "got 31.0"),
    ],
)
def test_bad_labels_are_quoted(change, quoted):
    with pytest.raises(ValueError, match=quoted):
        detector()(frame_features=torch.zeros(1, 32, 16), labels=[{**labels_of((10, 20)), **change}])


def test_other_misuse_is_quoted():
    model, features = detector(), torch.zeros(1, 32, 16)
    with pytest.raises(ValueError, match="list of 1 dictionaries"):
        model(frame_features=features, labels=[])
    with pytest.raises(ValueError, match=r"lacks \['class_labels'\]"):
        model(frame_features=features, labels=[{"intervals": [], "type_labels": []}])
    with pytest.raises(ValueError, match="16 channels of the backbone's last map, got 512"):
        FednModel(FednConfig(backbone_config=TINY_BACKBONE))
    with pytest.raises(ValueError, match="num_landmarks=3, landmarks given: none"):
        detector(num_landmarks=3)(frame_features=features)
    for inputs in ((features[0, :0],), (features[0], None, torch.ones(33))):
        with pytest.raises(ValueError, match=r"same number of frames, got .*\(1, (0, 16|33)\)"):
            model.detect_from_features(*inputs)
    with pytest.raises(ValueError, match=r"model.eval\(\)"):
        model.train().detect_from_features(features)


def test_trains_in_bfloat16():
    model = FednForFacialExpressionDetection(tiny()).to(torch.bfloat16).train()
    model(frame_features=torch.randn(1, 64, 16).bfloat16(), labels=[labels_of((10, 30))]).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_network_of_landmarks_alone_needs_no_pixels():
    model = detector(feature_size=0, num_landmarks=5)
    points = torch.rand(1, 64, 5, 2)
    nothing = model.encode_frames(torch.rand(1, 64, 3, 8, 8))
    assert nothing.shape == (1, 64, 0)
    moved = points.clone()
    moved[:, 30:40] += 0.01
    still, other = (model(frame_features=nothing, landmarks=p).confidence for p in (points, moved))
    assert (still != other).any()
    with pytest.raises(
        Exception, match="only in a network of landmarks alone, got backbone_config=None and num_landm"
    ):
        detector(feature_size=0)


# --- landmarks -----------------------------------------------------------------------------------------------------


def readings(turns_by_deg: float, frames: int = 900) -> tuple[torch.Tensor, torch.Tensor]:
    """What is read of a face that smiles twice, and of whose head's yaw and its square a part goes into AU12."""
    t = torch.arange(frames) / 30
    smile = 0.5 * sum(torch.exp(-(((t - at) / 0.5) ** 2)) for at in (6.0, 19.0))
    yaw = turns_by_deg / 10 * torch.sin(2 * math.pi * t / 7)
    read = torch.zeros(1, frames, LANDMARK_CHANNELS)
    read[0, :, 12] = WHOLE_READING * (smile + 0.15 * yaw + 0.1 * yaw**2)
    read[0, :, 50] = WHOLE_READING * yaw
    return read, WHOLE_READING * smile


def test_what_goes_along_with_a_turning_head_is_not_read_as_muscles():
    for turns_by_deg, least in ((20.0, 3), (10.0, 1.5)):
        read, smile = readings(turns_by_deg)
        kept = without_turns(read, torch.ones(1, 900, dtype=torch.bool), radius=128)
        error = (kept[0, :, 12] - smile).std()
        assert least * error < (read[0, :, 12] - smile).std()
        assert abs(kept[0, smile.argmax(), 12] / smile.max() - 1) < 0.3
        assert torch.equal(kept[..., 50:], read[..., 50:])


def test_a_head_that_hardly_moves_takes_nothing_from_a_smile():
    """People nod a little as they smile."""
    read, smile = readings(0.0)
    read[0, :, 51] = 0.3 * smile  # three degrees with a whole smile
    kept = without_turns(read, torch.ones(1, 900, dtype=torch.bool), radius=128)
    assert (kept[0, :, 12] - smile).abs().max() < 0.05 * smile.max()


def test_frames_without_a_face_say_nothing_of_turns():
    read, _ = readings(15.0)
    mask = torch.ones(1, 900, dtype=torch.bool)
    mask[:, 400:500] = False
    odd = read.clone()
    odd[:, 400:500] = 1e3
    kept, other = (without_turns(each, mask, radius=128) for each in (read, odd))
    assert torch.allclose(kept[mask], other[mask], atol=1e-5)
