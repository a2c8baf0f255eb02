"""Send one HTTP request to a registry: connections, TLS, proxies, bodies, redaction."""
