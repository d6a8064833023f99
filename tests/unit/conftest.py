"""What all unit tests share."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: they are unreadable, and fresh keys would name a test anew in each worker."""
    return argname if isinstance(val, bytes) else None
