"""Which certificate the front door shows, as a balancer's listener on 443 chooses by the name the client asks for (SNI).

The certificates are those of the listener (its default and the added ones, which ACM has issued); the test authority signs one for the
same names. An exact name wins over a wildcard, and the default is shown when none fits, as AWS does.
"""
import ssl

from authority import Authority


def covers(pattern, host):
    if pattern.startswith("*."):
        return host.partition(".")[2] == pattern[2:].lower()
    return host == pattern.lower()


def choose(certificates, host):
    fitting = [(min(n.startswith("*.") for n in c["names"] if covers(n, host)), i) for i, c in enumerate(certificates)
               if any(covers(n, host) for n in c["names"])]
    return certificates[min(fitting)[1]] if fitting else certificates[0]


def context(folder, listener_of):
    """A server's context; `listener_of(host)` gives the listener on 443 that serves this name, or None."""
    authority, made = Authority(folder), {}

    def plain():
        made_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made_context.minimum_version = ssl.TLSVersion.TLSv1_2
        return made_context

    def for_certificate(cert):
        key = cert["arn"], tuple(cert["names"])
        if key not in made:
            made[key] = plain()
            made[key].load_cert_chain(authority.issue(f"{cert['arn'].rsplit('/', 1)[-1]}", cert["names"]))
        return made[key]

    def by_name(connection, host, _):
        listener = listener_of((host or "").lower())
        if not listener or not listener["certificates"]:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = for_certificate(choose(listener["certificates"], host.lower()))
        return None
    base = plain()
    base.load_cert_chain(authority.issue("none", ["no-certificate.invalid"]))
    base.sni_callback = by_name
    return base
