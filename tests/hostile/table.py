"""Prints what level `partial` does not stop, as rows of a table: family, program, harm.

Run it from the top of the checkout: `python -m tests.hostile.table`.
"""

from __future__ import annotations

from .catalogue import by_family


def rows() -> list[tuple[str, str, str]]:
    found = by_family()
    return [(family, one.name, one.harm) for family in found for one in found[family] if not one.partial]


def main() -> None:
    print("| family | program | harm |\n| --- | --- | --- |")
    for row in rows():
        print("| " + " | ".join(row) + " |")
    print(f"\n{len(rows())} of {sum(map(len, by_family().values()))} programs.")


if __name__ == "__main__":
    main()
