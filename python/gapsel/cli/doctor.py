"""`gapsel doctor`: what can sweep a pool on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapsel.cli.words import in_json
from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    about = "what can sweep a pool on this machine, each compared with the reference"
    command = commands.add_parser("doctor", help=about, description=f"Say {about}.", allow_abbrev=False)
    command.set_defaults(do=_doctor)
    command.add_argument("--json", action="store_true", help="print the findings as JSON")


def _doctor(*, json: bool) -> int:
    from gapsel import doctor

    found = doctor.examine()
    print(in_json(found) if json else doctor.in_words(found), flush=True)
    return 0 if found["sound"] else DeviceError.exit_code
