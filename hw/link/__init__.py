"""The link: what ``docs/link.md`` says, between the pins of a transport and the streams of an array."""

from .link import Link

__all__ = ["Link"]
