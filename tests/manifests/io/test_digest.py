import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.io.digest import bytes_digest, canonical_json, chunks_digest, digest, file_digest

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_canonical_json_reads_back_as_what_was_written(document):
    try:
        text = canonical_json(document)
    except UnicodeEncodeError:
        assert any("\ud800" <= c <= "\udfff" for c in str(document))
        return
    assert json.loads(text) == document


@given(st.dictionaries(st.text(alphabet="abcdef"), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_change_a_digest(document):
    assert digest(document) == digest(dict(reversed(list(document.items()))))


def test_digests_are_plain_sha256(tmp_path):
    content = b"speech" * 300_000
    expected = hashlib.sha256(content).hexdigest()
    (tmp_path / "file").write_bytes(content)
    assert (
        bytes_digest(content) == chunks_digest([content[:7], content[7:]]) == file_digest(tmp_path / "file") == expected
    )
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'.encode()


def test_a_number_that_json_has_not_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"snr_db": float("nan")})
