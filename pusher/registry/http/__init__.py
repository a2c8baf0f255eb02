"""One HTTP request to a registry: connections, TLS, proxies, bodies, and what is shown of it."""
