"""`fewer serve`: a page on which a plan's samples stand live beside a baseline's from the same noise.

It runs on the standard library's HTTP server: a page for one person on their own machine needs neither an event loop nor a
framework, and so nothing has to be installed for it.
"""

from fewer.serve.server import PageServer
from fewer.serve.studio import Studio

__all__ = ["PageServer", "Studio"]
