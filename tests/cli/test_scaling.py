import json

import pytest

from ganseg_jax.errors import UserError


def test_counts_and_estimates(entry_point, capsys):
    module = entry_point(
        "scaling", config="configs/tiny.py", chips="4,8,64", images_per_chip=2, latency=0
    )
    module.main()
    *tables, last = capsys.readouterr().out.splitlines()
    facts = json.loads(last)
    # The tests' four devices sum gradients and batch statistics; where activations are smaller than
    # gradients, as here, the compiler may move those instead.
    reduced = facts["communication"]["all-reduce"]
    assert facts["devices"] == 4 and facts["batch_size"] == 8
    assert 0 < reduced["bytes"] < 12 * sum(facts["parameters"])
    assert reduced["count"] > 10 and facts["flops_per_step"] > 1e6
    # Eight images cannot be split over 64 devices.
    assert [line.split()[0] for line in tables] == ["8", "chips", "4", "8", "2", "chips"] + [
        *("4", "8", "64")
    ]
    rates = [float(line.split()[3]) for line in tables[-3:]]
    assert rates[0] < rates[1] < rates[2] < 16 * rates[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--config"),
        ({"config": "configs/tiny.py", "chips": "8,many"}, "--chips=8,many must be whole numbers"),
        ({"config": "configs/tiny.py", "chips": "0"}, "--chips=0 must be whole numbers from 1"),
    ],
)
def test_flags_that_make_no_sense(entry_point, given, message):
    with pytest.raises(UserError, match=message):
        entry_point("scaling", **given).main()
