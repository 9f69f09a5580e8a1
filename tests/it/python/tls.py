"""Scans the server on a port of this machine with sslyze, and asks OpenSSL what it got besides. Answers with JSON."""

import json
import pathlib
import socket
import ssl
import sys

from sslyze import (
    CertificateInfoExtraArgument,
    ScanCommand,
    Scanner,
    ScanCommandAttemptStatusEnum,
    ScanCommandsExtraArguments,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
)

VERSIONS = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3"]


def scan(port, roots):
    request = ServerScanRequest(
        server_location=ServerNetworkLocation("localhost", port, "127.0.0.1"),
        network_configuration=ServerNetworkConfiguration("localhost"),
        scan_commands={
            ScanCommand.CERTIFICATE_INFO,
            ScanCommand.SSL_2_0_CIPHER_SUITES,
            ScanCommand.SSL_3_0_CIPHER_SUITES,
            ScanCommand.TLS_1_0_CIPHER_SUITES,
            ScanCommand.TLS_1_1_CIPHER_SUITES,
            ScanCommand.TLS_1_2_CIPHER_SUITES,
            ScanCommand.TLS_1_3_CIPHER_SUITES,
            ScanCommand.TLS_1_3_EARLY_DATA,
            ScanCommand.TLS_COMPRESSION,
            ScanCommand.HEARTBLEED,
            ScanCommand.SESSION_RENEGOTIATION,
            ScanCommand.SESSION_RESUMPTION,
            ScanCommand.ELLIPTIC_CURVES,
        },
        scan_commands_extra_arguments=ScanCommandsExtraArguments(
            certificate_info=CertificateInfoExtraArgument(custom_ca_file=pathlib.Path(roots)),
        ),
    )
    scanner = Scanner()
    scanner.queue_scans([request])
    return next(iter(scanner.get_results()))


def of(found, name):
    """What a part of the scan came to. A part that failed fails the test."""
    attempt = getattr(found.scan_result, name)
    if attempt.status != ScanCommandAttemptStatusEnum.COMPLETED:
        sys.exit(f"{name}: {attempt.error_reason} {attempt.error_trace}")
    return attempt.result


def session(port, roots):
    """What OpenSSL has of the session after an answer."""
    context = ssl.create_default_context(cafile=roots)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as stream:
            stream.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while stream.recv(65536):
                pass
            return {"version": stream.version(), "ticket": bool(stream.session and stream.session.has_ticket)}


def main():
    port, roots = int(sys.argv[1]), sys.argv[2]
    found = scan(port, roots)
    if found.scan_result is None:
        sys.exit(f"no scan: {found.connectivity_error_trace}")
    suites = {version: of(found, f"{version}_cipher_suites").accepted_cipher_suites for version in VERSIONS}
    deployments = of(found, "certificate_info").certificate_deployments
    resumption = of(found, "session_resumption")
    answer = {
        "versions": [version for version in VERSIONS if suites[version]],
        "suites": sorted(suite.cipher_suite.name for suite in suites["tls_1_3"]),
        "early_data": of(found, "tls_1_3_early_data").supports_early_data,
        "compression": of(found, "tls_compression").supports_compression,
        "heartbleed": of(found, "heartbleed").is_vulnerable_to_heartbleed,
        "client_renegotiation": of(found, "session_renegotiation").is_vulnerable_to_client_renegotiation_dos,
        "resumed_by_id": resumption.session_id_successful_resumptions_count,
        "resumed_by_ticket": resumption.tls_ticket_successful_resumptions_count,
        "curves": sorted(curve.name for curve in of(found, "elliptic_curves").supported_curves),
        "path_validates": all(
            any(path.was_validation_successful for path in deployment.path_validation_results)
            for deployment in deployments
        ),
        "session": session(port, roots),
    }
    print(json.dumps(answer))


main()
