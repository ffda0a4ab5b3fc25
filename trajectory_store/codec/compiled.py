"""The temporal-delta codec's loops, for numba. `kernels` imports them once so much is coded that it pays.

They make the same bytes as `temporal`'s numpy code, which has the explanations. Every operation is cast to the items'
type, because only then can LLVM vectorise the loops. Floating-point sums keep the order of the tokens. All loops are in
one file: numba throws a cached loop away when the file of that loop changes, but not when the file of a loop that it
calls does.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from ..ownership import hold_over_forks
from .bit_planes import GROUPS
from .motion import FIRST_USABLE, LEAST_CHANGED, N_USABLE, WEIGHT_CEILING, WEIGHT_FLOOR

_u8, _u16, _u32, _f32 = np.uint8, np.uint16, np.uint32, np.float32
_FIRST, _N = _u16(FIRST_USABLE), _u16(N_USABLE)
_FLOOR, _CEILING = _u16(WEIGHT_FLOOR), _u16(WEIGHT_CEILING)

_SHIFTS, _WIDTHS = tuple(shift for shift, _ in GROUPS), tuple(width for _, width in GROUPS)

_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_compiled: Callable[[_Loop], _Loop] = numba.njit(nogil=True, cache=True)
_inlined: Callable[[_Loop], _Loop] = numba.njit(nogil=True, inline="always")


@_compiled
def encode(patterns: Any, masks: Any, packed: Any, moves: Any, q: Any, estimates_moves: Any, splits_bytes: Any) -> Any:
    """patterns (n, tokens, width) → masks (n), moves (n, width) and the first bytes of `packed`. Returns how many.

    `moves` may be empty if none are estimated.
    """
    n, n_tokens, width = patterns.shape
    n_values = n_tokens * width
    item = patterns.dtype.type
    sign = item(patterns.itemsize * 8 - 1)
    rows = patterns.reshape(n, n_values)
    zigzag = np.zeros(8 * q, patterns.dtype)
    values = np.zeros(width, np.float32)
    sums, counts = np.empty((2, width), np.float32), np.empty((2, width), np.uint32)
    written = 8 * q * patterns.itemsize
    masks[0] = _u16(((1 << patterns.itemsize) - 1) << 4)
    packed[:written] = _u8(0)
    for token in range(n_tokens):
        for i in range(width):
            for byte in range(patterns.itemsize):
                plane = (byte - 1) % patterns.itemsize  # the lowest byte comes last
                packed[plane * 8 * q + i * n_tokens + token] = _u8(patterns[0, token, i] >> item(8 * byte))
    for t in range(1, n):
        if _are_equal(rows[t], rows[t - 1]):
            masks[t] = _u16(0)
            continue
        if estimates_moves and _estimate(patterns[t - 1], patterns[t], moves[t], values, sums, counts):
            for token in range(n_tokens):
                was, now, out = patterns[t - 1, token], patterns[t, token], zigzag[token * width : (token + 1) * width]
                for i in range(width):
                    delta = item(now[i] - item(_predicted(was[i], moves[t, i], values[i])))
                    out[i] = item(item(delta << item(1)) ^ item(item(0) - item(delta >> sign)))
        else:
            row, before = rows[t], rows[t - 1]
            for i in range(n_values):
                delta = item(row[i] - before[i])
                zigzag[i] = item(item(delta << item(1)) ^ item(item(0) - item(delta >> sign)))
        masks[t], n_bytes = _pack(zigzag, packed[written:], q, splits_bytes)
        written += n_bytes
    return written


@_compiled
def decode(
    masks: Any, packed: Any, moves: Any, rows: Any, stride: Any, n_tokens: Any, q: Any, start: Any, stop: Any
) -> Any:
    """Decode rows [start, stop), whose groups `packed` begins with. Returns how many bytes they had.

    rows: one axis, a row every `stride` items. The rows before `start` are decoded already. `moves` may be empty.
    """
    width = moves.shape[1]
    n_values = n_tokens * width
    item = rows.dtype.type
    zigzag, zigzag_is_clear = np.zeros(8 * q, rows.dtype), True
    nothing, values = np.zeros(width, np.uint16), np.zeros(width, np.float32)
    read = 0
    if start == 0 and stop > 0:
        row = rows[:n_values]
        for token in range(n_tokens):
            for i in range(width):
                merged = item(0)
                for byte in range(rows.itemsize):
                    plane = (byte - 1) % rows.itemsize
                    merged = item(merged | item(item(packed[plane * 8 * q + i * n_tokens + token]) << item(8 * byte)))
                row[token * width + i] = merged
        start, read = 1, 8 * q * rows.itemsize
    for t in range(start, stop):
        row = rows[t * stride : t * stride + n_values]
        before = rows[(t - 1) * stride : (t - 1) * stride + n_values]
        is_still = masks[t] == _u16(0)
        if not (is_still and zigzag_is_clear):
            read += _unpack(masks[t], packed[read:], zigzag, q)
            zigzag_is_clear = is_still
        has_moves = t < len(moves) and _has_any(moves[t])
        _decode_row(before, row, zigzag, moves[t] if has_moves else nothing, values, has_moves, is_still)
    return read


@_compiled
def decode_tokens(masks: Any, packed: Any, moves: Any, tokens: Any, n_tokens: Any, first_token: Any, q: Any) -> None:
    """Decode the tokens from `first_token` on, an eighth of all at most, in the first rows: (rows, …, width)."""
    n_rows, n_wanted, width = tokens.shape
    item = tokens.dtype.type
    n, first = n_wanted * width, first_token * width
    rows, by_row = tokens.reshape(n_rows * n), tokens.reshape(n_rows, n)
    zigzag, nothing, values = np.empty(n, tokens.dtype), np.zeros(width, np.uint16), np.zeros(width, np.float32)
    places = _places(first, n, q)
    for token in range(n_wanted):
        for i in range(width):
            merged = item(0)
            for byte in range(tokens.itemsize):
                code = packed[(byte - 1) % tokens.itemsize * 8 * q + i * n_tokens + first_token + token]
                merged = item(merged | item(item(code) << item(8 * byte)))
            tokens[0, token, i] = merged
    read = 8 * q * tokens.itemsize
    for t in range(1, n_rows):
        was, now = np.uint64((t - 1) * n), np.uint64(t * n)  # of signed indices numba asks whether they are negative
        has_moves = t < len(moves) and _has_any(moves[t])
        if masks[t] == _u16(0) and not has_moves:
            for i in range(n):
                rows[now + np.uint64(i)] = rows[was + np.uint64(i)]
            continue
        for i in range(n):
            zigzag[i] = item(0)
        for group in range(4):
            if masks[t] & _u16(_u16(1) << _u16(group)):
                _add_group(packed, read, zigzag, places[group], group)
                read += q * _WIDTHS[group]
        for byte in range(1, tokens.itemsize + 1):
            if masks[t] & _u16(_u16(8) << _u16(byte)):
                shift = item(8 * byte if byte < tokens.itemsize else 0)
                _add_bits(zigzag, packed[read + first : read + first + n], _u8(0), item(0xFF), shift)
                read += 8 * q
        _decode_row(by_row[t - 1], by_row[t], zigzag, moves[t] if has_moves else nothing, values, has_moves, False)


@_inlined
def _decode_row(before: Any, row: Any, zigzag: Any, moves: Any, values: Any, has_moves: Any, is_still: Any) -> None:
    """Fill `row`, some tokens side by side, from the row before. `values` is room for the values of its moves."""
    item = row.dtype.type
    width = len(moves)
    if has_moves:
        for i in range(width):
            values[i] = _value(moves[i]) if _is_usable(moves[i]) else _f32(0)
        for at in range(0, len(row), width):
            was, now, code = before[at : at + width], row[at : at + width], zigzag[at : at + width]
            for i in range(width):
                delta = item(item(code[i] >> item(1)) ^ item(item(0) - item(code[i] & item(1))))
                now[i] = item(item(_predicted(was[i], moves[i], values[i])) + delta)
    elif is_still:
        for i in range(len(row)):
            row[i] = before[i]
    else:
        for i in range(len(row)):
            delta = item(item(zigzag[i] >> item(1)) ^ item(item(0) - item(zigzag[i] & item(1))))
            row[i] = item(before[i] + delta)


# Bulk motion: `motion` has the explanations.


@_inlined
def _value(bits: Any) -> Any:
    return _u32(_u32(bits) << _u32(16)).view(np.float32)


@_inlined
def _rounded(value: Any) -> Any:
    bits = _u32(_f32(value).view(np.uint32))
    return _u16(_u32(bits + _u32(0x7FFF) + _u32(_u32(bits >> _u32(16)) & _u32(1))) >> _u32(16))


@_inlined
def _exponent(bits: Any) -> Any:
    return _u16(_u16(_u16(bits) >> _u16(7)) & _u16(0xFF))


@_inlined
def _is_usable(bits: Any) -> Any:
    return _u16(_exponent(bits) - _FIRST) < _N


@_inlined
def _predicted(before: Any, move: Any, value: Any) -> Any:
    moved = _rounded(_f32(_value(before) + value))
    return moved if _is_usable(before) and _is_usable(move) else _u16(before)


@_compiled
def _estimate(before: Any, after: Any, moves: Any, values: Any, sums: Any, counts: Any) -> Any:
    """Fill `moves` and their `values` for one row. Returns False if there are none."""
    n_tokens, width = before.shape
    n_unchanged, n_hits = counts[0], counts[1]
    total, total_weight = sums[0], sums[1]
    moves[:] = _u16(0)
    n_unchanged[:] = _u32(0)
    for token in range(n_tokens):
        was, now = before[token], after[token]
        for i in range(width):
            n_unchanged[i] = _u32(n_unchanged[i] + _u32(was[i] == now[i]))
    n_changed = n_tokens * width
    for i in range(width):
        n_changed -= np.int64(n_unchanged[i])
    if n_changed * LEAST_CHANGED < n_tokens * width:
        return False
    sums[:] = _f32(0)
    for token in range(n_tokens):
        was, now = before[token], after[token]
        for i in range(width):
            is_usable = _is_usable(was[i]) and _is_usable(now[i])
            exponent = min(max(_exponent(was[i]), _exponent(now[i]), _FLOOR), _CEILING)
            weight = _u32(_u32(_u32(3 * 127) - _u32(_u32(2) * _u32(exponent))) << _u32(23)).view(np.float32)
            weight = weight if is_usable else _f32(0)
            distance = _f32(_value(now[i]) - _value(was[i])) if is_usable else _f32(0)
            total[i] += _f32(weight * distance)
            total_weight[i] += weight
    for i in range(width):
        move = _rounded(_f32(total[i] / total_weight[i])) if total_weight[i] > _f32(0) else _u16(0)
        moves[i] = move if _is_usable(move) else _u16(0)
        values[i] = _value(moves[i])
    n_hits[:] = _u32(0)
    for token in range(n_tokens):
        was, now = before[token], after[token]
        for i in range(width):
            n_hits[i] = _u32(n_hits[i] + _u32(_predicted(was[i], moves[i], values[i]) == now[i]))
    has_moves = False
    for i in range(width):
        if n_hits[i] <= n_unchanged[i]:
            moves[i], values[i] = _u16(0), _f32(0)
        has_moves |= moves[i] != _u16(0)
    return has_moves


# Bit planes: `bit_planes` has the explanations.


@_compiled
def _pack(items: Any, packed: Any, q: Any, splits_bytes: Any) -> Any:
    """Append the groups of one row. Returns their mask and how many bytes they have."""
    item = items.dtype.type
    used = item(0)
    for i in range(8 * q):
        used |= items[i]
    mask, n = _u16(0), 0
    split = item(used & item(0xFF)) if splits_bytes else item(0)
    if split & item(0b1):
        _pack_group(items, packed[n : n + q], 0, 1)
        mask, n = _u16(mask | _u16(1)), n + q
    if split & item(0b10):
        _pack_group(items, packed[n : n + q], 1, 1)
        mask, n = _u16(mask | _u16(2)), n + q
    if split & item(0b1100):
        _pack_group(items, packed[n : n + 2 * q], 2, 2)
        mask, n = _u16(mask | _u16(4)), n + 2 * q
    if split & item(0xF0):
        _pack_group(items, packed[n : n + 4 * q], 4, 4)
        mask, n = _u16(mask | _u16(8)), n + 4 * q
    for byte in range(1, items.itemsize):
        if item(used >> item(8 * byte)) & item(0xFF):
            plane = packed[n : n + 8 * q]
            for i in range(8 * q):
                plane[i] = _u8(items[i] >> item(8 * byte))
            mask, n = _u16(mask | _u16(_u16(8) << _u16(byte))), n + 8 * q
    if not splits_bytes and used & item(0xFF):
        plane = packed[n : n + 8 * q]
        for i in range(8 * q):
            plane[i] = _u8(items[i])
        mask, n = _u16(mask | _u16(_u16(8) << _u16(items.itemsize))), n + 8 * q
    return mask, n


@_inlined  # so that shift and width are constants of the loops
def _pack_group(items: Any, plane: Any, shift: Any, width: Any) -> None:
    item = items.dtype.type
    mask, n = item((1 << width) - 1), len(plane)
    for i in range(n):
        plane[i] = _u8(item(items[i] >> item(shift)) & mask)
    for at in range(1, 8 // width):
        part = items[at * n : (at + 1) * n]
        for i in range(n):
            plane[i] |= _u8(_u8(item(part[i] >> item(shift)) & mask) << _u8(at * width))


@_compiled
def _unpack(mask: Any, packed: Any, items: Any, q: Any) -> Any:
    """Fill `items` from one row's groups. Returns how many bytes they have."""
    item = items.dtype.type
    items[:] = item(0)
    n = 0
    if mask & _u16(1):
        _unpack_group(packed[n : n + q], items, 0, 1)
        n += q
    if mask & _u16(2):
        _unpack_group(packed[n : n + q], items, 1, 1)
        n += q
    if mask & _u16(4):
        _unpack_group(packed[n : n + 2 * q], items, 2, 2)
        n += 2 * q
    if mask & _u16(8):
        _unpack_group(packed[n : n + 4 * q], items, 4, 4)
        n += 4 * q
    for byte in range(1, items.itemsize):
        if mask & _u16(_u16(8) << _u16(byte)):
            plane = packed[n : n + 8 * q]
            for i in range(8 * q):
                items[i] |= item(item(plane[i]) << item(8 * byte))
            n += 8 * q
    if mask & _u16(_u16(8) << _u16(items.itemsize)):
        plane = packed[n : n + 8 * q]
        for i in range(8 * q):
            items[i] |= item(plane[i])
        n += 8 * q
    return n


@_inlined
def _unpack_group(plane: Any, items: Any, shift: Any, width: Any) -> None:
    item = items.dtype.type
    mask, n = _u8((1 << width) - 1), len(plane)
    for at in range(8 // width):
        part, skipped = items[at * n : (at + 1) * n], _u8(at * width)
        for i in range(n):
            part[i] |= item(item(_u8(plane[i] >> skipped) & mask) << item(shift))


@_inlined
def _places(first: Any, n: Any, q: Any) -> Any:
    """Where `n` ≤ q items, from the item `first` on, lie in groups of 1, 1, 2 and 4 bits an item, shape (4, 3).

    A place is the byte of the first item, how many parts of that byte come before it, and how many items come before
    the next part.
    """
    places = np.empty((4, 3), np.int64)
    for group in range(4):
        n_bytes = q * _WIDTHS[group]
        places[group, 0], places[group, 1] = first % n_bytes, first // n_bytes
        places[group, 2] = min(n, n_bytes - first % n_bytes)
    return places


@_inlined
def _add_group(packed: Any, start: Any, items: Any, place: Any, group: Any) -> None:
    """Add the bits of some items, which lie at `place` of the group that begins at `start`."""
    item = items.dtype.type
    width, shift, n = _WIDTHS[group], item(_SHIFTS[group]), place[2]
    mask, skipped = item((1 << width) - 1), _u8(place[1] * width)
    plane = packed[start + place[0] : start + place[0] + n]
    for i in range(n):
        items[i] |= item(item(item(plane[i] >> skipped) & mask) << shift)
    if n < len(items):
        rest, plane, skipped = items[n:], packed[start : start + len(items) - n], _u8(skipped + _u8(width))
        for i in range(len(rest)):
            rest[i] |= item(item(item(plane[i] >> skipped) & mask) << shift)


@_inlined
def _add_bits(items: Any, plane: Any, skipped: Any, mask: Any, shift: Any) -> None:
    item = items.dtype.type
    for i in range(len(items)):
        items[i] |= item(item(item(plane[i] >> skipped) & mask) << shift)


@_compiled
def _has_any(items: Any) -> Any:
    found = items.dtype.type(0)
    for i in range(len(items)):
        found |= items[i]
    return found != items.dtype.type(0)


@_compiled
def _are_equal(one: Any, other: Any) -> Any:
    differing = one.dtype.type(0)
    for i in range(len(one)):
        differing |= one[i] ^ other[i]
    return differing == one.dtype.type(0)


# The child of a process that forks while a thread compiles would wait for numba's lock for ever.
hold_over_forks(global_compiler_lock)
