"""Credentials in URLs, kept out of what is shown, logged or published."""

import re

HIDDEN = "***"
USER = re.compile(
    r"(\b[a-z][a-z0-9+.-]*:/+)(?:[^\s/@?#'\"]+|[^\s/@?#'\":]+:(?!\d+/)[^\s@?#'\"]+)@", re.IGNORECASE
)
"""user:password@ of a URL, also of one whose slashes a Path has folded, and of a password with slashes, as
AWS makes them; not host:port/path@."""
QUERY = re.compile(
    r"([?&;#][\w.%-]*(?:sig|signature|credential|token|secret|passw|pwd|key|auth|policy)[\w.%-]*=)[^\s&;#'\"]+",
    re.IGNORECASE,
)
"""What lets in whoever has it, in the queries of S3 (X-Amz-...), GCS (X-Goog-...), Azure (sig) and others."""


def masked(text: str) -> str:
    """The text with the credentials of all URLs in it replaced by ***."""
    return QUERY.sub(rf"\g<1>{HIDDEN}", USER.sub(rf"\g<1>{HIDDEN}@", text))
