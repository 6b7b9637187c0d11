"""The commands, one a file; importing this registers them, in the order in which `fewer --help` lists them."""

from importlib import import_module

COMMANDS = (
    "tune", "compress", "sample", "forecast", "gate", "edit", "compare", "judge", "inspect", "audit", "export", "report", "serve",
    "methods", "claims", "diff",
)  # fmt: skip

for _name in COMMANDS:
    import_module(f"{__name__}.{_name}")
