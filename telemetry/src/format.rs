//! One event, one line: text for people, JSON for machines. Every value passes through [`crate::encode`].
//!
//! ```text
//! 2026-11-21T20:59:08.123456Z INFO edge::tunnel Tunnel connected warpgate=wgt_… upstreams=2 in connection{id=7}
//! {"at":"2026-11-21T20:59:08.123456Z","level":"INFO","target":"edge::tunnel","message":"Tunnel connected","upstreams":2,"spans":[{"span":"connection","id":7}]}
//! ```

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::encode;

/// Lines for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

/// Lines for machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json;

/// The name tracing gives to an event's own text.
const MESSAGE: &str = "message";

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        write_level(*metadata.level(), &mut writer)?;
        write!(writer, " {}", metadata.target())?;
        // The message first, whatever its place among the fields.
        let mut message = Message::default();
        event.record(&mut message);
        if let Some(text) = message.0 {
            writer.write_char(' ')?;
            encode::plain(&text, &mut writer)?;
        }
        let mut fields = TextFields { out: &mut writer, separate: true, skip_message: true, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        let mut word = " in";
        for span in ctx.event_scope().into_iter().flatten() {
            write!(writer, "{word} {}", span.name())?;
            word = ",";
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, "{{{fields}}}")?;
            }
        }
        writer.write_char('\n')
    }
}

impl<'writer> FormatFields<'writer> for Text {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor =
            TextFields { out: &mut writer, separate: false, skip_message: false, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"at\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\",\"target\":", metadata.level())?;
        encode::json(metadata.target(), &mut writer)?;
        let mut fields = JsonFields { out: &mut writer, separate: true, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        let mut separator = ",\"spans\":[";
        for span in ctx.event_scope().into_iter().flatten() {
            write!(writer, "{separator}{{\"span\":")?;
            separator = ",";
            encode::json(span.name(), &mut writer)?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, ",{fields}")?;
            }
            writer.write_char('}')?;
        }
        writer.write_str(if separator == "," { "]}\n" } else { "}\n" })
    }
}

impl<'writer> FormatFields<'writer> for Json {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = JsonFields { out: &mut writer, separate: false, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let separate = !current.fields.is_empty();
        let mut writer = current.as_writer();
        let mut visitor = JsonFields { out: &mut writer, separate, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

fn write_level(level: Level, writer: &mut Writer<'_>) -> fmt::Result {
    if !writer.has_ansi_escapes() {
        return write!(writer, " {level:>5}");
    }
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    write!(writer, " \u{1b}[{colour}m{level:>5}\u{1b}[0m")
}

/// Finds an event's message.
#[derive(Default)]
struct Message(Option<String>);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

struct TextFields<'a, 'w> {
    out: &'a mut Writer<'w>,
    separate: bool,
    skip_message: bool,
    result: fmt::Result,
}

impl Visit for TextFields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.result.is_err() || (self.skip_message && field.name() == MESSAGE) {
            return;
        }
        let separator = if self.separate { " " } else { "" };
        self.separate = true;
        self.result =
            write!(self.out, "{separator}{}=", field.name()).and_then(|()| encode::value(value, self.out));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &chain(value));
    }
}

struct JsonFields<'a, 'w> {
    out: &'a mut Writer<'w>,
    separate: bool,
    result: fmt::Result,
}

impl JsonFields<'_, '_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_err() {
            return;
        }
        let separator = if self.separate { "," } else { "" };
        self.separate = true;
        self.result = (|| {
            self.out.write_str(separator)?;
            encode::json(field.name(), self.out)?;
            self.out.write_char(':')?;
            value(self.out)
        })();
    }
}

impl Visit for JsonFields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.write(field, |out| write!(out, "{value}"));
        } else {
            self.write(field, |out| out.write_str("null")); // JSON has no infinity
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |out| encode::json(value, out));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &chain(value));
    }
}

/// An error with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        // Transparent wrappers repeat the text of their cause.
        if !text.ends_with(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}
