//! What a mail looks like: the same content as plain text of 78 columns and as HTML that needs nothing from anywhere.
//!
//! What is sent to whom is `control::mail`'s. Whatever people wrote themselves is escaped in HTML and stays on its line in
//! text; a name that could pass for an address of the web is left away, because mail programs make links of such.

use askama::Template;

use super::brand::Support;
use super::colour::{Colour, DARK_PAPER, LIGHT_PAPER, Scheme};
use super::text::{Mail, Texts, fill};

/// Columns of a line of text (RFC 5322 §2.1.1).
const COLUMNS: usize = 78;

/// The accent of mails of a directory without a colour: that of `look/style.css`.
const ACCENT: &str = "#0c6b62";

/// Longest name of a person or a project in a mail, in characters.
const NAME_LEN_MAX: usize = 80;

/// A mail.
#[derive(Template)]
#[template(path = "mail.html")]
pub(crate) struct MailPage {
    pub(crate) t: &'static Texts,
    /// What the directory is called.
    pub(crate) whose: String,
    pub(crate) subject: String,
    pub(crate) greeting: String,
    pub(crate) lead: String,
    /// Particulars, each with its label.
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) link: Option<MailLink>,
    pub(crate) not_you: String,
    pub(crate) footer: String,
    support: Option<Support>,
    light: Scheme,
    dark: Scheme,
}

/// The one thing to do.
pub(crate) struct MailLink {
    pub(crate) action: &'static str,
    /// The address, on our login host.
    pub(crate) url: String,
    /// Until when, in words.
    pub(crate) ends: String,
}

impl MailPage {
    /// A mail of this kind to `to`, who is called `name`, from what is called `whose`.
    pub(crate) fn new(t: &'static Texts, words: &'static Mail, whose: &str, name: &str, to: &str) -> Self {
        let whose = plain(whose);
        let name = Some(plain(name)).filter(|name| !name.is_empty() && !reads_as_address(name));
        let accent = Colour::parse(ACCENT).unwrap_or(DARK_PAPER);
        Self {
            t,
            subject: fill(words.subject, &whose),
            greeting: name.map_or_else(|| t.mail.hello.to_owned(), |name| fill(t.mail.hello_name, &name)),
            lead: fill(words.lead, &whose),
            facts: Vec::new(),
            link: None,
            not_you: fill(words.not_you, &whose),
            footer: fill(&fill(t.mail.footer, to), &whose),
            support: None,
            light: accent.on(LIGHT_PAPER),
            dark: accent.on(DARK_PAPER),
            whose,
        }
    }

    /// In the colour of a directory, with its place for help.
    pub(crate) fn branded(mut self, colour: Option<&str>, support: Option<&str>) -> Self {
        if let Some(colour) = colour.and_then(Colour::parse) {
            self.light = colour.on(LIGHT_PAPER);
            self.dark = colour.on(DARK_PAPER);
        }
        self.support = support.map(plain).filter(|text| !text.is_empty()).map(|text| Support::of(&text));
        self
    }

    /// Says that nobody reads answers.
    pub(crate) fn unanswered(mut self) -> Self {
        self.footer = format!("{} {}", self.footer, self.t.mail.unanswered);
        self
    }

    /// The mail as text: lines of at most 78 columns, the link alone on its own.
    pub(crate) fn text(&self) -> String {
        let mut paragraphs = vec![wrapped(&self.greeting), wrapped(&self.lead)];
        let facts = self.facts.iter().map(|(label, value)| wrapped(&format!("{label}: {value}")));
        let facts = facts.collect::<Vec<_>>().join("\n");
        if !facts.is_empty() {
            paragraphs.push(facts);
        }
        if let Some(link) = &self.link {
            paragraphs.push(wrapped(&format!("{}:", link.action)));
            paragraphs.push(link.url.clone());
            paragraphs.push(wrapped(&link.ends));
        }
        paragraphs.push(wrapped(&self.not_you));
        let mut signature = vec!["-- ".to_owned()];
        if let Some(support) = &self.support {
            let text =
                support.href.as_deref().filter(|href| href.starts_with("https:")).unwrap_or(&support.text);
            signature.push(wrapped(&fill(self.t.mail.help, text)));
        }
        signature.push(wrapped(&self.footer));
        paragraphs.push(signature.join("\n"));
        let mut text = paragraphs.join("\n\n");
        text.push('\n');
        text
    }
}

/// What somebody wrote, as one line: without what could break it, reverse it or hide in it.
pub(crate) fn plain(text: &str) -> String {
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !invisible(*c));
    shown.take(NAME_LEN_MAX).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a mail program could make a link of it.
pub(crate) fn reads_as_address(text: &str) -> bool {
    let dotted = |word: &str| {
        let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
        inner.split('.').filter(|label| label.chars().count() > 1).count() > 1
    };
    text.contains(['/', '@', ':']) || text.split_whitespace().any(dotted)
}

/// Breaks a paragraph at spaces; a word longer than a line stays whole.
fn wrapped(paragraph: &str) -> String {
    let (mut text, mut column) = (String::with_capacity(paragraph.len() + 8), 0);
    for word in paragraph.split_whitespace() {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > COLUMNS {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += len;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_on_its_line_and_reads_in_its_direction() {
        assert_eq!(plain(" Ada\r\nBcc: eve@evil.example\0 "), "Ada Bcc: eve@evil.example");
        assert_eq!(plain("Ad\u{202e}a\u{200b} \u{2066}L"), "Ada L");
        assert_eq!(plain(&"ö".repeat(500)).chars().count(), NAME_LEN_MAX);
    }

    #[test]
    fn a_name_that_could_become_a_link_is_told_from_one_that_cannot() {
        for name in [
            "win.example.com",
            "see evil.example now",
            "https://evil.example",
            "a@b",
            "evil.example/x",
            "(evil.example)",
        ] {
            assert!(reads_as_address(name), "{name}");
        }
        for name in ["Ada", "Dr. Ada Lovelace", "J. R. R. Tolkien", "Ada L.", "Łukasz", "O'Neill-Smith Jr."]
        {
            assert!(!reads_as_address(name), "{name}");
        }
    }

    #[test]
    fn lines_of_text_end_at_78_columns_and_long_words_stay_whole() {
        let long = "x".repeat(200);
        let text = wrapped(&format!("{} {long} {}", "word ".repeat(60), "wörd ".repeat(60)));
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS || line == long, "{line}");
        }
        assert_eq!(text.split_whitespace().count(), 121);
    }
}
