"""Settings that people write: what YAML values become, and what is said of those that do not fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from gmn_encoder.settings import Settings, require_integers, require_numbers, require_one_of, require_shares


@dataclass(frozen=True)
class Sizes(Settings):
    width: int = 3


@dataclass(frozen=True)
class Example(Settings):
    MAY_CHANGE = frozenset({"name"})

    name: str = "a"
    rate: float = 1e-3
    layers: int | None = None
    kind: Literal["x", "y"] = "x"
    lists: tuple[int, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)


def test_values_of_yaml_become_those_of_the_fields(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("rate: 1e-4\nlayers: 2.0\nlists: [1, 2]\nfiles: {1: a}\nsizes: {width: 4}\n")
    read = Example.load(file, ["name=b", "lists=3,4", "files.two=c"], kind="y", layers=None)
    assert read == Example("b", 1e-4, 2, "y", (3, 4), {"1": "a", "two": "c"}, Sizes(4))
    assert Example.from_dict(read.to_dict()) == read
    assert read.differences(Example.load(file)) == {
        "kind": ("y", "x"),
        "lists": ([3, 4], [1, 2]),
        "files": ({"1": "a", "two": "c"}, {"1": "a"}),
    }
    assert read.changed(layers=None).layers is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rates=1", "unknown setting 'rates'; did you mean 'rate'"),
        ("q=1", "unknown setting 'q'; expected one of files, kind, layers, lists, name, rate, sizes"),
        ("rate=fast", "rate is 'fast'; expected a number"),
        ("rate=true", "rate is True; expected a number"),
        ("rate=", "rate is None; expected a number"),
        ("layers=2.5", "layers is 2.5; expected an integer"),
        ("name=3", "name is 3; expected text"),
        ("kind=z", "kind is 'z'; expected one of x, y"),
        ("lists=3", "lists is 3; expected a list"),
        ("lists=[a]", "lists is 'a'; expected an integer"),
        ("files=3", "files is 3; expected 'name: value' pairs"),
        ("sizes=3", "sizes is 3; expected a group of settings"),
        ("sizes.width=a", "width is 'a'; expected an integer"),
    ],
)
def test_unfit_values(change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Example.load(None, [change])


def test_what_is_wrong_in_a_file_names_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("rate: fast\n")
    with pytest.raises(ValueError, match=r"a\.yaml: rate is 'fast'"):
        Example.load(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("rate: 1\n")
    with pytest.raises(ValueError, match=r"^rate is 'fast'"):
        Example.load(tmp_path / "a.yaml", ["rate=fast"])


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda s: require_integers(s, 4, "width"), "width is 3; expected an integer of at least 4"),
        (lambda s: require_numbers(s, 3.5, "width"), "width is 3; expected a number of at least 3.5"),
        (lambda s: require_shares(s, "width"), "width is 3; expected a share between 0 and 1"),
        (lambda s: require_one_of(s, "width", (1, 2)), "width is 3; expected one of 1, 2"),
    ],
)
def test_ranges(check, message):
    with pytest.raises(ValueError, match=message):
        check(Sizes())


def test_what_is_not_given_is_in_range():
    require_integers(Example(), 4, "layers")
    require_integers(Example(layers=4), 4, "layers")
