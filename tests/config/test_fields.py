"""Every field of every schema refuses what makes no sense, by name and before anything is done."""

import math
import sys
import typing

import pytest

from ganseg_jax.config import Config, few_shot, with_fields
from ganseg_jax.config.setting import check, leaves
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.begin import begin
from ganseg_jax.jobs.begin import check as check_run
from tests.tiny_config import config_with

pytestmark = pytest.mark.usefixtures("unchecked")
FIELDS = [(schema, name) for schema in (Config, few_shot.FewShot) for name in leaves(schema)]


def of_other_types(kind):
    """Values that are no `kind`, though some of them convert to one."""
    values = {int: 3, float: 0.5, str: "3", bool: True, type(None): None, list: [1], dict: {}}
    return [value for other, value in values.items() if other is not kind]


def beyond_limits(kind, setting):
    least = setting.minimum if setting.minimum is not None else setting.above
    found = [] if least is None else [kind(least) - 1]
    found += [kind(0)] if setting.above == 0 else []
    found += [] if setting.below is None else [kind(setting.below)]
    return found + ([math.nan, math.inf, -math.inf, 1e39] if kind is float else [])


def senseless(leaf):
    """Values that a field must not have."""
    if typing.get_origin(leaf.type) is not tuple:
        wrong = [*of_other_types(leaf.type), ()]
        return wrong + (["nonsense"] if leaf.choices else beyond_limits(leaf.type, leaf.setting))
    entry, *rest = typing.get_args(leaf.type)
    sound = leaf.default or (entry(1),)
    bad = [*of_other_types(entry), (), *beyond_limits(entry, leaf.setting)]
    tuples = [(*sound[:-1], value) for value in bad]
    # Of a fixed length: given twice, or one short.
    lengths = [sound + sound, sound[:-1]] if rest != [...] else []
    return [*of_other_types(tuple), *tuples, *lengths]


@pytest.mark.parametrize(("schema", "name"), FIELDS, ids=[name for _, name in FIELDS])
def test_senseless_values_are_refused_by_name(schema, name):
    check(schema())
    refuse = check_run if schema is Config else check
    for value in senseless(leaves(schema)[name]):
        with pytest.raises(UserError) as caught:
            refuse(with_fields(schema(), {name: value}))
        assert str(caught.value).startswith(f"{name}={value!r} "), value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (("nix",), "evaluation.protocols: there is no protocol 'nix'"),
        (
            ("cub_foreground",),
            "evaluation.protocols: cub_foreground is made for cub, not for puppets",
        ),
    ],
)
def test_protocols_are_looked_up_before_anything_is_trained(value, message, tmp_path):
    with pytest.raises(UserError, match=message):
        begin(config_with(evaluation__protocols=value), tmp_path / "W")
    assert not (tmp_path / "W").exists()


def test_a_tuple_given_twice_is_refused(entry_point, monkeypatch):
    override = "--config.model.stage_channels=(8,4)"
    flags = ["--config=configs/tiny.py", override]
    config = entry_point("train_gan", *flags, workdir="none").CONFIG
    monkeypatch.setattr(sys, "argv", ["train_gan", *flags])
    assert config.value.model.stage_channels == (8, 4)
    config = entry_point("train_gan", *flags, override, workdir="none").CONFIG
    monkeypatch.setattr(sys, "argv", ["train_gan", *flags, override])
    with pytest.raises(UserError, match="--config.model.stage_channels is given 2 times"):
        config.value  # noqa: B018
