//! The table of a check: one row for each thing looked at, with what to do about it.

use serde::Serialize;

use crate::exit::Exit;
use crate::output::{Style, clean};

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It will work, but not as well as it could.
    Warn,
    /// Not looked at, because something before it failed.
    Skip,
    /// It will not work.
    Fail,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Skip => "SKIP",
            Self::Fail => "FAIL",
        }
    }

    fn coloured(self) -> String {
        let colour = match self {
            Self::Pass => 32,
            Self::Warn => 33,
            Self::Skip => 2,
            Self::Fail => 31,
        };
        format!("\x1b[{colour}m{}\x1b[0m", self.as_str())
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked at: `dns`, `udp 443`, `key` and so on.
    pub check: String,
    /// Where: a host, an edge, an upstream.
    pub target: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, in a few words.
    pub found: String,
    /// A stable code, if it failed in a way that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to do; empty: nothing.
    pub advice: String,
    /// How a program that only checks ends on it.
    #[serde(skip)]
    pub exit: Exit,
}

impl Row {
    /// It is as it should be.
    pub fn pass(check: &str, target: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            target: target.into(),
            verdict: Verdict::Pass,
            found: found.into(),
            code: None,
            advice: String::new(),
            exit: Exit::Done,
        }
    }

    /// It will do, and could be better.
    pub fn warn(check: &str, target: impl Into<String>, found: impl Into<String>, advice: &str) -> Self {
        Self { verdict: Verdict::Warn, advice: advice.to_owned(), ..Self::pass(check, target, found) }
    }

    /// It will not work; a program that only checks ends with `exit`.
    pub fn fail(
        check: &str,
        target: impl Into<String>,
        found: impl Into<String>,
        advice: &str,
        exit: Exit,
    ) -> Self {
        let advice = advice.to_owned();
        Self { verdict: Verdict::Fail, advice, exit, ..Self::pass(check, target, found) }
    }

    /// It was not looked at.
    pub fn skip(check: &str, target: impl Into<String>, why: &str) -> Self {
        Self { verdict: Verdict::Skip, ..Self::pass(check, target, why) }
    }

    /// With a stable code.
    #[must_use]
    pub fn coded(self, code: &str) -> Self {
        Self { code: Some(code.to_owned()), ..self }
    }
}

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its rows, in the order in which they were looked at.
    pub rows: Vec<Row>,
}

impl Report {
    /// How the program ends: on the first failure of the way to the platform, else on an upstream's.
    pub fn exit(&self) -> Exit {
        let failed = || self.rows.iter().filter(|row| row.verdict == Verdict::Fail);
        let worst = failed().find(|row| row.exit != Exit::Origin).or_else(|| failed().next());
        worst.map_or(Exit::Done, |row| row.exit)
    }

    /// The table for people, at most `width` columns wide where words allow it.
    pub fn text(&self, style: Style, width: usize) -> String {
        let widest =
            |of: fn(&Row) -> &str| self.rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
        let (first, second) = (widest(|row| &row.check).min(16), widest(|row| &row.target).min(34));
        let indent = 6 + first + 2;
        let mut text = String::new();
        for row in &self.rows {
            let mark = match style {
                Style::Plain => row.verdict.as_str().to_owned(),
                Style::Coloured => row.verdict.coloured(),
            };
            let code = row.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
            let found = clean(&format!("{}{code}", row.found));
            let target = clean(&row.target);
            let head = format!("  {:<first$}  {target:<second$}  ", row.check);
            let taken = 4 + head.chars().count();
            text.push_str(&mark);
            text.push_str(&head);
            if taken + found.chars().count() <= width {
                text.push_str(&found);
            } else {
                // What was found goes below the target, so that a narrow terminal breaks no word.
                text.truncate(text.trim_end().len());
                text.push('\n');
                text.push_str(&wrapped(&found, indent, width));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
            if !row.advice.is_empty() {
                text.push_str(&wrapped(&format!("→ {}", clean(&row.advice)), indent, width));
            }
        }
        text.push_str(&self.summary());
        text
    }

    fn summary(&self) -> String {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
        let warnings = match warned {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            n => format!(", {n} warnings"),
        };
        match failed {
            0 => format!("\nAll checks passed{warnings}. Next: warpgate connect\n"),
            1 => format!("\n1 check failed{warnings}. Exit code {}.\n", self.exit().code()),
            n => format!("\n{n} checks failed{warnings}. Exit code {}.\n", self.exit().code()),
        }
    }

    /// The table as one JSON object, with the exit code.
    pub fn json(&self) -> String {
        let whole = serde_json::json!({ "checks": self.rows, "exit": self.exit().code() });
        format!("{whole}\n")
    }
}

/// Words in lines of at most `width` columns, each indented. A longer word keeps its line.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let space = " ".repeat(indent);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if indent + line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{space}{line}")).collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            rows: vec![
                Row::pass("dns", "connect.example.com", "203.0.113.7, 203.0.113.8"),
                Row::fail(
                    "udp",
                    "connect.example.com:443",
                    "no answer within 3 s",
                    "let UDP to port 443 out; without it tunnels run over TCP, which works but is slower",
                    Exit::NoTransport,
                )
                .coded("control.unreachable"),
                Row::warn("udp buffers", "", "0.2 MiB", "Run: sysctl -w net.core.rmem_max=4194304"),
                Row::skip("key", "", "control was not reached"),
            ],
        }
    }

    #[test]
    fn a_table_fits_eighty_columns_and_says_what_to_do() {
        let text = report().text(Style::Plain, 80);
        let expected = "\
PASS  dns          connect.example.com      203.0.113.7, 203.0.113.8
FAIL  udp          connect.example.com:443
                   no answer within 3 s (control.unreachable)
                   → let UDP to port 443 out; without it tunnels run over TCP,
                   which works but is slower
WARN  udp buffers                           0.2 MiB
                   → Run: sysctl -w net.core.rmem_max=4194304
SKIP  key                                   control was not reached

1 check failed, 1 warning. Exit code 13.
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn the_exit_code_is_the_first_failure_on_the_way_and_an_upstream_comes_last() {
        let fail = |exit| Row::fail("x", "", "", "", exit);
        let exit = |rows: Vec<Row>| Report { rows }.exit();
        assert_eq!(exit(vec![]), Exit::Done);
        assert_eq!(exit(vec![Row::warn("x", "", "", "")]), Exit::Done);
        assert_eq!(exit(vec![fail(Exit::Origin), fail(Exit::KeyRevoked)]), Exit::KeyRevoked);
        assert_eq!(exit(vec![fail(Exit::ClockSkew), fail(Exit::KeyRevoked)]), Exit::ClockSkew);
        assert_eq!(exit(vec![fail(Exit::Origin)]), Exit::Origin);
    }

    #[test]
    fn the_json_says_the_same() {
        let value: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(
            (value["exit"].as_u64(), value["checks"][1]["verdict"].as_str()),
            (Some(13), Some("FAIL"))
        );
        assert_eq!(value["checks"][1]["code"], "control.unreachable");
        assert!(value["checks"][0].get("code").is_none());
    }

    #[test]
    fn r25_words_of_a_peer_cannot_move_the_cursor() {
        let rows = vec![Row::pass("key", "a\nb", "\u{1b}[2Jx")];
        let text = Report { rows }.text(Style::Plain, 80);
        assert!(text.starts_with("PASS  key  a?b  ?[2Jx\n"), "{text:?}");
    }
}
