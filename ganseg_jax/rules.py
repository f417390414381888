"""Rules of JAX that a program may have set for its own code, and that ours does not follow."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def usual(types: bool = True) -> Iterator[None]:
    """Lets ranks be combined, and numbers of Python move to a device, as JAX does by itself.

    `jax_numpy_rank_promotion=raise` and `jax_transfer_guard=disallow` forbid that.

    Args:
      types: let types be combined too, which `jax_numpy_dtype_promotion=strict` forbids: Optax
        does; networks must not.
    """
    import jax  # Settings are read before JAX is started.

    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.transfer_guard("allow"))
        if types:
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


def settle() -> None:
    """Sets the usual rules for the whole process, whatever the environment says; for commands."""
    import jax

    jax.config.update("jax_numpy_rank_promotion", "allow")
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    if "disallow" in str(jax.config.values["jax_transfer_guard"]):
        jax.config.update("jax_transfer_guard", "allow")
