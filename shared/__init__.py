"""The one importable package: what each milestone promotes for the later ones.

Rooms and arrows: device <- text <- model <- training <- chat. An arrow means
"imports from". Nothing here knows the web.
"""
