//! Reads a line of an edge's access log, in either of the forms `telemetry` writes: text for people or JSON.

use std::collections::BTreeMap;

use mezusphere_control::api::types::ExplainUrl;
use serde::Serialize;
use serde_json::Value;

/// What every such line is marked with.
const TARGET: &str = "mezusphere::access";

/// What became of a request, as the edge wrote it down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Logged {
    /// When its response had ended.
    pub(crate) at: String,
    /// Its id.
    pub(crate) request: String,
    /// From which address.
    pub(crate) client: String,
    /// For which host.
    pub(crate) host: String,
    /// Its method.
    pub(crate) method: String,
    /// Its path, without the query.
    pub(crate) path: String,
    /// The status of the answer.
    pub(crate) status: String,
    /// `permit`, or the code of a refusal.
    pub(crate) decision: String,
    /// Why.
    pub(crate) why: String,
    /// Who, if somebody was signed in.
    pub(crate) subject: String,
    /// Which route took it.
    pub(crate) route: String,
}

impl Logged {
    /// The request, to be explained as of now, or as of `at`; as whoever sent it.
    pub(crate) fn request(&self, at: Option<String>) -> ExplainUrl {
        ExplainUrl {
            url: format!("https://{}{}", self.host, self.path),
            method: Some(self.method.clone()),
            user: Some(self.subject.clone()).filter(|subject| !subject.is_empty()),
            from: self.client.parse().ok(),
            at,
        }
    }

    /// What the edge said, as a sentence.
    pub(crate) fn told(&self) -> String {
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        let route = if self.route.is_empty() { String::new() } else { format!(" by route {}", self.route) };
        format!("{} {}{why}{route} · {} · request {}", self.status, self.decision, self.at, self.request)
    }
}

/// What a line says; `None` if it is no line of the access log.
pub(crate) fn read(line: &str) -> Option<Logged> {
    let line = line.trim();
    let fields = if line.starts_with('{') { of_json(line)? } else { of_text(line)? };
    let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let logged = Logged {
        at: text("at"),
        request: text("request"),
        client: text("client"),
        host: text("host"),
        method: text("method"),
        path: text("path"),
        status: text("status"),
        decision: text("decision"),
        why: text("why"),
        subject: text("subject"),
        route: text("route"),
    };
    (!logged.host.is_empty() && !logged.path.is_empty() && !logged.method.is_empty()).then_some(logged)
}

type Fields = BTreeMap<String, String>;

fn of_json(line: &str) -> Option<Fields> {
    let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
    if object.get("target").and_then(Value::as_str) != Some(TARGET) {
        return None;
    }
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(object.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// `2026-11-21T20:59:08.123456Z INFO mezusphere::access Request request=… client=… why="needs \"x\"" …`
fn of_text(line: &str) -> Option<Fields> {
    // Something may stand before it: the prefix a journal writes.
    let (before, rest) = line.split_once(&format!(" {TARGET} "))?;
    let at = before.split_whitespace().find(|word| word.contains('T') && word.ends_with('Z'));
    let mut fields = Fields::from([("at".to_owned(), at.unwrap_or_default().to_owned())]);
    let mut rest = rest;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.rsplit(' ').next().unwrap_or_default();
        let (value, after) = value(after);
        // The first of a name: spans at the end may repeat one.
        fields.entry(name.to_owned()).or_insert(value);
        rest = after;
    }
    Some(fields)
}

/// A value, bare or in quotes, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (bare, rest) = text.split_once(' ').unwrap_or((text, ""));
        return (unescaped(bare), rest);
    };
    let mut is_escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !is_escaped => {
                let (inside, rest) = quoted.split_at(at);
                return (unescaped(inside), rest.get(1..).unwrap_or_default());
            }
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    (unescaped(quoted), "")
}

/// Without the escapes of quotes and backslashes; those of hidden characters stay as they are written.
fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Logged {
        Logged {
            at: "2026-11-22T07:00:00.123456Z".to_owned(),
            request: "req_1".to_owned(),
            client: "203.0.113.9".to_owned(),
            host: "shop.localhost".to_owned(),
            method: "GET".to_owned(),
            path: "/admin/x".to_owned(),
            status: "403".to_owned(),
            decision: "edge.denied".to_owned(),
            why: "denied: needs the \"role\" admin=1".to_owned(),
            subject: "usr_1".to_owned(),
            route: "rte_1".to_owned(),
        }
    }

    #[test]
    fn both_forms_of_a_line_say_the_same() {
        let text = "2026-11-22T07:00:00.123456Z INFO mezusphere::access Request request=req_1 client=203.0.113.9 \
                    protocol=h2 host=shop.localhost method=GET path=/admin/x status=403 project=prj_1 route=rte_1 \
                    decision=edge.denied hop=client why=\"denied: needs the \\\"role\\\" admin=1\" subject=usr_1 \
                    warpgate=\"\" end=whole octets=12 duration_us=345";
        let json = r#"{"at":"2026-11-22T07:00:00.123456Z","level":"INFO","target":"mezusphere::access","message":"Request",
            "request":"req_1","client":"203.0.113.9","protocol":"h2","host":"shop.localhost","method":"GET","path":"/admin/x",
            "status":403,"project":"prj_1","route":"rte_1","decision":"edge.denied","hop":"client",
            "why":"denied: needs the \"role\" admin=1","subject":"usr_1","warpgate":"","end":"whole","octets":12}"#;
        assert_eq!(read(text), Some(denied()));
        assert_eq!(read(json), Some(denied()));
        assert_eq!(read(&format!("Nov 22 07:00:00 node mezusphere[17]: {text}")), Some(denied()));
    }

    #[test]
    fn other_lines_are_none_of_the_access_log() {
        for line in [
            "",
            "GET /admin/x",
            "{}",
            "{\"target\":\"mezusphere::access\"}",
            "{\"target\":\"edge::tunnel\",\"host\":\"a\",\"path\":\"/\",\"method\":\"GET\"}",
            "2026-11-22T07:00:00Z INFO edge::tunnel Tunnel connected host=a path=/ method=GET",
            // The platform's own hosts: their paths are not written.
            "2026-11-22T07:00:00Z INFO mezusphere::access Request host=login.localhost method=GET path=\"\"",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn a_line_is_asked_about_as_whoever_sent_it() {
        let request = denied().request(None);
        assert_eq!(request.url, "https://shop.localhost/admin/x");
        assert_eq!(request.user.as_deref(), Some("usr_1"));
        assert_eq!(request.from, "203.0.113.9".parse().ok());
    }
}
