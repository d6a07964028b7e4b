//! Setting up logs: text on a terminal, JSON lines otherwise, always on standard error, so that standard
//! output stays a program's own.

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::format::{Json, Text};

/// What is logged unless something else is asked for.
pub const DEFAULT_FILTER: &str = "info";

/// Longest filter, in octets: more is a mistake.
pub const FILTER_LEN_MAX: usize = 4 * 1024;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text if standard error is a terminal, else JSON.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by target: `info,edge::tunnel=debug`.
    /// From a flag or the environment; reading those is the program's.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: DEFAULT_FILTER.to_owned(), format: LogFormat::Auto }
    }
}

/// Why logs could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "the log filter {filter:?} cannot be read ({why}); write a level, or levels by target: info,edge=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a format.
    #[error("{0:?} is not a log format; write auto, text or json")]
    Format(String),
    /// Logs were set up before.
    #[error("logs are already set up in this process")]
    AlreadySet,
}

/// Sets up logs for the whole process, and makes panics log lines like any other. Call once, from main.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let terminal = std::io::stderr().is_terminal();
    // https://no-color.org: any non-empty value.
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(config, terminal, colours, std::io::stderr)?.try_init().map_err(|_| LogError::AlreadySet)?;
    log_panics();
    Ok(())
}

/// As [`init`], where what is logged can be changed while the program runs.
pub fn init_adjustable(config: &LogConfig) -> Result<LogLevel, LogError> {
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (subscriber, level) = adjustable(config, terminal, colours, std::io::stderr)?;
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    log_panics();
    Ok(level)
}

/// Changes what is logged.
pub struct LogLevel(Box<dyn Fn(EnvFilter) -> bool + Send + Sync>);

impl LogLevel {
    /// Logs what `filter` says from now on: a level, or levels by target.
    ///
    /// # Errors
    /// [`LogError::Filter`]; nothing has changed then.
    pub fn set(&self, text: &str) -> Result<(), LogError> {
        if (self.0)(filter(text)?) { Ok(()) } else { Err(LogError::AlreadySet) }
    }
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogLevel")
    }
}

/// A panic ends one task, and says so in the log; the default hook would write past the log's encoding.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "Panic: {message}");
    }));
}

type BoxSubscriber = Box<dyn Subscriber + Send + Sync>;

pub(crate) fn subscriber<W>(
    config: &LogConfig,
    terminal: bool,
    colours: bool,
    writer: W,
) -> Result<BoxSubscriber, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&config.filter)?).with_writer(writer);
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    Ok(if text {
        Box::new(builder.with_ansi(colours).fmt_fields(Text).event_format(Text).finish())
    } else {
        Box::new(builder.with_ansi(false).fmt_fields(Json).event_format(Json).finish())
    })
}

fn adjustable<W>(
    config: &LogConfig,
    terminal: bool,
    colours: bool,
    writer: W,
) -> Result<(BoxSubscriber, LogLevel), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&config.filter)?).with_writer(writer);
    let is_text = config.format == LogFormat::Text || (config.format == LogFormat::Auto && terminal);
    Ok(if is_text {
        let builder = builder.with_ansi(colours).fmt_fields(Text).event_format(Text).with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(builder.finish()), LogLevel(Box::new(move |filter| handle.reload(filter).is_ok())))
    } else {
        let builder = builder.with_ansi(false).fmt_fields(Json).event_format(Json).with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(builder.finish()), LogLevel(Box::new(move |filter| handle.reload(filter).is_ok())))
    })
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let refused = |why: String| LogError::Filter { filter: text.chars().take(80).collect(), why };
    if text.len() > FILTER_LEN_MAX {
        return Err(refused(format!("longer than {FILTER_LEN_MAX} octets")));
    }
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { text };
    EnvFilter::try_new(text).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing::{debug, error, info, info_span, warn};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, colours: bool, write: impl FnOnce()) -> String {
        let lines = Lines::default();
        let config = LogConfig { filter: "info".to_owned(), format };
        let writer = lines.clone();
        let subscriber = subscriber(&config, false, colours, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, write);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn strange() {
        let path = "/\u{1b}[31m\r\n2026-11-21T00:00:00Z ERROR forged user=admin";
        warn!(path, user = %"ann role=admin", "Odd {path}");
    }

    #[test]
    fn a_text_line_is_a_fact_with_fields() {
        let text = logged(LogFormat::Text, false, || {
            let span = info_span!("connection", id = 7);
            let _in_span = span.enter();
            info!(warpgate = "wgt_1", upstreams = 2, ready = true, "Tunnel connected");
        });
        let (at, rest) = text.split_once(' ').unwrap();
        assert!(at.ends_with('Z') && at.len() > 20, "{at}");
        assert_eq!(
            rest.trim_start(),
            "INFO mezusphere_telemetry::log::tests Tunnel connected warpgate=wgt_1 upstreams=2 ready=true in connection{id=7}\n"
        );
    }

    #[test]
    fn what_is_logged_can_be_changed_and_a_bad_filter_changes_nothing() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = Lines::default();
            let (out, config) = (lines.clone(), LogConfig { filter: "warn".to_owned(), format });
            let (subscriber, level) = adjustable(&config, false, false, move || out.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                debug!("first");
                level.set("debug").unwrap();
                debug!("second");
                assert!(matches!(level.set("!!=="), Err(LogError::Filter { .. })));
                debug!("third");
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(!text.contains("first"), "{text}");
        }
    }

    #[test]
    fn a_json_line_keeps_its_types_and_spans() {
        let text = logged(LogFormat::Auto, false, || {
            let span = info_span!("connection", id = 7, late = tracing::field::Empty);
            let _in_span = span.enter();
            span.record("late", "yes");
            info!(upstreams = 2, share = 0.5, none = f64::NAN, ready = true, "Tunnel \"connected\"");
        });
        let rest = text.split_once("\"level\"").unwrap().1;
        assert_eq!(
            rest,
            concat!(
                r#":"INFO","target":"mezusphere_telemetry::log::tests","message":"Tunnel \"connected\"","#,
                r#""upstreams":2,"share":0.5,"none":null,"ready":true,"#,
                r#""spans":[{"span":"connection","id":7,"late":"yes"}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn r25_a_strangers_text_stays_in_its_field_on_its_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, false, strange);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
        }
        let text = logged(LogFormat::Text, false, strange);
        assert!(text.contains(r#"user="ann role=admin""#), "{text}");
        assert!(text.contains(r#"path="/\u{1b}[31m\r\n2026-"#), "{text}");
        let json = logged(LogFormat::Json, false, strange);
        assert!(json.contains(r#""path":"/\u001b[31m\r\n2026-"#), "{json}");
    }

    #[test]
    fn colours_mark_the_level_only() {
        let text = logged(LogFormat::Text, true, strange);
        assert_eq!(text.matches('\u{1b}').count(), 2, "{text:?}");
        assert!(text.contains("\u{1b}[33m WARN\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the store")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("disk\nfull"));
        let text = logged(LogFormat::Text, false, || {
            error!(error = &outer as &dyn std::error::Error, "Start failed");
        });
        assert!(text.ends_with("Start failed error=\"cannot open the store: disk\\nfull\"\n"), "{text}");
    }

    #[test]
    fn what_lies_below_the_level_is_not_logged() {
        assert_eq!(logged(LogFormat::Text, false, || debug!("detail")), "");
    }

    #[test]
    fn a_bad_filter_or_format_is_said_so() {
        let error = filter("info,edge=loud").unwrap_err().to_string();
        assert!(error.contains("info,edge=loud"), "{error}");
        assert!(filter(&"a".repeat(FILTER_LEN_MAX + 1)).is_err());
        assert!(filter("").is_ok() && filter("debug").is_ok() && filter("info,edge::tunnel=trace").is_ok());
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
