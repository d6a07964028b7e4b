//! Which custom claims a user may have: few, small, and none that could be taken for what we say ourselves.

use std::collections::BTreeSet;

use mezusphere_model::route::CLAIM_NAME_LEN_MAX;
use serde_json::Value;

use crate::api::types::Claims;

/// Most claims of one user.
const CLAIMS_MAX: usize = 20;

/// Longest claims of one user as JSON, in octets: they travel with the user's sessions to every edge, and in assertions.
const LEN_MAX: usize = 4096;

/// How deep a value may be nested.
const DEPTH_MAX: usize = 4;

/// What tokens and assertions say themselves (RFC 7519 §4.1, OpenID Connect Core §5.1, and ours), folded.
const OURS: [&str; 34] = [
    "acr",
    "act",
    "aud",
    "auth-time",
    "azp",
    "claims",
    "client-id",
    "cnf",
    "email",
    "email-verified",
    "exp",
    "family-name",
    "given-name",
    "groups",
    "iat",
    "id",
    "iss",
    "jti",
    "kid",
    "name",
    "nbf",
    "nickname",
    "nonce",
    "permissions",
    "phone-number",
    "picture",
    "preferred-username",
    "profile",
    "roles",
    "scope",
    "sid",
    "sub",
    "typ",
    "amr",
];

/// A name as headers have it: what differs only in case or punctuation is one claim there.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether these can be a user's claims; the error is a sentence about the first that cannot.
pub(super) fn check(claims: &Claims) -> Result<(), String> {
    if claims.len() > CLAIMS_MAX {
        return Err(format!("claims: at most {CLAIMS_MAX}"));
    }
    let mut seen = BTreeSet::new();
    for (name, value) in claims {
        let plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.len() <= CLAIM_NAME_LEN_MAX
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !plain {
            return Err(format!(
                "claims: a name has 1 to {CLAIM_NAME_LEN_MAX} letters, digits, _ - and ., and begins with a letter"
            ));
        }
        let folded = folded(name);
        if OURS.contains(&folded.as_str()) || folded.starts_with("mezu") {
            return Err(format!("claims: {name} is said by the assertion itself; choose another name"));
        }
        if !seen.insert(folded) {
            return Err(format!("claims: {name} differs from another one only in case or punctuation"));
        }
        if value.is_null() || depth(value) > DEPTH_MAX {
            return Err(format!("claims: {name} is null, or nested more than {DEPTH_MAX} deep"));
        }
    }
    let len = serde_json::to_vec(claims).map_or(usize::MAX, |text| text.len());
    if len > LEN_MAX { Err(format!("claims: at most {LEN_MAX} octets of JSON in all")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(claims: Value) -> Result<(), String> {
        check(&serde_json::from_value(claims).unwrap())
    }

    #[test]
    fn small_claims_with_names_of_their_own_are_taken() {
        for good in [
            json!({}),
            json!({ "plan": "pro", "seats": 3, "beta": true, "team-id": ["a", "b"], "org.unit": { "a": { "b": 1 } } }),
        ] {
            assert_eq!(checked(good), Ok(()));
        }
    }

    #[test]
    fn r6_no_claim_can_be_taken_for_what_the_assertion_says() {
        for name in
            ["sub", "ROLES", "Email_Verified", "auth.time", "mezu_user_id", "Mezu-Roles", "permissions"]
        {
            assert!(checked(json!({ name: "x" })).unwrap_err().contains("assertion"), "{name}");
        }
    }

    #[test]
    fn names_sizes_and_depths_have_bounds() {
        let long = "x".repeat(LEN_MAX);
        let many: Value =
            (0..=CLAIMS_MAX).map(|n| (format!("c{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
        for bad in [
            json!({ "": 1 }),
            json!({ "1st": 1 }),
            json!({ "a b": 1 }),
            json!({ "a\nb": 1 }),
            json!({ "ä": 1 }),
            json!({ "a".repeat(65): 1 }),
            json!({ "cost_center": 1, "Cost-Center": 2 }),
            json!({ "a": null }),
            json!({ "a": [[[[1]]]] }),
            json!({ "a": long }),
            many,
        ] {
            assert!(checked(bad.clone()).is_err(), "{bad}");
        }
    }
}
