"""Banned addresses and networks, and the file that keeps them (--keep-bans)."""

import contextlib
import json
import os
from pathlib import Path

from chatroom.errors import BansError
from chatroom.system import files
from chatroom.system.networks import Network, format_network, parse_network, within


class Bans:
    """The bans, oldest first, and their file, if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file, if `path` is given and it exists. Raises BansError if that fails."""
        self._path = path
        self._networks: dict[Network, None] = {}
        if path is None:
            return
        try:
            found = json.loads(files.read(path))
            # ip_network would accept a number as an address.
            if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
                raise ValueError("not a list of text")
            self._networks = dict.fromkeys(map(parse_network, found))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BansError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else error
            raise BansError(f"{path} must be a list of networks in JSON: {why}") from None

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and within(address, self._networks)

    def all(self) -> list[str]:
        """Return the bans as text, oldest first."""
        return [format_network(network) for network in self._networks]

    def add(self, network: Network) -> None:
        """Add a ban. Raises BansError if the file can't be written; the ban is in effect anyway."""
        self._networks[network] = None
        self._keep()

    def remove(self, network: Network) -> bool:
        """Remove a ban; return False if there is no such ban. Raises BansError like `add`."""
        if network not in self._networks:
            return False
        del self._networks[network]
        self._keep()
        return True

    def _keep(self) -> None:
        """Replace the file atomically."""
        if self._path is None:
            return
        new = self._path.with_suffix(".new")
        try:
            with new.open("w") as file:
                json.dump(self.all(), file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise BansError(f"{self._path} can't be written: {error.strerror}") from None
