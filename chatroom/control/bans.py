"""Banned addresses and networks, and the file that keeps them, where the room is told to."""

import contextlib
import json
import os
from pathlib import Path

from chatroom.errors import BansError
from chatroom.system import files
from chatroom.system.networks import Network, format_network, parse_network, within


class Bans:
    """The bans in the order in which they were made, kept in the file `path`, if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises BansError where the file is there, and can't be read."""
        self._path = path
        self._networks: dict[Network, None] = {}
        if path is None:
            return
        try:
            found = json.loads(files.read(path))
            # A number would pass for an address.
            if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
                raise ValueError("it is none")
            self._networks = dict.fromkeys(map(parse_network, found))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BansError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise BansError(f"{path} has to be a list of networks, as JSON: {why}") from None

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and within(address, self._networks)

    def all(self) -> list[str]:
        return [format_network(network) for network in self._networks]

    def add(self, network: Network) -> None:
        """Add a ban. Raises BansError where it can't be kept; it holds nevertheless."""
        self._networks[network] = None
        self._keep()

    def remove(self, network: Network) -> bool:
        """Remove a ban; return False if there is no such ban. Raises BansError as `add` does."""
        if network not in self._networks:
            return False
        del self._networks[network]
        self._keep()
        return True

    def _keep(self) -> None:
        """Replace the file at once, so that it is never half written."""
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
