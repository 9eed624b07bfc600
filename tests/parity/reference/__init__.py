"""The authors' networks once more, in plain torch from their papers' formulas and with their key names.

Nothing here comes from the zoo, whose parity checks are held against it with options that no recorded file has.
"""
