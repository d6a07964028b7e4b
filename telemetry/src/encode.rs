//! Encoding of text that may come from strangers, so that a log line stays one line and says only what it
//! says (R25): control characters, line separators and direction overrides are written as escapes.

use std::fmt::{self, Write};

/// Whether a terminal or a reader could take `character` for more than itself: controls (C0, DEL, C1), line and
/// paragraph separators, and what changes the direction of the text around it (Unicode TR #36 §2.5).
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes `text` with hidden characters as `\n`, `\r`, `\t` or `\u{…}`, and `\` doubled.
pub(crate) fn plain(text: &str, out: &mut impl Write) -> fmt::Result {
    let mut from = 0;
    for (at, character) in text.char_indices() {
        if !is_hidden(character) && character != '\\' {
            continue;
        }
        out.write_str(text.get(from..at).unwrap_or_default())?;
        from = at + character.len_utf8();
        match character {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            other => write!(out, "\\u{{{:x}}}", u32::from(other))?,
        }
    }
    out.write_str(text.get(from..).unwrap_or_default())
}

/// Writes a field's value: bare if it cannot be taken for the next field, else in quotes.
pub(crate) fn value(text: &str, out: &mut impl Write) -> fmt::Result {
    let bare =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=' | '{' | '}'));
    if bare {
        return plain(text, out);
    }
    out.write_char('"')?;
    let mut parts = text.split('"');
    if let Some(first) = parts.next() {
        plain(first, out)?;
    }
    for part in parts {
        out.write_str("\\\"")?;
        plain(part, out)?;
    }
    out.write_char('"')
}

/// Writes `text` as a JSON string (RFC 8259 §7), hidden characters as `\uXXXX`.
pub(crate) fn json(text: &str, out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    let mut from = 0;
    for (at, character) in text.char_indices() {
        if !is_hidden(character) && !matches!(character, '"' | '\\') {
            continue;
        }
        out.write_str(text.get(from..at).unwrap_or_default())?;
        from = at + character.len_utf8();
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            // Every hidden character lies in the basic plane.
            other => write!(out, "\\u{:04x}", u32::from(other))?,
        }
    }
    out.write_str(text.get(from..).unwrap_or_default())?;
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(write: impl Fn(&mut String) -> fmt::Result) -> String {
        let mut out = String::new();
        write(&mut out).unwrap();
        out
    }

    #[test]
    fn r25_no_character_ends_a_line_or_drives_a_terminal() {
        for code in 0..=0x10_ffff_u32 {
            let Some(character) = char::from_u32(code) else { continue };
            let text = format!("a{character}b");
            for encoded in [
                text_of(|out| plain(&text, out)),
                text_of(|out| value(&text, out)),
                text_of(|out| json(&text, out)),
            ] {
                assert!(!encoded.chars().any(is_hidden), "U+{code:04X} passes");
            }
        }
    }

    #[test]
    fn r25_a_value_cannot_pose_as_another_field() {
        let rows = [
            ("ann", "ann"),
            ("", r#""""#),
            ("ann role=admin", r#""ann role=admin""#),
            (r#"a" role="admin"#, r#""a\" role=\"admin""#),
            ("role=admin", r#""role=admin""#),
            ("line\nINFO forged", r#""line\nINFO forged""#),
            (r"back\slash", r"back\\slash"),
        ];
        for (text, expected) in rows {
            assert_eq!(text_of(|out| value(text, out)), expected, "{text:?}");
        }
    }

    #[test]
    fn json_strings_are_json() {
        assert_eq!(text_of(|out| json("a\"\\\n\u{1b}\u{202e}é😀", out)), r#""a\"\\\n\u001b\u202eé😀""#);
    }
}
