"""The certificate of the gateway: load it and check it.

The main process checks the certificate before it starts the gateway, so an error is one line. It
keeps the contents of the files, so that it can replace a gateway even if the files are invalid by
then.
"""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatroom.errors import WebError
from chatroom.sidecars.web.process import Certificate, Pem
from chatroom.system.memory import anonymous_file

PROTOCOLS = ["http/1.1"]
"""Protocols that TLS offers (ALPN). WebSockets need HTTP/1.1."""

_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_DESCRIPTORS = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
"""Folder in which each open descriptor of this process is a file."""


def context(certificate: Certificate) -> ssl.SSLContext:
    """Return a context for servers, with the contents at the last check. Raises WebError."""
    return _context(certificate, certificate.checked or _read(certificate))


def load(into: ssl.SSLContext, certificate: Certificate) -> None:
    """Read the files again, and use them for all later handshakes.

    Raises WebError; the context is then unchanged.
    """
    pem = _read(certificate)
    _context(certificate, pem)  # a test: OpenSSL drops the old key before it finds an error
    _load(into, certificate, pem)


def check(certificate: Certificate) -> None:
    """Read the files; check that they can be used, and that the certificate is valid today.

    Note the contents in `certificate`. Raises WebError.

    Only a handshake shows whether the certificate is valid. So this function makes a handshake in
    memory, with a client that trusts the certificate.
    """
    pem = _read(certificate)
    server_context = _context(certificate, pem)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        with _file(pem.chain) as chain:
            client_context.load_verify_locations(chain)
    except ssl.SSLError as error:  # it also reads other parts of the file, such as a CRL
        raise WebError(f"{certificate.chain} can't be used: {_words(error)}") from None
    except OSError as error:
        raise WebError(f"{certificate.chain} can't be used: {error.strerror}") from None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            raise WebError(f"{certificate.chain} can't be used: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise WebError(f"{certificate.chain} can't be used: {_words(error)}") from None
    certificate.checked = pem


def _read(certificate: Certificate) -> Pem:
    return Pem(
        _contents(certificate.chain, _BEGIN_CERTIFICATE, "certificate"),
        _contents(certificate.key, _PRIVATE_KEY, "private key"),
    )


def _contents(file: Path, mark: bytes, what: str) -> bytes:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise WebError(f"{file} can't be read: {error.strerror}") from None
    if mark not in text:
        raise WebError(f"{file} holds no {what} in PEM")
    return text


def _context(certificate: Certificate, pem: Pem) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_alpn_protocols(PROTOCOLS)
    made.options |= ssl.OP_NO_RENEGOTIATION
    _load(made, certificate, pem)
    return made


def _load(into: ssl.SSLContext, certificate: Certificate, pem: Pem) -> None:
    chain, key = certificate.chain, certificate.key
    try:
        with _file(pem.chain) as chain_file, _file(pem.key) as key_file:
            into.load_cert_chain(chain_file, key_file, _refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise WebError(f"the key {key} does not fit the certificate {chain}") from None
        raise WebError(f"{chain} and {key} can't be used: {_words(error)}") from None
    except OSError as error:
        raise WebError(f"{chain} and {key} can't be used: {error.strerror}") from None
    except _EncryptedError:
        raise WebError(f"the key {key} is encrypted; decrypt it: openssl pkey") from None


@contextmanager
def _file(contents: bytes) -> Iterator[str]:
    """Yield the path of a file in memory; OpenSSL reads certificates only from files."""
    descriptor = anonymous_file("certificate", 0)
    try:
        os.pwrite(descriptor, contents, 0)
        yield f"{_DESCRIPTORS}/{descriptor}"
    finally:
        os.close(descriptor)


class _EncryptedError(Exception):
    pass


def _refuse_password() -> str:
    """Prevent OpenSSL from asking for the key's password at the terminal."""
    raise _EncryptedError


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
