"""Pillow, the library that reads and resizes images: imported late, and asked for where it is absent."""

from tinystar_np.errors import TinyStarError


def require_pillow() -> None:
    """Raise TinyStarError, with how to install it, unless Pillow can be imported."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise TinyStarError(
            "Images are read and resized by Pillow, which is not installed.\n"
            "Install it: pip install 'tinystar_np[vision]'"
        ) from error
