"""How the kernels are compiled: once, for every caller alike."""

from typing import Any, TypeVar

import numba

_F = TypeVar("_F")


def compiled(function: _F) -> _F:
    """Compile with numba, cached on disk, without the GIL; nothing falls back to Python objects."""
    jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
    made: _F = jit(function)
    return made
