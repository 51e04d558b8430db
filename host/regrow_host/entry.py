"""How the `regrow` command begins: as light as can be, so that Ctrl-C is heard while the rest is imported."""

from regrow.entry import start


def main() -> int:
    return start("regrow", "regrow_host.cli")
