"""Studies over HTTP: an API, a page in the browser, and workers that run studies outside any request."""
