"""Installs `configs` as `ganseg_jax.configs`; the rest stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ganseg_jax*"]), "ganseg_jax.configs"],
    package_dir={"ganseg_jax.configs": "configs"},
)
