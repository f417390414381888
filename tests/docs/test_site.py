"""The site is built: every link has a target, and nothing is loaded from elsewhere."""

import contextlib
import io
import re

import pytest

import ganseg_jax
from tests.docs.commands import ROOT

build = pytest.importorskip("sphinx.cmd.build")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        arguments = ["-c", str(ROOT / "docs"), "-b", "html", "-W", "--keep-going", "-q"]
        code = build.build_main(
            [*arguments, "-d", str(folder / "trees"), str(ROOT), str(folder / "html")]
        )
    assert code == 0, said.getvalue()
    return folder / "html"


def test_every_page_loads_only_what_lies_beside_it(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text()
        for tag in re.findall(r"<(?:script|img|link|iframe|source)\b[^>]*>", text):
            for place in re.findall(r"""(?:src|href)=["']([^"']+)["']""", tag):
                if "://" in place or place.startswith("//"):
                    assert 'rel="canonical"' in tag, f"{page.name}: {tag}"
                elif not place.startswith(("#", "data:")) and "genindex" not in place:
                    assert (page.parent / place.partition("?")[0]).exists(), f"{page.name}: {tag}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text()), sheet.name


def test_the_api_has_the_public_names(site):
    text = (site / "docs" / "api.html").read_text()
    lazy = set(re.findall(r"import (\w+) as", (ROOT / "ganseg_jax" / "__init__.py").read_text()))
    assert {"load_segmenter", "Latents"} <= lazy and "jax" not in lazy
    for name in lazy - {"epy", "_epy"}:
        assert f'id="ganseg_jax.{name}"' in text, name
    assert ganseg_jax.__version__ in (site / "CHANGELOG.html").read_text()
