"""Observations of several parts: rows of bytes that hold them exactly, and a network that takes them apart again."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from stablegrad.nn import NetworkSpec, build_network
from stablegrad.nn.build import build_encoder
from stablegrad.nn.parts import PartsBox

CAMERA = spaces.Box(0, 255, (3, 36, 40), np.uint8)
BOARD = spaces.Box(0, 1, (2, 5, 5), np.uint8)
JOINTS = spaces.Box(-np.inf, np.inf, (5,), np.float32)
SPACE = PartsBox({"camera": CAMERA, "joints": JOINTS, "arm/board": BOARD})
SPEC = NetworkSpec(mlp_width=16, mlp_depth=1)


def rows_of(count, seed=0):
    """Random rows, and the parts that went into them."""
    rng = np.random.default_rng(seed)
    parts = {
        "camera": rng.integers(0, 256, (count, *CAMERA.shape), np.uint8),
        "joints": rng.normal(size=(count, 5)).astype(np.float32),
        "arm/board": rng.integers(0, 2, (count, *BOARD.shape), np.uint8),
    }
    rows = np.zeros((count, *SPACE.shape), np.uint8)
    for name, view in SPACE.apart(rows).items():
        view[...] = parts[name]
    return rows, parts


def test_a_row_has_the_bytes_of_its_parts_floats_first_in_multiples_of_four():
    assert [(part.name, part.start, part.stop) for part in SPACE.parts] == [
        ("joints", 0, 20),
        ("camera", 20, 4340),
        ("arm/board", 4340, 4390),
    ]
    assert SPACE.shape == (4392,)
    assert SPACE.dtype == np.uint8


def test_what_was_written_into_rows_is_read_from_them():
    rows, parts = rows_of(3)
    for name, view in SPACE.apart(rows).items():
        assert view.dtype == parts[name].dtype
        assert np.array_equal(view, parts[name])
    alone = SPACE.apart(rows[1])
    assert np.array_equal(alone["camera"], parts["camera"][1])


def test_spaces_are_equal_where_their_parts_are():
    assert PartsBox({"camera": CAMERA, "joints": JOINTS, "arm/board": BOARD}) == SPACE
    swapped = PartsBox({"other": CAMERA, "joints": JOINTS, "arm/board": BOARD})
    assert swapped.shape == SPACE.shape
    assert swapped != SPACE


def test_the_network_by_its_shapes():
    network = build_network(SPEC, SPACE, 4, generator=torch.Generator().manual_seed(1))
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight") and p.ndim > 1}
    assert {name: shape for name, shape in shapes.items() if "norm" not in name and not name.startswith("trunk.1")} == {
        "encoder.of_joints.net.linear.weight": (128, 5),
        "encoder.of_camera.net.0.conv.weight": (32, 3, 8, 8),  # 36x40 -> 8x9
        "encoder.of_camera.net.1.conv.weight": (64, 32, 4, 4),  # -> 3x3
        "encoder.of_camera.net.2.conv.weight": (64, 64, 3, 3),  # -> 1x1
        "encoder.of_arm_board.net.0.conv.weight": (16, 2, 3, 3),  # 5x5 -> 3x3
        "trunk.0.linear.weight": (16, 128 + 64 + 16 * 9),
        "trunk.2.linear.weight": (16, 16),
        "trunk.3.linear.weight": (512, 16),
        "head.weight": (4, 512),
    }
    assert network(torch.from_numpy(rows_of(7)[0])).shape == (7, 4)


def test_each_part_goes_through_its_own_encoder_and_nothing_else():
    """The same encoders on the same parts, one by one: images as [C, H, W] over 255 where they are bytes."""
    plain = dataclasses.replace(SPEC, use_ln=False)  # layer norm would hide the scale
    encoder = build_encoder(plain, SPACE, generator=torch.Generator().manual_seed(1))
    rows, parts = rows_of(4)
    with torch.no_grad():
        joined = encoder(torch.from_numpy(rows))
        camera = encoder.of_camera.net(torch.from_numpy(parts["camera"]).float() / 255)
        joints = encoder.of_joints.net(torch.from_numpy(parts["joints"]))
        board = encoder.of_arm_board.net(torch.from_numpy(parts["arm/board"]).float())
    assert torch.allclose(joined, torch.cat([joints, camera, board], dim=-1), atol=1e-6)
    unscaled = encoder.of_camera.net(torch.from_numpy(parts["camera"]).float())
    assert not torch.allclose(joined[:, 128:192], unscaled, atol=1e-3)  # the control: as found, bytes came as they are


def test_another_camera_changes_the_features_of_the_camera_alone():
    encoder = build_encoder(SPEC, SPACE, generator=torch.Generator().manual_seed(1))
    rows, _ = rows_of(2)
    other = rows.copy()
    SPACE.apart(other)["camera"][...] ^= 255
    with torch.no_grad():
        same = (encoder(torch.from_numpy(rows)) == encoder(torch.from_numpy(other))).all(0)
    assert same[:128].all()
    assert same[192:].all()
    assert not same[128:192].all()


def test_a_seed_gives_one_network_and_vmap_takes_rows():
    first, again, other = (
        build_network(SPEC, SPACE, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    rows = torch.from_numpy(rows_of(3)[0])
    with torch.no_grad():
        assert torch.equal(first(rows), again(rows))
        assert not torch.equal(first(rows), other(rows))
        one_by_one = torch.func.vmap(lambda row: first(row[None])[0])(rows)
    assert torch.allclose(one_by_one, first(rows), atol=1e-5)


@pytest.mark.parametrize("names", [("items", "type"), ("a.b", "a_b"), ("a/b", "a_b"), ("0", "1")])
def test_any_name_will_do_for_a_part(names):
    space = PartsBox(dict(zip(names, (CAMERA, JOINTS), strict=True)))
    network = build_network(SPEC, space, 2)
    assert network(torch.zeros(1, *space.shape, dtype=torch.uint8)).shape == (1, 2)
    assert len({name.split(".")[1] for name, _ in network.named_parameters() if name.startswith("encoder.")}) == 2


def test_the_encoder_that_is_named_is_for_the_images():
    network = build_network(NetworkSpec(cnn_type="impala", cnn_size=2, mlp_width=16, mlp_depth=1), SPACE, 2)
    names = [name for name, _ in network.named_parameters()]
    assert any(name.startswith("encoder.of_camera.net.0.stem") for name in names)
    assert any(name.startswith("encoder.of_arm_board.net.0.stem") for name in names)
    assert "encoder.of_joints.net.linear.weight" in names
