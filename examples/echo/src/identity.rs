//! Who is calling, read from the `mezu-*` headers: the part to copy into a workload of your own.
//!
//! A value is ASCII; `%`, `,` and everything else are percent-encoded as UTF-8, so a list is split at its commas first and
//! each item decoded after. What is empty is unknown.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

/// The signed-in caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Changes as people change theirs: keep `mezu-user-id` beside your own data instead.
    pub(crate) email: String,
    /// May change, may be empty.
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
}

impl Caller {
    /// The caller of a request; `None`: nobody is signed in.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        if raw(headers, "mezu-user-id").is_empty() {
            return None;
        }
        let roles = raw(headers, "mezu-roles").split(',').filter(|role| !role.is_empty());
        Some(Self {
            email: decode(raw(headers, "mezu-user-email")),
            name: decode(raw(headers, "mezu-user-name")),
            roles: roles.map(decode).collect(),
        })
    }

    /// What to call them.
    pub(crate) fn called(&self) -> &str {
        if self.name.is_empty() { &self.email } else { &self.name }
    }
}

/// The text of an encoded value.
fn decode(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn raw<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn names_outside_ascii_read_as_people_write_them() {
        let rows = [
            ("Ada Lovelace", "Ada Lovelace"),
            ("B%C3%B6b", "Böb"),
            ("%E5%B1%B1%E7%94%B0 %E5%A4%AA%E9%83%8E", "山田 太郎"),
            ("Lovelace%2C Ada", "Lovelace, Ada"),
            ("100%25", "100%"),
        ];
        for (value, name) in rows {
            let caller = Caller::read(&headers(&[("mezu-user-id", "usr_1"), ("mezu-user-name", value)]));
            assert_eq!(caller.unwrap().called(), name);
        }
    }

    #[test]
    fn a_list_is_split_before_its_items_are_decoded() {
        let fields = [("mezu-user-id", "usr_1"), ("mezu-roles", "customer,a%2Cb,K%C3%B6ln")];
        assert_eq!(Caller::read(&headers(&fields)).unwrap().roles, ["customer", "a,b", "Köln"]);
    }

    #[test]
    fn without_an_id_nobody_is_signed_in() {
        let empty = headers(&[("mezu-user-id", ""), ("mezu-user-name", "Ada"), ("mezu-roles", "")]);
        assert_eq!((Caller::read(&empty), Caller::read(&HeaderMap::new())), (None, None));
    }

    #[test]
    fn whoever_has_no_name_is_called_by_their_address() {
        let fields = [("mezu-user-id", "usr_1"), ("mezu-user-email", "ada@shop.example"), ("mezu-roles", "")];
        let caller = Caller::read(&headers(&fields)).unwrap();
        assert_eq!((caller.called(), caller.roles.len()), ("ada@shop.example", 0));
    }
}
