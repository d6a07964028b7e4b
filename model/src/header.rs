//! Header names that belong to Mezusphere, and those no proxy may pass on.
//!
//! Any spelling that a workload could read as one of ours is reserved: names are folded first (case, and
//! every character that is not a letter or digit becomes `-`), because CGI-like workloads fold that way too.

/// Every header whose folded name starts so is ours.
pub const RESERVED_PREFIX: &str = "mezu-";

/// The user's or machine's id.
pub const USER_ID: &str = "mezu-user-id";
/// The user's e-mail address.
pub const USER_EMAIL: &str = "mezu-user-email";
/// The user's name.
pub const USER_NAME: &str = "mezu-user-name";
/// How they signed in: `amr` values joined by `+`.
pub const AUTH_METHOD: &str = "mezu-auth-method";
/// When they signed in, RFC 3339 UTC.
pub const AUTH_TIME: &str = "mezu-auth-time";
/// Roles, comma-separated.
pub const ROLES: &str = "mezu-roles";
/// Permissions, comma-separated.
pub const PERMISSIONS: &str = "mezu-permissions";
/// The session's id.
pub const SESSION_ID: &str = "mezu-session-id";
/// The signed assertion.
pub const ASSERTION: &str = "mezu-assertion";

/// All identity headers: each is set on every request of every route, empty when unknown.
pub const IDENTITY: [&str; 9] =
    [USER_ID, USER_EMAIL, USER_NAME, AUTH_METHOD, AUTH_TIME, ROLES, PERMISSIONS, SESSION_ID, ASSERTION];

/// Fields that describe one connection (RFC 9110 §7.6.1) and are never passed on.
pub const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers about the client's address that we write ourselves and never pass on as they came.
pub const FORWARDING: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
];

/// Identity fields of the `remote-user` family (Authelia, Apache's and nginx's proxies): user, e-mail, name, groups.
pub const REMOTE_USER: [&str; 4] = ["remote-user", "remote-email", "remote-name", "remote-groups"];

/// Identity fields of the `x-forwarded-user` family (oauth2-proxy): user, e-mail, preferred user name, groups.
pub const X_FORWARDED_USER: [&str; 4] =
    ["x-forwarded-user", "x-forwarded-email", "x-forwarded-preferred-username", "x-forwarded-groups"];

/// What the name of a header that carries one claim of the caller begins with; the claim's folded name follows.
pub const CLAIM_PREFIX: &str = "mezu-claim-";

/// Whether a header of this name says who the caller is in another proxy's words, in any foldable spelling.
///
/// Never passed on as a client sent it, whichever route it is for: a workload that believes such a field believes it on
/// every path, so a public route beside one that sets it must not be a way around it (R4).
pub fn is_alias(name: &str) -> bool {
    REMOTE_USER.iter().chain(&X_FORWARDED_USER).any(|known| folds_to(name, known))
}

/// The header that carries the claim of this name: folded, so that `Cost Center` and `cost_center` are one.
///
/// `None` if nothing of the name is left.
pub fn of_claim(claim: &str) -> Option<String> {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let folded: String = claim.chars().map(fold).collect();
    let folded = folded.trim_matches('-');
    (!folded.is_empty()).then(|| format!("{CLAIM_PREFIX}{folded}"))
}

/// Whether a header of this name is ours, in any spelling a workload might fold to ours.
///
/// `name` is a header name as received; case does not matter. Allocates nothing.
pub fn is_reserved(name: &str) -> bool {
    folds_to_prefix(name, RESERVED_PREFIX)
}

/// Whether a header of this name tells (or pretends to tell) the client's address, in any foldable spelling.
pub fn is_forwarding(name: &str) -> bool {
    FORWARDING.iter().any(|known| folds_to(name, known))
}

/// Whether a client header of this name is dropped because a workload might read `_` as `-` (R5).
pub fn is_ambiguous(name: &str) -> bool {
    name.bytes().any(|byte| byte != b'-' && !byte.is_ascii_alphanumeric())
}

/// Whether `name` folds to exactly `known`, which is already folded.
pub fn folds_to(name: &str, known: &str) -> bool {
    name.len() == known.len() && folds_to_prefix(name, known)
}

fn folds_to_prefix(name: &str, prefix: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() >= prefix.len() && name.bytes().map(fold).zip(prefix.bytes()).all(|(a, b)| a == b)
}

/// Writes a value for an identity header: `%`, `,`, control characters and everything outside ASCII are
/// percent-encoded as UTF-8, so that a list splits at commas and no proxy sees an octet it dislikes.
pub fn encode_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' && byte != b',' {
            out.push(char::from(byte));
        } else {
            out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    out
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r04_every_spelling_of_a_reserved_name_is_reserved() {
        for name in
            ["mezu-user-id", "Mezu-User-Id", "MEZU_USER_ID", "mezu_roles", "mezu.user", "mezu-anything"]
        {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["mezu", "x-mezu-user", "amezu-user"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn r10_forwarding_headers_are_known_in_every_spelling() {
        assert!(is_forwarding("X_Forwarded_For"));
        assert!(is_forwarding("Forwarded"));
        assert!(!is_forwarding("x-forwarded-for-real"));
    }

    #[test]
    fn r04_other_proxies_names_for_the_caller_are_known_in_every_spelling() {
        for name in [
            "Remote-User",
            "REMOTE_GROUPS",
            "remote.name",
            "X-Forwarded-User",
            "x_forwarded_preferred_username",
        ] {
            assert!(is_alias(name), "{name}");
        }
        for name in ["remote-users", "x-remote-user", "x-forwarded-for", "remote"] {
            assert!(!is_alias(name), "{name}");
        }
    }

    #[test]
    fn a_claims_header_has_one_spelling() {
        let rows = [
            ("department", Some("mezu-claim-department")),
            ("Cost Center", Some("mezu-claim-cost-center")),
            ("cost_center", Some("mezu-claim-cost-center")),
            ("https://shop.example/tier", Some("mezu-claim-https---shop-example-tier")),
            ("ö", None),
            ("", None),
        ];
        for (claim, header) in rows {
            assert_eq!(of_claim(claim).as_deref(), header, "{claim}");
            assert!(header.is_none_or(is_reserved), "{claim}: no client may send it");
        }
    }

    #[test]
    fn a_header_value_is_ascii_without_commas() {
        assert_eq!(encode_value("Zoë, 100%"), "Zo%C3%AB%2C 100%25");
        assert_eq!(encode_value("a\r\nb"), "a%0D%0Ab");
    }
}
