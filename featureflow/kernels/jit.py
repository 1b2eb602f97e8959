"""How kernels are compiled, and the four machine instructions that Numba does not offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    # inside a kernel it is called without the compiler's context, which the signature of `function` can't say
    return cast("Callable[..., Any]", intrinsic(function))


def kernel(function: F) -> F:
    """Compile on first use, without the GIL, and keep the machine code on disk.

    No ``parallel`` and no ``fastmath``: Dask runs one partition per thread, and a result may not depend on how a
    compiler reorders sums. Division by zero follows IEEE, so no hidden checks slow the loops down.
    """
    return cast("F", numba.njit(nogil=True, cache=True, error_model="numpy")(function))


@_instruction
def multiply_high(context: Any, a: Any, b: Any) -> Any:
    """Upper 64 bits of the 128-bit product of two ``uint64``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        x, y = (builder.zext(argument, wide) for argument in arguments)
        return builder.trunc(builder.lshr(builder.mul(x, y), ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@_instruction
def leading_zeros(context: Any, a: Any) -> Any:
    """Number of zero bits above the highest set bit of a ``uint64``; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@_instruction
def trailing_zeros(context: Any, a: Any) -> Any:
    """Number of zero bits below the lowest set bit of a ``uint64``; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@_instruction
def float_of_bits(context: Any, a: Any) -> Any:
    """The double whose IEEE bits are this ``int64``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate
