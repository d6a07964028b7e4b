//! A value that does not print itself.

use std::fmt;

/// Holds a secret or a person's data; `Debug` and `Display` show `…`. Reading it is spelt out: [`Redacted::expose`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it. Never log what this returns.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value, unwrapped.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Redacted<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r25_a_redacted_value_shows_nothing_of_itself() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "printed by Debug")]
        struct Config {
            user: &'static str,
            password: Redacted<&'static str>,
        }
        let config = Config { user: "ann", password: Redacted::new("hunter2") };
        assert_eq!(format!("{config:?}"), r#"Config { user: "ann", password: … }"#);
        assert_eq!(format!("{0} {0:#?} {0:>20}", config.password), "… … …");
        assert_eq!(*config.password.expose(), "hunter2");
    }
}
