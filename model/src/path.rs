//! How a request path is read, and every way an upstream might read it differently.
//!
//! Policy is decided on the readings; what the client sent is forwarded. A path that is plain has one
//! reading. One with `%2f`, `%5c`, encoded dots, dot segments or empty segments has several, and
//! [`crate::route::Site::find`] refuses it when they lead to different routes (R2).

/// Longest request target, in octets (design §10).
pub const URI_LEN_MAX: usize = 8 * 1024;

/// A path as one kind of upstream would read it: decoded, starting with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading(String);

impl Reading {
    /// The decoded path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path that may be routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath {
    readings: Vec<Reading>,
}

/// Why a path is refused whatever the routes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with `/`.
    #[error("a path starts with /")]
    NotAbsolute,
    /// Longer than [`URI_LEN_MAX`].
    #[error("the path is longer than {URI_LEN_MAX} octets")]
    TooLong,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("a % is not followed by two hexadecimal digits")]
    BadPercent,
    /// A control character, `\`, `#`, or a raw octet outside ASCII; or one of NUL and controls in encoded form.
    #[error("the path holds a character that is never allowed")]
    BadCharacter,
    /// The decoded octets are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
}

impl RequestPath {
    /// Reads the path of a request target, without its query.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if raw.len() > URI_LEN_MAX {
            return Err(PathError::TooLong);
        }
        // To be replaced by the full reader (all readings); kept while the crate grows.
        Ok(Self { readings: vec![Reading(raw.to_owned())] })
    }

    /// Every way it can be read, the most literal first; one for a plain path, never none.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }
}
