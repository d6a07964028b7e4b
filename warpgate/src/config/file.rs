//! The configuration file: TOML whose keys have the names of the flags. A key nobody knows is refused, with the name
//! that was meant; a value of the wrong kind is refused with its line.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use mezusphere_model::slug::Slug;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Given, Output, name};
use crate::key::reason;
use crate::limits::CONFIG_LEN_MAX;
use crate::upstream::{DEFAULT_NAME, Declared, HealthCheck, Named, Setting, Settings, UpstreamError};

/// Every key a file may have, in the order in which they are shown.
pub const NAMES: [&str; 14] = [
    name::KEY_FILE,
    name::UPSTREAM,
    name::UPSTREAM_CA,
    name::UPSTREAM_PIN,
    name::UPSTREAM_SERVER_NAME,
    name::UPSTREAM_PROTOCOL,
    name::HEALTH_CHECK,
    name::REQUIRE_ORIGIN,
    name::STATE_DIR,
    name::PROXY,
    name::HEALTH,
    name::EXIT_ON_FAILURE,
    name::OUTPUT,
    name::LOG,
];

/// Keys of an `[[upstream]]` table.
const UPSTREAM_NAMES: [&str; 7] = ["name", "url", "ca", "pin", "server-name", "protocol", "health-check"];

/// Keys of a `health-check` table.
const HEALTH_NAMES: [&str; 5] = ["path", "every", "timeout", "good-after", "bad-after"];

/// How alike a wrong key and a right one must be for the right one to be suggested.
const ALIKE: f64 = 0.75;

/// Why a configuration file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {what}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// Reads a configuration file. Paths in it are relative to its directory.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong with it.
pub fn read(path: &Path) -> Result<Given, ConfigError> {
    let unreadable = |why: std::io::Error| ConfigError {
        path: path.to_owned(),
        line: None,
        what: format!("the configuration file cannot be read: {}", reason(&why)),
        next: "check the path given with --config, and that this user may read it".to_owned(),
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(CONFIG_LEN_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > CONFIG_LEN_MAX {
        return Err(ConfigError {
            path: path.to_owned(),
            line: None,
            what: format!("it is longer than {CONFIG_LEN_MAX} octets, so it is no configuration file"),
            next: "check the path given with --config".to_owned(),
        });
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let reader = Reader { path, text: &text, directory: directory.unwrap_or(Path::new(".")) };
    reader.read()
}

/// What is wrong, before it is known in which file.
struct Wrong {
    at: std::ops::Range<usize>,
    what: String,
    next: String,
}

type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    directory: &'a Path,
}

impl Reader<'_> {
    fn read(&self) -> Result<Given, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|why| {
            self.error(Wrong {
                at: why.span().unwrap_or(0..0),
                what: format!("this is not TOML: {}", why.message()),
                next: "a text needs quotes, and a table of upstreams [[upstream]]; see https://toml.io"
                    .to_owned(),
            })
        })?;
        let mut given = Given::default();
        for (key, value) in table.get_ref() {
            self.entry(&mut given, key.get_ref(), key.span(), value).map_err(|wrong| self.error(wrong))?;
        }
        Ok(given)
    }

    fn error(&self, wrong: Wrong) -> ConfigError {
        let before = self.text.get(..wrong.at.start).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        ConfigError { path: self.path.to_owned(), line: Some(line), what: wrong.what, next: wrong.next }
    }

    fn entry(
        &self,
        given: &mut Given,
        key: &str,
        at: std::ops::Range<usize>,
        value: Value<'_, '_>,
    ) -> Result<(), Wrong> {
        match key {
            name::KEY_FILE => given.key_file = Some(self.path_of(value)?),
            name::UPSTREAM => given.upstreams = self.upstreams(value)?,
            name::UPSTREAM_CA => {
                say::<PathBuf>(given, value, |path| Setting::Ca(self.directory.join(path)))?;
            }
            name::UPSTREAM_PIN => say(given, value, Setting::Pin)?,
            name::UPSTREAM_SERVER_NAME => say(given, value, Setting::ServerName)?,
            name::UPSTREAM_PROTOCOL => say(given, value, Setting::Protocol)?,
            name::HEALTH_CHECK => say(given, value, Setting::Health)?,
            name::REQUIRE_ORIGIN => given.require_origin = Some(truth(value)?),
            name::STATE_DIR => given.state_dir = Some(self.path_of(value)?),
            name::PROXY => given.proxy = Some(string(value)?.to_owned()),
            name::HEALTH => given.health = Some(parsed(value, "write \"127.0.0.1:9090\"")?),
            name::EXIT_ON_FAILURE => given.exit_on_failure = Some(truth(value)?),
            name::OUTPUT => {
                given.output = Some(match string(value)? {
                    "text" => Output::Text,
                    "json" => Output::Json,
                    other => {
                        return Err(wrong(
                            value,
                            &format!("{other:?} is not a form of output"),
                            "write text or json",
                        ));
                    }
                });
            }
            name::LOG => given.log = Some(string(value)?.to_owned()),
            "key" => {
                return Err(Wrong {
                    at,
                    what: "a connection key does not belong in a configuration file".to_owned(),
                    next: "put it into a file that only its user can read, and name that with key-file"
                        .to_owned(),
                });
            }
            other => return Err(unknown(other, at, &NAMES)),
        }
        Ok(())
    }

    fn path_of(&self, value: Value<'_, '_>) -> Result<PathBuf, Wrong> {
        Ok(self.directory.join(string(value)?))
    }

    fn upstreams(&self, value: Value<'_, '_>) -> Result<Vec<Declared>, Wrong> {
        one_or_several(value)
            .map(|one| match one.get_ref().as_table() {
                Some(table) => self.upstream(one, table),
                None => parsed(one, "write \"[NAME=]URL\", or a table [[upstream]] with a url"),
            })
            .collect()
    }

    fn upstream(&self, whole: Value<'_, '_>, table: &DeTable<'_>) -> Result<Declared, Wrong> {
        let (mut name, mut target, mut settings) = (DEFAULT_NAME.to_owned(), None, Settings::default());
        for (key, value) in table {
            match &**key.get_ref() {
                "name" => string(value)?.clone_into(&mut name),
                "url" => target = Some(parsed(value, "write \"http://127.0.0.1:3000\"")?),
                "ca" => settings.ca = Some(self.path_of(value)?),
                "pin" => settings.pin = Some(parsed(value, "write \"sha256//BASE64\"")?),
                "server-name" => settings.server_name = Some(string(value)?.to_owned()),
                "protocol" => settings.protocol = Some(parsed(value, "write auto, h1 or h2")?),
                "health-check" => settings.health = Some(health(value)?),
                other => return Err(unknown(other, key.span(), &UPSTREAM_NAMES)),
            }
        }
        let next = "see docs/operations/warpgate.md for what an [[upstream]] may hold";
        let name = Slug::parse(&name)
            .map_err(|why| wrong(whole, &UpstreamError::Name { name, why }.to_string(), next))?;
        let target = target
            .ok_or_else(|| wrong(whole, "this upstream has no url", "add: url = \"http://HOST:PORT\""))?;
        settings.check(&name, &target).map_err(|why| wrong(whole, &why.to_string(), next))?;
        Ok(Declared { name, target, settings })
    }
}

/// `[NAME=]VALUE`, one or several.
fn say<T: FromStr>(
    given: &mut Given,
    value: Value<'_, '_>,
    setting: impl Fn(T) -> Setting,
) -> Result<(), Wrong>
where
    UpstreamError: From<T::Err>,
{
    for one in one_or_several(value) {
        let named: Named<T> =
            parsed(one, "write \"VALUE\", or \"NAME=VALUE\" for another than the default upstream")?;
        given.said.push((named.name, setting(named.value)));
    }
    Ok(())
}

fn health(value: Value<'_, '_>) -> Result<HealthCheck, Wrong> {
    let Some(table) = value.get_ref().as_table() else {
        return parsed(value, "write \"/healthz\", or a table with a path");
    };
    let path =
        table.iter().find(|(key, _)| key.get_ref() == "path").map(|(_, value)| string(value)).transpose()?;
    let Some(path) = path else {
        return Err(wrong(value, "this health check has no path", "add: path = \"/healthz\""));
    };
    let unusable = |why: UpstreamError| wrong(value, &why.to_string(), "see docs/operations/warpgate.md");
    let mut check = HealthCheck::new(path).map_err(unusable)?;
    for (key, value) in table {
        match &**key.get_ref() {
            "path" => {}
            "every" => check.every = duration(value)?,
            "timeout" => check.timeout = duration(value)?,
            "good-after" => check.good_after = count(value)?,
            "bad-after" => check.bad_after = count(value)?,
            other => return Err(unknown(other, key.span(), &HEALTH_NAMES)),
        }
    }
    check.check().map_err(unusable)?;
    Ok(check)
}

fn one_or_several<'a, 'i>(value: Value<'a, 'i>) -> impl Iterator<Item = Value<'a, 'i>> {
    let several = value.get_ref().as_array();
    several.into_iter().flat_map(|array| array.iter()).chain(several.is_none().then_some(value))
}

fn wrong(value: Value<'_, '_>, what: &str, next: &str) -> Wrong {
    Wrong { at: value.span(), what: what.to_owned(), next: next.to_owned() }
}

fn unknown(key: &str, at: std::ops::Range<usize>, known: &[&str]) -> Wrong {
    let alike = known.iter().map(|name| (strsim::jaro_winkler(key, name), name));
    let nearest = alike.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    let what = format!("there is no setting {key:?}");
    let next = match nearest {
        Some((_, name)) => format!("write {name}, if that is what was meant"),
        None => format!("known here: {}", known.join(", ")),
    };
    Wrong { at, what, next }
}

fn string<'a>(value: Value<'a, '_>) -> Result<&'a str, Wrong> {
    let text = value.get_ref().as_str();
    text.ok_or_else(|| {
        wrong(
            value,
            &format!("a text is wanted here, not a {}", value.get_ref().type_str()),
            "put it in quotes",
        )
    })
}

fn truth(value: Value<'_, '_>) -> Result<bool, Wrong> {
    let truth = value.get_ref().as_bool();
    truth.ok_or_else(|| wrong(value, "true or false is wanted here", "write true or false, without quotes"))
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(value: Value<'_, '_>, next: &str) -> Result<T, Wrong> {
    string(value)?.parse().map_err(|why: T::Err| wrong(value, &why.to_string(), next))
}

fn count(value: Value<'_, '_>) -> Result<u32, Wrong> {
    let number = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
    number.ok_or_else(|| wrong(value, "a whole number is wanted here", "write it without quotes: 3"))
}

/// `500ms`, `10s`, `2m`.
fn duration(value: Value<'_, '_>) -> Result<Duration, Wrong> {
    let text = string(value)?;
    let cut = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(cut).unwrap_or((text, ""));
    let one = match unit {
        "ms" => Some(Duration::from_millis(1)),
        "s" => Some(Duration::from_secs(1)),
        "m" => Some(Duration::from_mins(1)),
        _ => None,
    };
    let duration = number.parse().ok().zip(one).and_then(|(number, one)| one.checked_mul(number));
    duration.ok_or_else(|| wrong(value, &format!("{text:?} is not a duration"), "write 500ms, 10s or 2m"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn reading(text: &str) -> Result<Given, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path())
    }

    #[test]
    fn a_file_may_say_everything_that_flags_say() {
        let given = reading(
            r#"
            key-file = "key"
            state-dir = "/var/lib/warpgate"
            health = "127.0.0.1:9090"
            output = "json"
            log = "info"
            proxy = "http://proxy:3128"
            exit-on-failure = true
            require-origin = false
            upstream-server-name = "api=api.internal"

            [[upstream]]
            url = "3000"
            health-check = "/healthz"

            [[upstream]]
            name = "api"
            url = "https://10.0.0.5"
            ca = "/etc/ca.pem"
            protocol = "h1"
            health-check = { path = "/up", every = "30s", timeout = "500ms", good-after = 1, bad-after = 5 }
            "#,
        )
        .unwrap();
        assert!(given.key_file.unwrap().ends_with("key"));
        assert_eq!(given.state_dir.unwrap().to_str(), Some("/var/lib/warpgate"));
        assert_eq!(given.health.unwrap().to_string(), "127.0.0.1:9090");
        assert_eq!((given.exit_on_failure, given.require_origin), (Some(true), Some(false)));
        assert_eq!((given.output, given.log.as_deref()), (Some(Output::Json), Some("info")));
        let [web, api] = &given.upstreams[..] else { panic!("two upstreams") };
        assert_eq!(
            (web.name.as_str(), web.target.to_string().as_str()),
            ("default", "http://127.0.0.1:3000")
        );
        assert_eq!(web.settings.health.as_ref().unwrap().path, "/healthz");
        let check = api.settings.health.as_ref().unwrap();
        assert_eq!((check.every, check.timeout), (Duration::from_secs(30), Duration::from_millis(500)));
        assert_eq!((check.good_after, check.bad_after), (1, 5));
        assert_eq!(given.said, [(Slug::parse("api").unwrap(), Setting::ServerName("api.internal".into()))]);
    }

    #[test]
    fn upstreams_may_be_written_as_on_the_command_line() {
        let names = |text: &str| {
            let given = reading(text).unwrap();
            given.upstreams.iter().map(|one| one.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("upstream = \"3000\""), "default");
        assert_eq!(names("upstream = [\"3000\", \"docs=http://docs:81\"]"), "default docs");
        assert_eq!(names(""), "");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_was_meant() {
        let rows = [
            ("upstrem = \"3000\"", 1, "no setting \"upstrem\"", "write upstream,"),
            (
                "\n[[upstream]]\nurl = \"3000\"\nserver_name = \"x\"",
                4,
                "no setting \"server_name\"",
                "write server-name",
            ),
            ("zzzz = 1", 1, "no setting \"zzzz\"", "known here: key-file, upstream,"),
            ("\nhealth = 9090", 2, "a text is wanted here, not a integer", "quotes"),
            ("require-origin = \"yes\"", 1, "true or false", "without quotes"),
            ("output = \"xml\"", 1, "\"xml\" is not a form of output", "text or json"),
            ("health = \"9090\"", 1, "invalid socket address", "127.0.0.1:9090"),
            ("upstream = \"ftp://x\"", 1, "ftp:// upstreams are not supported", "[NAME=]URL"),
            ("[[upstream]]\nname = \"a\"", 1, "has no url", "add: url"),
            ("[[upstream]]\nurl = \"3000\"\nca = \"x\"", 1, "is for https upstreams", "docs"),
            (
                "[[upstream]]\nurl = \"3000\"\nhealth-check = { every = \"10s\" }",
                3,
                "has no path",
                "add: path",
            ),
            (
                "[[upstream]]\nurl = \"3000\"\nhealth-check = { path = \"/\", every = \"10\" }",
                3,
                "\"10\" is not a duration",
                "10s",
            ),
            (
                "[[upstream]]\nurl = \"3000\"\nhealth-check = { path = \"/\", evry = \"1s\" }",
                3,
                "\"evry\"",
                "write every",
            ),
            ("a = ", 1, "this is not TOML", "quotes"),
            ("log = \"a\"\nlog = \"b\"", 2, "this is not TOML", "quotes"),
            ("key = \"mzw_x\"", 1, "does not belong", "key-file"),
        ];
        for (text, line, what, next) in rows {
            let error = reading(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
            assert!(error.next.contains(next), "{text}: {}", error.next);
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused_before_it_is_read_whole() {
        let error = read(Path::new("/nonexistent/warpgate.toml")).unwrap_err();
        assert!(error.to_string().contains("there is no such file") && error.line.is_none(), "{error}");
        let long = "#".repeat(usize::try_from(CONFIG_LEN_MAX).unwrap() + 1);
        assert!(reading(&long).unwrap_err().what.contains("longer than"));
    }
}
