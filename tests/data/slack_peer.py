"""Slack's side, by Slack's own SDK: signs callbacks, and checks blocks against the limits of Block Kit.

Reads one JSON object a line on standard input and writes one for each:
  {"sign": {"secret", "timestamp", "body"}}   -> {"signature"}
  {"check": {"secret", "body", "headers"}}    -> {"valid"}
  {"blocks": [...]}                           -> {"blocks": [...]} as the SDK understood them, or {"error"}
"""

import json
import sys

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models import JsonObject
from slack_sdk.models.blocks import Block, Option
from slack_sdk.signature import Clock, SignatureVerifier


class At(Clock):
    def __init__(self, seconds):
        self.seconds = seconds

    def now(self):
        return self.seconds


def validate(thing, seen):
    """Every object of the SDK below this one; it validates what it writes, and not always what is inside."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, JsonObject):
        thing.validate_json()
        for value in vars(thing).values():
            validate(value, seen)
    elif isinstance(thing, (list, tuple)):
        for value in thing:
            validate(value, seen)
    elif isinstance(thing, dict) and {"text", "value"} <= thing.keys():
        # Options of a menu stay as they were written.
        for option in Option.parse_all([thing]):
            option.validate_json()


def understood(blocks):
    if len(blocks) > 50:
        raise SlackObjectFormationError("more than 50 blocks")
    parsed = [Block.parse(block) for block in blocks]
    if None in parsed:
        raise SlackObjectFormationError("an unknown kind of block")
    seen = set()
    for block in parsed:
        validate(block, seen)
    return [block.to_dict() for block in parsed]


def answer(request):
    if "sign" in request:
        asked = request["sign"]
        verifier = SignatureVerifier(asked["secret"])
        return {"signature": verifier.generate_signature(timestamp=asked["timestamp"], body=asked["body"])}
    if "check" in request:
        asked = request["check"]
        clock = At(int(asked["headers"]["X-Slack-Request-Timestamp"]))
        return {"valid": SignatureVerifier(asked["secret"], clock).is_valid_request(asked["body"], asked["headers"])}
    try:
        return {"blocks": understood(request["blocks"])}
    except SlackObjectFormationError as error:
        return {"error": str(error)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
