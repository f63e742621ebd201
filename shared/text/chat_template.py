"""The transcript as a chat template: Jinja, which other engines write a conversation with.

It writes what `transcript.render_prompt` writes, the end-of-text id in front. A line inside a turn
that begins with `user:` gets its leading space here, too; what merely looks like it in other
letters (`Ｕser:`) does not: to a model that reads its bytes it is no turn. Engines give a reply
back as it came, with the space after `assistant:` and its line's end, so both go here: else a
conversation's second turn would have each of them twice.
Promoted by 02_tokenizer.
"""

from shared.text.transcript import REPLY_CUE, ROLES

_ROLES = ", ".join(f"'{role}'" for role in ROLES)
_ESCAPES = "".join(f".replace('\\n{role}:', '\\n {role}:')" for role in ROLES)
CHAT_TEMPLATE = f"""\
{{{{- bos_token }}}}
{{%- for message in messages %}}
{{%- if message['role'] not in [{_ROLES}] %}}
{{{{- raise_exception('no turn of ' + message['role'] + ': the roles are {", ".join(ROLES)}') }}}}
{{%- endif %}}
{{%- set text = message['content'].replace(bos_token, '') %}}
{{%- if message['role'] == 'assistant' %}}
{{%- set text = text.lstrip(' ').rstrip('\n') %}}
{{%- endif %}}
{{{{- message['role'] + ': ' + text{_ESCAPES} + '\n' }}}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}{{{{- '{REPLY_CUE}' }}}}{{%- endif %}}"""
