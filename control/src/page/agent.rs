//! A browser in words, from what it says of itself: enough for its owner to recognise it, and no more.

use mezusphere_identity::sign_in::Place;

use super::text::{Texts, fill};

/// Names in the order in which they have to be looked for: most browsers also claim to be another.
const BROWSERS: [(&str, &str); 16] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Focus/", "Firefox Focus"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Likewise for systems.
const SYSTEMS: [(&str, &str); 10] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Mac OS X", "Mac"),
    ("FreeBSD", "FreeBSD"),
    ("OpenBSD", "OpenBSD"),
    ("Linux", "Linux"),
];

/// Longest name of a program that is shown, in characters.
const PROGRAM_LEN_MAX: usize = 40;

/// `Firefox on Windows`.
pub(crate) fn in_words(agent: &str, t: &Texts) -> String {
    if agent == Place::OPERATOR {
        return t.place.operator.to_owned();
    }
    let known = |names: &[(&str, &'static str)]| {
        names.iter().find(|(sign, _)| agent.contains(sign)).map(|(_, name)| *name)
    };
    match (known(&BROWSERS), known(&SYSTEMS)) {
        (Some(browser), Some(system)) => fill(&fill(t.place.on, browser), system),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => program(agent, t),
    }
}

/// `curl, a program`: by the first word, up to its version.
fn program(agent: &str, t: &Texts) -> String {
    let first = agent.split(['/', ' ']).next().unwrap_or_default();
    let name: String = first.chars().filter(|c| c.is_alphanumeric() || "-_.".contains(*c)).collect();
    if name.is_empty() || name.chars().count() > PROGRAM_LEN_MAX || name == "Mozilla" {
        return t.place.unknown.to_owned();
    }
    fill(t.place.program, &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::text::ENGLISH;

    #[test]
    fn a_browser_is_told_by_its_own_name_and_system() {
        let apple = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
        let rows = [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Windows",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36",
                "Samsung Internet on Android",
            ),
            (
                &format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {apple} Version/18.6 Mobile/15E148 Safari/604.1"
                ),
                "Safari on iPhone",
            ),
            (
                &format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {apple} CriOS/142.0 Mobile/15E148 Safari/604.1"
                ),
                "Chrome on iPhone",
            ),
            (
                &format!(
                    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {apple} Version/26.0 Safari/605.1.15"
                ),
                "Safari on Mac",
            ),
            ("curl/8.5.0", "curl, a program"),
            ("python-requests/2.32", "python-requests, a program"),
            ("", "An unknown browser"),
            ("Mozilla/5.0", "An unknown browser"),
            ("<b>/1", "b, a program"),
        ];
        for (agent, words) in rows {
            assert_eq!(in_words(agent, &ENGLISH), words, "{agent}");
        }
        assert_eq!(in_words(&"x".repeat(256), &ENGLISH), "An unknown browser");
    }
}
