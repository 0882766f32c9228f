"""One file a method; `_name.py` is what several methods share.  A method imports no other method."""
