"""A hub in this process's place of huggingface.co, with a cache of its own."""

import pytest

from ganseg_jax import hub as product


@pytest.fixture(scope="session")
def served():
    for name in ("huggingface_hub", "starlette", "uvicorn"):
        pytest.importorskip(name)
    from tests.hub.stand_in import Hub

    with Hub() as made:
        yield made


@pytest.fixture
def hub(served, monkeypatch, tmp_path):
    """The hub without repositories; asked as ann, who may write."""
    from huggingface_hub import constants

    served.repositories.clear(), served.stored.clear(), served.asked.clear()
    served.down = False
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": served.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_STORED_TOKENS_PATH": str(tmp_path / "tokens"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "ann-writes")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    product.fetch.cache_clear()
    yield served
    product.fetch.cache_clear()
