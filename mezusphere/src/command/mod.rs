//! The verbs, one file each: what a command takes, what it asks the admin API, what it prints.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod edge;
pub(crate) mod environment;
pub(crate) mod host;
pub(crate) mod operator;
pub(crate) mod organization;
pub(crate) mod project;
pub(crate) mod role;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod service_account;
pub(crate) mod store;
pub(crate) mod user;
pub(crate) mod warpgate;

use std::path::PathBuf;

use mezusphere_model::Entropy;
use mezusphere_model::platform::PRODUCTION;

use crate::client::Client;
use crate::output::Output;

/// What every admin command is given.
pub(crate) struct Context {
    /// The admin API.
    pub(crate) client: Client,
    /// Where the result goes.
    pub(crate) output: Output,
    /// For passwords made here.
    pub(crate) entropy: Entropy,
}

/// Which environment of a project.
#[derive(Debug, clap::Args)]
pub(crate) struct EnvironmentArg {
    /// The environment.
    #[arg(long, short, default_value = PRODUCTION, value_name = "NAME")]
    pub(crate) environment: String,
}

impl EnvironmentArg {
    /// Its path in the API.
    pub(crate) fn path(&self, project: &str) -> String {
        format!("/projects/{}/environments/{}", segment(project), segment(&self.environment))
    }
}

/// A project's path in the API.
pub(crate) fn project_path(project: &str) -> String {
    format!("/projects/{}", segment(project))
}

/// Writes what people typed as one path segment (RFC 3986 §3.3).
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Where a server keeps its state unless it is told otherwise.
pub(crate) fn default_data() -> PathBuf {
    PathBuf::from("/var/lib/mezusphere")
}

/// A time span as people write it: `90s`, `15m`, `12h`, `30d`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let unit = text.chars().last().ok_or("give a number and a unit: 90s, 15m, 12h, 30d")?;
    let scale: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(format!("'{text}' has no unit: write 90s, 15m, 12h or 30d")),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_| format!("'{number}' is not a whole number"))?;
    number.checked_mul(scale).filter(|total| *total > 0).ok_or_else(|| format!("'{text}' is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_number_and_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        for bad in ["", "90", "0s", "d", "-1h", "1.5h", "99999999999999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_typed_stays_one_path_segment() {
        assert_eq!(segment("shop"), "shop");
        assert_eq!(segment("../admin?x"), "..%2Fadmin%3Fx");
    }
}
