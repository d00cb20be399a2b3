"""The certificate of the gateway: load it and check it.

The main process checks the certificate before it starts the gateway, so an error is one line.
"""

import ssl

from chatroom.errors import WebError
from chatroom.sidecars.web.process import Certificate

PROTOCOLS = ["http/1.1"]
"""Protocols that TLS offers (ALPN). WebSockets need HTTP/1.1."""

_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"


def context(certificate: Certificate) -> ssl.SSLContext:
    """Return a context for servers. Raises WebError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_alpn_protocols(PROTOCOLS)
    made.options |= ssl.OP_NO_RENEGOTIATION
    load(made, certificate)
    return made


def load(into: ssl.SSLContext, certificate: Certificate) -> None:
    """Load a certificate into a context, for all later handshakes. Raises WebError."""
    chain, key = certificate
    for file, mark, what in (
        (chain, _BEGIN_CERTIFICATE, "certificate"),
        (key, _PRIVATE_KEY, "private key"),
    ):
        try:
            text = file.read_bytes()
        except OSError as error:
            raise WebError(f"{file} can't be read: {error.strerror}") from None
        if mark not in text:
            raise WebError(f"{file} holds no {what} in PEM")
    try:
        into.load_cert_chain(chain, key, _refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise WebError(f"the key {key} does not fit the certificate {chain}") from None
        raise WebError(f"{chain} and {key} can't be used: {_words(error)}") from None
    except OSError as error:
        raise WebError(f"{chain} and {key} can't be used: {error.strerror}") from None
    except _EncryptedError:
        raise WebError(f"the key {key} is encrypted; decrypt it: openssl pkey") from None


def check(certificate: Certificate) -> None:
    """Check that a certificate can be loaded, and is valid today. Raises WebError.

    Only a handshake shows whether the certificate is valid. So this function makes a handshake in
    memory, with a client that trusts the certificate.
    """
    server_context = context(certificate)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(certificate.chain)
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


class _EncryptedError(Exception):
    pass


def _refuse_password() -> str:
    """Prevent OpenSSL from asking for the key's password at the terminal."""
    raise _EncryptedError


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
