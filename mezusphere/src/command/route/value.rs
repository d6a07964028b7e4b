//! Values of flags as people write them: sizes, times, `NAME=VALUE`. Each wrong one is told with what to write.

use mezusphere_model::route::{Cidr, CidrError, ClaimRule};
use serde_json::Value;

/// A time in milliseconds: `500ms`, `30s`, `5m`, `1h`, or a number of milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<u32, String> {
    let wrong = || format!("'{text}' is not a time: write 500ms, 30s, 5m or 1h");
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
    let scale: u64 = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let total = number.checked_mul(scale).and_then(|total| u32::try_from(total).ok());
    total.ok_or_else(|| format!("'{text}' is longer than 49 days"))
}

/// The same, or `none`, which is 0.
pub(super) fn milliseconds_or_none(text: &str) -> Result<u32, String> {
    if text == "none" { Ok(0) } else { milliseconds(text).map_err(|why| format!("{why}, or none")) }
}

/// Whole seconds that fit the API: `90s`, `30m`, `1h`.
pub(super) fn short_seconds(text: &str) -> Result<u32, String> {
    let seconds = crate::command::seconds(text)?;
    u32::try_from(seconds).map_err(|_| format!("'{text}' is out of range"))
}

/// A size in octets: `0`, `4096`, `512KiB`, `10MiB`, `1GiB`, and `10MB` for ten million.
pub(super) fn octets(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size: write 512KiB, 10MiB, 1GiB or a number of bytes");
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(scale).ok_or_else(|| format!("'{text}' is out of range"))
}

/// `NAME=VALUE`; the value may hold more of `=`, and may be empty.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}': write it as NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `NAME=VALUE[,VALUE]`: a claim and the values it may have. What reads as a number, `true` or `false` is one; a text in quotes is a
/// text, and may hold commas.
pub(super) fn claim_rule(text: &str) -> Result<ClaimRule, String> {
    let wrong = || format!("'{text}': write it as NAME=VALUE or NAME=VALUE,VALUE");
    let (name, mut rest) = text.split_once('=').ok_or_else(wrong)?;
    let mut any_of = Vec::new();
    loop {
        let mut quoted = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let (value, after) = match quoted.next() {
            Some(Ok(value)) if rest.starts_with('"') => {
                (Value::String(value), rest.get(quoted.byte_offset()..).unwrap_or_default())
            }
            _ => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (word, after) = rest.split_at_checked(end).ok_or_else(wrong)?;
                let scalar =
                    serde_json::from_str(word).ok().filter(|v: &Value| v.is_number() || v.is_boolean());
                (scalar.unwrap_or_else(|| Value::String(word.to_owned())), after)
            }
        };
        if value == Value::String(String::new()) {
            return Err(wrong());
        }
        any_of.push(value);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(ClaimRule { name: name.to_owned(), any_of }),
            None => return Err(wrong()),
        }
    }
}

/// A network in CIDR notation, or one address.
pub(super) fn network(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|why: CidrError| why.to_string())
}

/// `/old=/new`.
pub(super) fn replacement(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or_else(|| format!("'{text}': write it as /old=/new"))?;
    Ok((old.to_owned(), new.to_owned()))
}

/// A status that redirects; the server's own words come too late to name the flag.
pub(super) fn redirect_status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| [301, 302, 303, 307, 308].contains(status));
    status.ok_or_else(|| "write 301, 302, 303, 307 or 308".to_owned())
}

/// A size as people read it: the largest unit it is a whole number of.
pub(super) fn in_octets(octets: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.iter().find(|(bits, _)| octets != 0 && octets.trailing_zeros() >= *bits);
    whole.map_or_else(|| format!("{octets} B"), |(bits, unit)| format!("{} {unit}", octets >> bits))
}

/// A time as people read it.
pub(super) fn in_time(ms: u64) -> String {
    match ms {
        ms if ms % 1000 != 0 || ms == 0 => format!("{ms} ms"),
        ms if ms % 60_000 != 0 || ms < 120_000 => format!("{} s", ms / 1000),
        ms if ms % 3_600_000 != 0 => format!("{} min", ms / 60_000),
        ms => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_milliseconds() {
        for (text, ms) in
            [("2000", 2000), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(milliseconds(text), Ok(ms), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "1d", "2000h", "none", "1 s"] {
            assert!(milliseconds(bad).is_err(), "{bad}");
        }
        assert_eq!(milliseconds_or_none("none"), Ok(0));
    }

    #[test]
    fn a_size_has_a_unit_or_is_in_bytes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("1KiB", 1024),
            ("10MiB", 10_485_760),
            ("2GiB", 2 << 30),
            ("5MB", 5_000_000),
        ] {
            assert_eq!(octets(text), Ok(size), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "10M", "99999999999999999999", "99999999999999GiB"] {
            assert!(octets(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_claims_values_are_what_they_read_as_unless_they_stand_in_quotes() {
        for (text, values) in [
            ("plan=pro", json!(["pro"])),
            ("plan=pro,team", json!(["pro", "team"])),
            (r#"level=3,"3",true,"true",1.5"#, json!([3, "3", true, "true", 1.5])),
            (r#"team="a,b",c=d"#, json!(["a,b", "c=d"])),
            ("x=null,[1],{}", json!(["null", "[1]", "{}"])),
        ] {
            assert_eq!(json!(claim_rule(text).unwrap().any_of), values, "{text}");
        }
        for bad in ["plan", "plan=", "plan=a,", "plan=,a", r#"plan="a"b"#, r#"plan="""#] {
            assert!(claim_rule(bad).unwrap_err().contains("NAME=VALUE"), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(
            [0, 1000, 1 << 10, 10 << 20, (1 << 30) + (1 << 20)].map(in_octets),
            ["0 B", "1000 B", "1 KiB", "10 MiB", "1025 MiB"]
        );
        assert_eq!(
            [0, 500, 60_000, 90_000, 300_000, 3_600_000].map(in_time),
            ["0 ms", "500 ms", "60 s", "90 s", "5 min", "1 h"]
        );
    }
}
