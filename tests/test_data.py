"""`.npz` files: what is taken, what is refused in one sentence, and how samples are split."""

from pathlib import Path

import numpy as np
import pytest
from regrow.errors import InputError
from regrow_host import data


def saved(folder: Path, **arrays: object) -> Path:
    path = folder / "samples.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"samples": np.zeros((3, 2))}, "no array x"),
        ({}, "no array x"),
        ({"x": np.zeros((0, 2))}, "no samples"),
        ({"x": np.array(1.0)}, "no samples"),
        ({"x": np.array([1.0, np.nan])}, "not finite"),
        ({"x": np.array(["a", "b"])}, "plain numbers"),
        ({"x": np.array([None, {}], dtype=object)}, "plain numbers"),
        ({"x": np.array([0, 1e39])}, "not finite in float32"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2)}, "one label a sample"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, np.inf, 1])}, "not finite"),
    ],
)
def test_refuses(tmp_path: Path, arrays: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        data.load_npz(saved(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x93NUMPY", b"plain text"])
def test_refuses_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npz"):
        data.load_npz(path)


def test_refuses_truncated_and_missing_files(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.arange(1000.0))
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            data.load_npz(path)
    with pytest.raises(InputError, match="No such file"):
        data.load_npz(tmp_path / "none.npz")
    with pytest.raises(InputError):
        data.load_npz(tmp_path)


def test_refuses_a_single_array_under_the_name_npz(tmp_path: Path) -> None:
    path = tmp_path / "array.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"no whole \.npz"):
        data.load_npz(path)


@pytest.mark.parametrize(
    ("found", "model", "fits"),
    [
        ((5, 28, 28), (1, 28, 28, 1), (5, 28, 28, 1)),
        ((5, 28, 28, 1), (1, 28, 28, 1), (5, 28, 28, 1)),
        ((5, 1, 28, 28, 1), (1, 28, 28, 1), (5, 28, 28, 1)),
        ((5,), (1, 1), (5, 1)),
        ((5, 1), (1, 1), (5, 1)),
    ],
)
def test_fits_axes_of_length_one(
    found: tuple[int, ...], model: tuple[int, ...], fits: tuple[int, ...]
) -> None:
    samples = data.Samples(np.zeros(found), None)
    assert data.fit(samples, model, Path("e.npz")).x.shape == fits


def test_fits_groups_only_where_they_mean_something() -> None:
    clips = data.Samples(np.zeros((4, 196, 640)), np.zeros(4))
    grouped = data.fit(clips, (1, 640), Path("e.npz"), grouped=True)
    assert data.inputs(grouped, (1, 640)).shape == (4 * 196, 640)
    with pytest.raises(InputError, match=r"\(196, 640\), the model takes \(640,\)"):
        data.fit(clips, (1, 640), Path("e.npz"))


def test_wrong_shape_names_both() -> None:
    with pytest.raises(InputError, match=r"\(8, 8, 3\), the model takes \(8, 8, 1\)"):
        data.fit(data.Samples(np.zeros((2, 8, 8, 3)), None), (1, 8, 8, 1), Path("e.npz"))


def test_split_is_seeded_disjoint_and_keeps_the_classes() -> None:
    y = np.repeat(np.arange(5), 20)
    samples = data.Samples(np.arange(100), y)
    search, held = data.split(samples, 7, Path("e.npz"))
    assert sorted([*search.x, *held.x]) == list(range(100))
    assert np.bincount(search.y).tolist() == [8] * 5
    again, _ = data.split(samples, 7, Path("e.npz"))
    other, _ = data.split(samples, 8, Path("e.npz"))
    assert np.array_equal(search.x, again.x)
    assert not np.array_equal(search.x, other.x)
    with pytest.raises(InputError, match="at least 10"):
        data.split(samples.take(np.arange(9)), 0, Path("e.npz"))
