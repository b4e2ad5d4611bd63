# root:root 0644
"""Ends well when every public port shows the certificate of this host and keystone answers behind its own.

Whom an operator's certificate was signed by need not be known here, nor need this host bear the name it is made out
to: that it is the very one of the file says more than a chain of trust would.
"""

import http.client
import re
import ssl
import sys

CERTIFICATE = "/etc/levier/haproxy/public.pem"
ADDRESS = "10.78.0.11"
PORTS = [13776, 13292, 13000, 13696, 13774, 13778, 13080, 443]
IDENTITY, PATH = 13000, "/v3"
TIMEOUT_S = 10


def configured():
    """The certificate that is to be shown: the first of the file."""
    with open(CERTIFICATE, encoding="ascii", errors="replace") as file:
        found = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", file.read(), re.DOTALL)
    return ssl.PEM_cert_to_DER_cert(found[0])


def ask(port, wanted):
    """What is wrong with the port; None when nothing is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(ADDRESS, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.connect()
        if connection.sock.getpeercert(binary_form=True) != wanted:
            return "shows another certificate than that of " + CERTIFICATE
        if port == IDENTITY:
            connection.request("GET", PATH)
            status = connection.getresponse().status
            return None if status == 200 else f"answers {status} to GET {PATH}"
    except (OSError, http.client.HTTPException) as error:
        return f"does not answer by TLS: {error!r}"
    finally:
        connection.close()
    return None


for port in PORTS:
    if wrong := ask(port, configured()):
        sys.exit(f"port {port} {wrong}")
