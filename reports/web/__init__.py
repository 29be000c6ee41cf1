"""Pages in the browser: `plumbline web`, and files that open without a server.

Lives here: the pages (one file each, listed in pages.py), what they share, and the static build.
Comes in: what the address of a page says (state.py). Goes out: figures (figure.py), each a table
with a way to draw it. streamlit is imported by the modules that put something on a page, and
nowhere else; every figure can be made and tested without it.
"""
