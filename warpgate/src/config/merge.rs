//! One set of settings from several places: flag before environment before file before default.

use std::collections::HashSet;
use std::mem::discriminant;
use std::net::SocketAddr;
use std::path::PathBuf;

use mezusphere_model::slug::Slug;

use super::{Given, NAMES, Output, Shown, Source, name};
use crate::upstream::{
    DEFAULT_NAME, DEFAULT_URL, Declared, Setting, Settings as UpstreamSettings, UpstreamError, Upstreams,
};

/// What is in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A file that holds the key, if a flag or the file names one.
    pub key_file: Option<PathBuf>,
    /// Where requests go.
    pub upstreams: Upstreams,
    /// Whether nobody declared an upstream.
    pub is_default_upstream: bool,
    /// Where certificate and key are kept.
    pub state_dir: Option<PathBuf>,
    /// How events are printed; not set: by whether there is a terminal.
    pub output: Option<Output>,
    /// Where health checks are answered.
    pub health: Option<SocketAddr>,
    /// End when the platform cannot be reached.
    pub exit_on_failure: bool,
    /// End when an upstream does not answer at the start.
    pub require_origin: bool,
    /// What is logged.
    pub log: Option<String>,
    /// The HTTP proxy on the way to the platform; not set: what the environment's usual variables say.
    pub proxy: Option<String>,
    /// All of them as they are shown, in a fixed order.
    pub shown: Vec<Shown>,
}

/// Puts `flags` (with their environment) before `file`.
///
/// # Errors
/// What is wrong with the upstreams.
pub fn merge(flags: &Given, file: &Given) -> Result<Settings, UpstreamError> {
    let declared = declared(flags, file)?;
    let mut settings = Settings {
        key_file: flags.key_file.clone().or_else(|| file.key_file.clone()),
        is_default_upstream: declared.is_empty(),
        upstreams: Upstreams::new(declared)?,
        state_dir: flags.state_dir.clone().or_else(|| file.state_dir.clone()),
        output: flags.output.or(file.output),
        health: flags.health.or(file.health),
        exit_on_failure: flags.exit_on_failure.or(file.exit_on_failure).unwrap_or(false),
        require_origin: flags.require_origin.or(file.require_origin).unwrap_or(false),
        log: flags.log.clone().or_else(|| file.log.clone()),
        proxy: flags.proxy.clone().or_else(|| file.proxy.clone()),
        shown: Vec::new(),
    };
    settings.shown = shown(&settings, flags, file);
    Ok(settings)
}

/// The upstreams of the flags if they declare any, else the file's; what flags say of one takes the place of what the
/// file says.
fn declared(flags: &Given, file: &Given) -> Result<Vec<Declared>, UpstreamError> {
    let mut declared;
    if flags.upstreams.is_empty() {
        declared = file.upstreams.clone();
        for (name, setting) in &file.said {
            UpstreamSettings::say(with_default(&mut declared, name)?, name, setting.clone())?;
        }
    } else {
        declared = flags.upstreams.clone();
    }
    let mut said = HashSet::new();
    for (name, setting) in &flags.said {
        let all = with_default(&mut declared, name)?;
        let is_first = said.insert((name, discriminant(setting)));
        if is_first && let Some(one) = all.iter_mut().find(|one| one.name == *name) {
            forget(&mut one.settings, setting);
        }
        UpstreamSettings::say(all, name, setting.clone())?;
    }
    Ok(declared)
}

/// With the default upstream in the list if it is the only one and nobody wrote it down.
fn with_default<'a>(
    declared: &'a mut Vec<Declared>,
    name: &Slug,
) -> Result<&'a mut Vec<Declared>, UpstreamError> {
    if declared.is_empty() && name.as_str() == DEFAULT_NAME {
        declared.push(DEFAULT_URL.parse()?);
    }
    Ok(declared)
}

fn forget(settings: &mut UpstreamSettings, setting: &Setting) {
    match setting {
        Setting::Ca(_) => settings.ca = None,
        Setting::Pin(_) => settings.pin = None,
        Setting::ServerName(_) => settings.server_name = None,
        Setting::Protocol(_) => settings.protocol = None,
        Setting::Health(_) => settings.health = None,
    }
}

fn shown(settings: &Settings, flags: &Given, file: &Given) -> Vec<Shown> {
    let source = |name: &str, by_flag: bool, by_file: bool| match (by_flag, by_file) {
        (true, _) => flags.sources.get(name).copied().unwrap_or(Source::Flag),
        (false, true) => Source::File,
        (false, false) => Source::Default,
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let truth = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let upstreams: Vec<_> =
        settings.upstreams.iter().map(|(name, one)| format!("{name}={}", one.target())).collect();
    let said = |name: &'static str| {
        let of = move |given: &Given| match name {
            name::UPSTREAM => !given.upstreams.is_empty(),
            name => {
                let tables = given.upstreams.iter().any(|one| value_of(name, &one.settings).is_some());
                tables || given.said.iter().any(|(_, setting)| name_of(setting) == name)
            }
        };
        source(name, of(flags), flags.upstreams.is_empty() && of(file))
    };
    let each = |name: &'static str| {
        let values = settings.upstreams.iter().filter_map(|(upstream, one)| {
            value_of(name, one.settings()).map(|value| format!("{upstream}={value}"))
        });
        values.collect::<Vec<_>>().join(", ")
    };
    let row = |name: &'static str| {
        let (value, source) = match name {
            name::KEY_FILE => (
                path(&settings.key_file).unwrap_or_default(),
                source(name, flags.key_file.is_some(), file.key_file.is_some()),
            ),
            name::UPSTREAM => (upstreams.join(", "), said(name)),
            name::REQUIRE_ORIGIN => (
                truth(settings.require_origin),
                source(name, flags.require_origin.is_some(), file.require_origin.is_some()),
            ),
            name::STATE_DIR => (
                path(&settings.state_dir).unwrap_or_else(|| "none: in memory only".to_owned()),
                source(name, flags.state_dir.is_some(), file.state_dir.is_some()),
            ),
            name::PROXY => (
                settings.proxy.as_deref().map(masked).unwrap_or_default(),
                source(name, flags.proxy.is_some(), file.proxy.is_some()),
            ),
            name::HEALTH => (
                settings.health.map(|address| address.to_string()).unwrap_or_default(),
                source(name, flags.health.is_some(), file.health.is_some()),
            ),
            name::EXIT_ON_FAILURE => (
                truth(settings.exit_on_failure),
                source(name, flags.exit_on_failure.is_some(), file.exit_on_failure.is_some()),
            ),
            name::OUTPUT => (
                settings.output.map_or("text on a terminal, else json", Output::as_str).to_owned(),
                source(name, flags.output.is_some(), file.output.is_some()),
            ),
            name::LOG => (
                settings.log.clone().unwrap_or_else(|| "none".to_owned()),
                source(name, flags.log.is_some(), file.log.is_some()),
            ),
            name => (each(name), said(name)),
        };
        Shown { name: name.to_owned(), value, source }
    };
    NAMES.into_iter().map(row).collect()
}

fn name_of(setting: &Setting) -> &'static str {
    match setting {
        Setting::Ca(_) => name::UPSTREAM_CA,
        Setting::Pin(_) => name::UPSTREAM_PIN,
        Setting::ServerName(_) => name::UPSTREAM_SERVER_NAME,
        Setting::Protocol(_) => name::UPSTREAM_PROTOCOL,
        Setting::Health(_) => name::HEALTH_CHECK,
    }
}

fn value_of(name: &str, settings: &UpstreamSettings) -> Option<String> {
    match name {
        name::UPSTREAM_CA => settings.ca.as_ref().map(|path| path.display().to_string()),
        name::UPSTREAM_PIN => settings.pin.map(|pin| pin.to_string()),
        name::UPSTREAM_SERVER_NAME => settings.server_name.clone(),
        name::UPSTREAM_PROTOCOL => settings.protocol.map(|protocol| format!("{protocol:?}").to_lowercase()),
        name::HEALTH_CHECK => settings
            .health
            .as_ref()
            .map(|check| format!("{} every {:?}, {:?} at most", check.path, check.every, check.timeout)),
        _ => None,
    }
}

/// A URL without the password in it.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let between = if scheme.is_empty() { "" } else { "://" };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{between}…@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::HealthCheck;

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn declaring(urls: &[&str]) -> Given {
        Given { upstreams: urls.iter().map(|url| url.parse().unwrap()).collect(), ..Given::default() }
    }

    fn row(settings: &Settings, name: &str) -> (String, Source) {
        let row = settings.shown.iter().find(|row| row.name == name).unwrap();
        (row.value.clone(), row.source)
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let mut flags = Given { log: Some("debug".into()), ..Given::default() };
        let mut file = Given { log: Some("warn".into()), ..Given::default() };
        let log = |flags: &Given, file: &Given| row(&merge(flags, file).unwrap(), "log");
        assert_eq!(log(&flags, &file), ("debug".to_owned(), Source::Flag));
        flags.sources.insert(name::LOG, Source::Environment);
        assert_eq!(log(&flags, &file), ("debug".to_owned(), Source::Environment));
        flags.log = None;
        assert_eq!(log(&flags, &file), ("warn".to_owned(), Source::File));
        file.log = None;
        assert_eq!(log(&flags, &file), ("none".to_owned(), Source::Default));
    }

    #[test]
    fn upstreams_of_flags_take_the_place_of_the_files_as_a_whole() {
        let file = declaring(&["http://file:1", "docs=http://file:2"]);
        let both = merge(&declaring(&["http://flag:1"]), &file).unwrap();
        assert_eq!(row(&both, "upstream"), ("default=http://flag:1".to_owned(), Source::Flag));
        let of_file = merge(&Given::default(), &file).unwrap();
        let shown = "default=http://file:1, docs=http://file:2".to_owned();
        assert_eq!(row(&of_file, "upstream"), (shown, Source::File));
        let none = merge(&Given::default(), &Given::default()).unwrap();
        assert!(none.is_default_upstream);
        assert_eq!(row(&none, "upstream"), ("default=http://127.0.0.1:8080".to_owned(), Source::Default));
    }

    #[test]
    fn what_a_flag_says_of_an_upstream_takes_the_place_of_what_the_file_says() {
        let check = |path: &str| Setting::Health(HealthCheck::new(path).unwrap());
        let mut file = declaring(&["docs=http://file:2"]);
        file.said.push((slug("docs"), check("/file")));
        let mut flags = Given { said: vec![(slug("docs"), check("/flag"))], ..Given::default() };
        let (value, source) = row(&merge(&flags, &file).unwrap(), "health-check");
        assert!(value.starts_with("docs=/flag every 10s") && source == Source::Flag, "{value}");
        flags.said.push((slug("docs"), check("/flag")));
        assert!(matches!(merge(&flags, &file), Err(UpstreamError::SettingTwice { .. })));
        flags.said = vec![(slug("web"), check("/"))];
        assert!(matches!(merge(&flags, &file), Err(UpstreamError::Undeclared { .. })));
        let of_default = Given { said: vec![(slug("default"), check("/"))], ..Given::default() };
        assert!(merge(&of_default, &Given::default()).is_ok(), "the default upstream needs no declaration");
    }

    #[test]
    fn r25_a_proxys_password_is_not_shown() {
        let shown = |url: &str| {
            let flags = Given { proxy: Some(url.to_owned()), ..Given::default() };
            row(&merge(&flags, &Given::default()).unwrap(), "proxy").0
        };
        assert_eq!(shown("http://user:pa@ss@proxy:3128"), "http://…@proxy:3128");
        assert_eq!(shown("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(shown("user:secret@proxy"), "…@proxy");
    }
}
