"""Sizes in bytes, as people read them."""


def format_bytes(n_bytes: float) -> str:
    """A size as people read it, in powers of 1,000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if unit == "bytes" else f"{n_bytes:,.2f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.2f} TB"
