"""Images and videos at http and https addresses: fetched whole, within a size and a time."""

import http.client
import re
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import PurePosixPath

from vitjax.data.errors import DataError, in_one_line

LIMIT = 64 * 2**20
"""Most bytes that are fetched."""
TIMEOUT = 20.0
"""Seconds that a server may be silent."""

_WHOLE = 6  # times the timeout that all of a file may take
_PART = 2**18  # bytes
_LONGEST = 200  # characters of an address in an error


def is_address(name: str) -> bool:
    """Whether a name is an address of the web, and none of a file."""
    return re.match(r"https?://", name, re.IGNORECASE) is not None


def fetch(address: str, *, limit: int = LIMIT, timeout: float = TIMEOUT) -> bytes:
    """What is at an http or https address, at most `limit` bytes of it; the server may be silent for `timeout` seconds.

    Raises:
        DataError: it cannot be fetched, is larger than the limit, or takes longer than six times the timeout.
    """
    shown = in_one_line(address[:_LONGEST])
    wish = "Fetch it yourself, and name the file"
    try:
        quoted = urllib.parse.quote(address, safe=string.punctuation)
        asked = urllib.request.Request(quoted, headers={"User-Agent": "vitjax"})
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            content = _read(answer, limit, time.monotonic() + _WHOLE * timeout)
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
    except TimeoutError:
        reason = f"the server was too slow; it has {timeout:g} s to answer, and {_WHOLE * timeout:g} s for all of it"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
    else:
        if len(content) <= limit:
            return content
        reason = f"it is larger than {limit / 2**20:g} MiB"
    raise DataError(f"{shown} cannot be fetched: {in_one_line(reason)}. {wish}.")


def _read(answer: http.client.HTTPResponse, limit: int, end: float) -> bytes:
    """The content, of one that is too large a part that is above the limit."""
    told = answer.headers.get("Content-Length", "")
    if told.isdecimal() and int(told) > limit:
        return bytes(limit + 1)
    parts, length = [], 0
    while length <= limit and (part := answer.read1(_PART)):
        parts.append(part)
        length += len(part)
        if time.monotonic() > end:
            raise TimeoutError
    if length <= limit and told.isdecimal() and length < int(told):
        raise http.client.IncompleteRead(b"".join(parts), int(told) - length)
    return b"".join(parts)


def file_name(address: str) -> str:
    """A name for a file of what is at an address: the end of its path, in signs that every system takes."""
    last = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name
    return re.sub(r"[^\w.-]+", "_", last)[-100:].lstrip(".-") or "image"
