"""Face detection: the protocol, the default detector, and the candidates and tiles it works on."""
