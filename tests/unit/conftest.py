"""What all unit tests share."""

from hypothesis import settings

# How long an example takes says only how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: they are unreadable, and fresh keys would name a test anew in each worker."""
    return argname if isinstance(val, bytes) else None
