//! Characters of header fields (RFC 9110 §5).

/// Longest name of a header field or method in a rule, in octets: registered ones have up to 35.
const NAME_LEN_MAX: usize = 64;

/// Whether `text` is a token (RFC 9110 §5.6.2), as names of methods are.
pub(super) fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_tchar)
}

/// Whether `text` is a header name that every workload reads in one way.
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len()) && !crate::header::is_ambiguous(text)
}

/// Whether a field may have this value and every recipient sees the same one.
pub(super) fn is_value(text: &str) -> bool {
    let is_blank = |byte: Option<u8>| matches!(byte, Some(b' ' | b'\t'));
    text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && !is_blank(text.bytes().next())
        && !is_blank(text.bytes().next_back())
}
