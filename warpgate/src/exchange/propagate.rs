//! The caller in other proxies' words, and chosen claims as headers, on routes that ask for them
//! ([`IdentityForward`](mezusphere_model::route::IdentityForward)).
//!
//! Workloads that were written for another proxy read `remote-user` or `x-forwarded-user` as that proxy writes them: plain
//! UTF-8, not percent-encoded. Clients' own were stripped on every route (R4); ours are set last, after the route's
//! header rules, so that no rule can say who the caller is either. What is unknown is set empty.

use http::{HeaderMap, HeaderName, HeaderValue};
use mezusphere_model::Identity;
use mezusphere_model::header::{self, REMOTE_USER, X_FORWARDED_USER};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::{IdentityForward, IdentityProfile};
use serde_json::Value;

use super::principal::Verified;

/// Longest value of a claim's header, in octets as sent: longer ones are left empty, because many servers refuse a whole
/// request for one long field; the assertion has them.
const CLAIM_VALUE_LEN_MAX: usize = 1024;

/// Writes what the route wants its upstream to be told of `caller`; nobody is told as empty values.
pub(super) fn write(forward: &IdentityForward, caller: Option<&Verified>, headers: &mut HeaderMap) {
    static NOBODY: Caller = Caller::nobody();
    if forward.is_empty() {
        return;
    }
    profiles(&forward.profiles, caller.map_or(&NOBODY, Verified::aliases), headers);
    claims(&forward.claims, caller.map(|caller| &caller.identity), headers);
}

fn profiles(profiles: &[IdentityProfile], caller: &Caller, headers: &mut HeaderMap) {
    for profile in profiles {
        let (names, values) = match profile {
            IdentityProfile::RemoteUser => {
                (REMOTE_USER, [&caller.login, &caller.email, &caller.name, &caller.groups])
            }
            IdentityProfile::XForwardedUser => {
                (X_FORWARDED_USER, [&caller.id, &caller.email, &caller.login, &caller.groups])
            }
        };
        for (name, value) in names.into_iter().zip(values) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

/// Writes the claims the route lets through. Two claims whose names fold to one header: the first that the route names.
fn claims(allowed: &[String], caller: Option<&Identity>, headers: &mut HeaderMap) {
    for claim in allowed {
        let Some(name) = header::of_claim(claim).and_then(|name| HeaderName::try_from(name).ok()) else {
            continue;
        };
        let text = caller.and_then(|caller| caller.claims.get(claim)).map(text).unwrap_or_default();
        let text = if text.len() > CLAIM_VALUE_LEN_MAX { String::new() } else { text };
        // Encoded values are printable ASCII.
        let value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        // Nothing of this name can be here that is not ours: clients' were stripped, and rules touch none.
        headers.entry(name).or_insert(value);
    }
}

/// A claim as a header's value: text as it is, a list comma-separated, an object as JSON; all percent-encoded as the other
/// identity headers are.
fn text(claim: &Value) -> String {
    match claim {
        Value::Null => String::new(),
        Value::String(text) => header::encode_value(text),
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => item(claim),
    }
}

fn item(value: &Value) -> String {
    match value {
        Value::String(text) => header::encode_value(text),
        other => header::encode_value(&other.to_string()),
    }
}

/// What the profiles say of one caller, ready to be copied into each request.
#[derive(Debug)]
pub(super) struct Caller {
    /// What applications know them by: a person's address, a machine's id, which no person can have.
    login: HeaderValue,
    /// What stays the same whatever else of them changes.
    id: HeaderValue,
    email: HeaderValue,
    name: HeaderValue,
    groups: HeaderValue,
}

impl Caller {
    const fn nobody() -> Self {
        const EMPTY: HeaderValue = HeaderValue::from_static("");
        Self { login: EMPTY, id: EMPTY, email: EMPTY, name: EMPTY, groups: EMPTY }
    }

    pub(super) fn of(identity: &Identity) -> Self {
        let id = identity.subject.to_string();
        let is_person = matches!(identity.subject, Subject::User(_)) && !identity.email.is_empty();
        let groups: Vec<&str> = identity.roles.iter().map(mezusphere_model::slug::Name::as_str).collect();
        Self {
            login: plain(if is_person { &identity.email } else { &id }),
            id: plain(&id),
            email: plain(&identity.email),
            name: plain(&identity.name),
            groups: plain(&groups.join(",")),
        }
    }
}

/// A value in plain UTF-8, without what no field may hold.
fn plain(text: &str) -> HeaderValue {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    HeaderValue::try_from(text.trim()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mezusphere_model::Timestamp;
    use mezusphere_model::id::{ServiceAccountId, UserId};
    use mezusphere_model::identity::{Assurance, Method};
    use mezusphere_model::slug::Name;
    use serde_json::json;

    use super::*;

    fn zoe() -> Identity {
        Identity {
            subject: Subject::User(UserId::from_bits(3)),
            session: None,
            email: "zoe@shop.example".to_owned(),
            name: "Zoë, 100%\r\nremote-groups: admin".to_owned(),
            roles: vec![Name::parse("customer").unwrap(), Name::parse("vip").unwrap()],
            permissions: vec![],
            methods: vec![Method::Password],
            assurance: Assurance::Aal1,
            authenticated_at: Timestamp::from_seconds(0),
            claims: BTreeMap::from([
                ("department".to_owned(), json!("Köln, 2")),
                ("teams".to_owned(), json!(["a,b", "c", 4])),
                ("limits".to_owned(), json!({ "orders": 3 })),
                ("on".to_owned(), json!(true)),
                ("gone".to_owned(), json!(null)),
                ("long".to_owned(), json!("x".repeat(CLAIM_VALUE_LEN_MAX + 1))),
                ("secret".to_owned(), json!("not for this route")),
            ]),
        }
    }

    fn bytes(headers: &HeaderMap, name: &str) -> String {
        let all: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(all.len(), 1, "{name}");
        String::from_utf8(all.first().unwrap().as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn each_profile_says_who_it_is_in_its_familys_words() {
        let mut headers = HeaderMap::new();
        let both = [IdentityProfile::RemoteUser, IdentityProfile::XForwardedUser];
        profiles(&both, &Caller::of(&zoe()), &mut headers);
        let rows = [
            ("remote-user", "zoe@shop.example"),
            ("remote-email", "zoe@shop.example"),
            ("remote-name", "Zoë, 100%remote-groups: admin"),
            ("remote-groups", "customer,vip"),
            ("x-forwarded-user", &UserId::from_bits(3).to_string()),
            ("x-forwarded-email", "zoe@shop.example"),
            ("x-forwarded-preferred-username", "zoe@shop.example"),
            ("x-forwarded-groups", "customer,vip"),
        ];
        assert_eq!(headers.len(), rows.len());
        for (name, value) in rows {
            assert_eq!(bytes(&headers, name), value, "{name}");
        }
    }

    #[test]
    fn r04_a_machine_is_known_by_its_id_whatever_it_is_called() {
        let account = ServiceAccountId::from_bits(7);
        let machine = Identity {
            subject: Subject::ServiceAccount(account),
            email: String::new(),
            name: "zoe@shop.example".to_owned(),
            ..zoe()
        };
        let mut headers = HeaderMap::new();
        profiles(&[IdentityProfile::RemoteUser], &Caller::of(&machine), &mut headers);
        assert_eq!(bytes(&headers, "remote-user"), account.to_string());
        assert_eq!(bytes(&headers, "remote-email"), "");
    }

    #[test]
    fn r04_nobody_is_told_as_nobody_and_what_was_there_is_gone() {
        let mut headers = HeaderMap::new();
        for name in REMOTE_USER {
            headers.append(name, HeaderValue::from_static("admin"));
            headers.append(name, HeaderValue::from_static("root"));
        }
        let forward = IdentityForward {
            profiles: vec![IdentityProfile::RemoteUser],
            claims: vec!["department".to_owned()],
        };
        write(&forward, None, &mut headers);
        for name in REMOTE_USER.into_iter().chain(["mezu-claim-department"]) {
            assert_eq!(bytes(&headers, name), "", "{name}");
        }
    }

    #[test]
    fn claims_are_told_only_if_the_route_names_them() {
        let mut headers = HeaderMap::new();
        let named = ["department", "teams", "limits", "on", "gone", "long", "unknown", "Department"];
        claims(&named.map(str::to_owned), Some(&zoe()), &mut headers);
        let rows = [
            ("mezu-claim-department", "K%C3%B6ln%2C 2"),
            ("mezu-claim-teams", "a%2Cb,c,4"),
            ("mezu-claim-limits", "{\"orders\":3}"),
            ("mezu-claim-on", "true"),
            ("mezu-claim-gone", ""),
            ("mezu-claim-long", ""),
            ("mezu-claim-unknown", ""),
        ];
        assert_eq!(headers.len(), rows.len(), "{headers:?}");
        for (name, value) in rows {
            assert_eq!(bytes(&headers, name), value, "{name}");
        }
    }
}
