"""Credentials in URLs, kept out of what is shown, logged or published."""

import re

HIDDEN = "***"
USER = re.compile(r"(\b[a-z][a-z0-9+.-]*:/+)[^\s/@?#'\"]+@", re.IGNORECASE)
"""user:password@ of a URL, also of one whose slashes a Path has folded."""
QUERY = re.compile(
    r"([?&;][\w.%-]*(?:sig|signature|credential|token|secret|passw|pwd|key|auth|policy)[\w.%-]*=)[^\s&;#'\"]+",
    re.IGNORECASE,
)
"""What lets in whoever has it, in the queries of S3 (X-Amz-...), GCS (X-Goog-...), Azure (sig) and others."""


def masked(text: str) -> str:
    """The text with the credentials of all URLs in it replaced by ***."""
    return QUERY.sub(rf"\g<1>{HIDDEN}", USER.sub(rf"\g<1>{HIDDEN}@", text))
