"""Who may not come in: addresses and networks. Kept in a file, where the room is told to."""

import contextlib
import json
import os
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path

from chatroom.errors import BansError

Network = IPv4Network | IPv6Network


def network(text: str) -> Network:
    """An address, or a network such as 10.0.0.0/8. Raises ValueError, with what it has to be."""
    try:
        found = ip_network(text)
    except ValueError:
        demand = f"an address, or a network such as 10.0.0.0/8 or 2001:db8::/32, not {text!r}"
        raise ValueError(demand) from None
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f"an IPv4 address is written as such, not {text!r}")
    return found


def contains(one: Network, address: str) -> bool:
    """Whether a canonical address, which may be that of a Unix socket, is in a network."""
    found = _address(address)
    return found is not None and found in one


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class Bans:
    """In the order in which they were made; in the file `path`, if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises BansError where the file is there, and can't be read."""
        self._path = path
        self._networks: dict[Network, None] = {}
        if path is None:
            return
        try:
            self._networks = dict.fromkeys(map(network, _texts(json.loads(path.read_text()))))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BansError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise BansError(f"{path} has to be a list of networks, as JSON: {error}") from None

    def __contains__(self, address: str) -> bool:
        found = _address(address) if self._networks else None
        return found is not None and any(found in one for one in self._networks)

    def all(self) -> list[str]:
        return [_spell(one) for one in self._networks]

    def add(self, one: Network) -> None:
        """Raises BansError where it can't be kept; it holds nevertheless."""
        self._networks[one] = None
        self._keep()

    def remove(self, one: Network) -> bool:
        """Whether there was such a ban. Raises BansError as `add` does."""
        if one not in self._networks:
            return False
        del self._networks[one]
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


def _texts(found: object) -> list[str]:
    """Raises ValueError where it is no list of texts; a number would pass for an address."""
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return found
    raise ValueError("it is none")


def _spell(one: Network) -> str:
    return str(one.network_address) if one.num_addresses == 1 else str(one)
