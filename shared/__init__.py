"""The one importable package: what each milestone promotes for the later ones.

Rooms and arrows: device <- text <- model <- training <- chat. An arrow means
"imports from". Nothing here knows the web.
"""

import os

# The threads of one operation wait for each other by spinning, a hundred times longer than they
# mostly have to. Beside busy programs the core they spin on is the one that the late thread needs:
# a training step took twice as long (01_env/notes.md). Read when torch is loaded, on Linux.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # rounds of waiting, some 50 microseconds
