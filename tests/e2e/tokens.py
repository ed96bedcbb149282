"""The filter's own JSON-RPC ids (src/translate/token.rs): what they stand for, and answers with them."""

import json
import re

# A nonce, and the JSON text of the client's id, encoded like a URL with `~` for `%`.
TOKEN = re.compile(rb'"mcpsf~[0-9a-f]{16}~((?:[A-Za-z0-9._-]|~[0-9a-f]{2})+)"')


def original_of(token):
    """The id that a token stands for, as it was spelled; None for what is no token."""
    found = TOKEN.fullmatch(token)
    return found and _decoded(found)


def restored(body):
    """The body as it was before its ids were translated."""
    return TOKEN.sub(_decoded, body)


def _decoded(found):
    return re.sub(rb"~(..)", lambda digits: bytes.fromhex(digits[1].decode()), found[1])


def tokens_in(body):
    """Each token of a body with its original."""
    return [(found[0], original_of(found[0])) for found in TOKEN.finditer(body)]


def translated(before, after):
    """The tokens that stand in the second body for originals in the first; None if the two differ otherwise."""
    tokens, at, to = [], 0, 0
    while to < len(after) or at < len(before):
        found = TOKEN.match(after, to)
        if found and before.startswith(original := original_of(found[0]), at):
            tokens.append((found[0], original))
            at, to = at + len(original), found.end()
            continue
        # All bytes up to the next place where a token may begin are the same.
        end = after.find(b'"mcpsf~', to + 1)
        same = after[to:] if end < 0 else after[to:end]
        if not same or not before.startswith(same, at) or (end < 0 and at + len(same) != len(before)):
            return None
        at, to = at + len(same), to + len(same)
    return tokens


def answered(script, tokens):
    """What a server answers that saw the tokens: they stand wherever the script has `"id":` and the client's."""
    for token, original in dict(tokens).items():
        pattern = rb'("id": ?)' + re.escape(original) + rb"(?=[,}\]\s]|$)"
        script = re.sub(pattern, lambda found, token=token: found[1] + token, script)
    return script


def request_ids(body):
    """The ids of the requests in a JSON-RPC message or batch."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return []
    messages = message if isinstance(message, list) else [message]
    requests = [one for one in messages if isinstance(one, dict) and "method" in one]
    ids = [one.get("id") for one in requests]
    return [number for number in ids if isinstance(number, str | int | float) and not isinstance(number, bool)]


def is_token(number):
    return bool(TOKEN.fullmatch(json.dumps(number).encode()))
