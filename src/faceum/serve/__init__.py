"""An HTTP server for the analyzer, and a page on the same port.

It needs the extra `serve`; `faceum serve` starts it.
"""
