"""What people, programs and accidents put where text belongs."""

from hypothesis import strategies as st

# Signs that mean something somewhere: to a database, a terminal, a chat, an address, a parser.
ODD = "\x00\x1b\n\r\t\x85\u2028\u200b\u202e\ud800\ufeff😀é\"'`*_<>[]{}|\\/%?#&=+;:@!$~^-—,. "
TEXT = st.text(st.one_of(st.sampled_from(ODD), st.characters(codec=None)), max_size=40)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), TEXT,
        st.sampled_from([2**31, 2**63, -(2**63), 10**400, 1e308, "", "nan", "9" * 400]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
