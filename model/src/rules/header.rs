//! Header fields that a route sets or removes, and those it may never touch.

use serde::{Deserialize, Serialize};

use super::{RULES_MAX, RuleError, field};
use crate::header::{HOP_BY_HOP, is_forwarding, is_reserved};

/// Longest value of a header rule, in octets.
pub const HEADER_VALUE_LEN_MAX: usize = 4 * 1024;

/// Names and values that one list sets, in octets together: what still fits beside an ordinary head in a server's limit.
pub const HEADER_LIST_LEN_MAX: usize = 16 * 1024;

/// A field to set: whatever was there under this name is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderValueRule {
    /// In lower case.
    pub name: String,
    /// Its one value; empty is a value too.
    pub value: String,
}

/// Fields to remove, and then fields to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderRules {
    /// In no order; each name once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValueRule>,
    /// Names in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// Which way the fields go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl HeaderRules {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Every name with a rule.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.set.iter().map(|rule| rule.name.as_str()).chain(self.remove.iter().map(String::as_str))
    }

    pub(super) fn check(&self, side: Side) -> Result<(), RuleError> {
        if self.set.len() > RULES_MAX || self.remove.len() > RULES_MAX {
            return Err(RuleError::TooMany(match side {
                Side::Request => "request headers",
                Side::Response => "response headers",
            }));
        }
        let mut seen: Vec<&str> = Vec::with_capacity(self.set.len() + self.remove.len());
        for name in self.names() {
            name_allowed(name, side)?;
            if seen.contains(&name) {
                return Err(RuleError::HeaderTwice(name.to_owned()));
            }
            seen.push(name);
        }
        for HeaderValueRule { name, value } in &self.set {
            if value.len() > HEADER_VALUE_LEN_MAX {
                return Err(RuleError::HeaderValueLength(name.clone()));
            }
            if !field::is_value(value) {
                return Err(RuleError::HeaderValue(name.clone()));
            }
        }
        let octets: usize = self.set.iter().map(|rule| rule.name.len() + rule.value.len()).sum();
        if octets > HEADER_LIST_LEN_MAX { Err(RuleError::HeaderListLength) } else { Ok(()) }
    }
}

/// Whether a rule may touch the field.
fn name_allowed(name: &str, side: Side) -> Result<(), RuleError> {
    // Before its form is looked at: `mezu_user_id` is told apart from a mistake.
    if is_reserved(name) {
        return Err(RuleError::HeaderReserved(name.to_owned()));
    }
    if !field::is_name(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(RuleError::HeaderName(name.to_owned()));
    }
    let forbidden = |why| Err(RuleError::HeaderForbidden(name.to_owned(), why));
    if HOP_BY_HOP.contains(&name) || name == "http2-settings" || name == "proxy-authentication-info" {
        return forbidden("it belongs to one connection, not to the route");
    }
    if is_forwarding(name) {
        return forbidden("it tells the client's address, which only Mezusphere knows");
    }
    if name.starts_with("sec-websocket-") {
        return forbidden("it belongs to the handshake of a WebSocket");
    }
    match (name, side) {
        ("content-length" | "content-encoding" | "content-range" | "trailer" | "expect" | "range", _) => {
            forbidden("it says how the message is framed or encoded")
        }
        ("host", _) => forbidden("the upstream host is a rule of its own"),
        ("cookie" | "set-cookie", _) => forbidden("cookies belong to the application and to sign-in"),
        ("origin", Side::Request) => forbidden("what may be asked from other sites is decided on it"),
        ("alt-svc", Side::Response) => forbidden("it tells how the edge is reached"),
        _ => Ok(()),
    }
}
