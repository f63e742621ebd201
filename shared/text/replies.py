"""Replies: which bytes of a conversation the assistant says, and so has to learn.

    user: hello\\nassistant: Hi!\\n
                           ^^^^^^       its words, and the newline that ends them

Promoted by 02_tokenizer.
"""

import re

import numpy as np

from shared.text.byte_table import ByteTable
from shared.text.tokenizer import END_OF_TEXT
from shared.text.transcript import REPLY_CUE, ROLES

_END = re.escape(bytes([END_OF_TEXT]))
_A_TURN = b"\\n(?:%s):" % "|".join(ROLES).encode()
_REPLY = re.compile(
    rb"(?<![^\n%b])%b((?:(?!%b)[^%b])*\n?%b*)" % (_END, REPLY_CUE.encode(), _A_TURN, _END, _END)
)


def in_replies(text: bytes) -> np.ndarray:
    """Which bytes belong to a reply, its end included: (bytes,) bool.

    The end is the newline, and the end of the text where that follows. What stands in
    no transcript is no reply.

    Args:
        text: documents as bytes, each closed by the byte 0x1E.
    """
    marks = np.zeros(len(text), bool)
    for reply in _REPLY.finditer(text):
        marks[reply.start(1) : reply.end(1)] = True
    return marks


def ids_in_replies(ids: np.ndarray, table: ByteTable) -> np.ndarray:
    """Which ids begin within a reply: (ids,) -> (ids,) bool."""
    begins = np.cumsum(table.lengths[ids]) - table.lengths[ids]
    return in_replies(table.decode(ids).tobytes())[begins]
