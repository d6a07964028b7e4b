//! What mails look like on the wire, of every kind, with names that try to be more than names.

use lettre::message::Mailbox;
use mezusphere_model::id::MailId;
use mezusphere_model::{Entropy, Timestamp};

use super::MailSender;
use super::letter::{Letter, What};
use super::looks::Looks;
use super::render::{page, ready, sample_looks, samples};

const ORIGIN: &str = "https://login.mezu.localhost:8443";

/// Names as an attacker would choose them, and as people have them.
const NAMES: [&str; 9] = [
    "Ada\r\nBcc: eve@evil.example",
    "Ada\nSubject: won\n\n<h1>won</h1>",
    "\"Ada\" <eve@evil.example>, Bob",
    "=?utf-8?q?Ada=0d=0aBcc:_eve@evil.example?=",
    "<script>alert(1)</script>",
    "Ada\u{202e}elpmaxe.live",
    "{{ name }} {} {0}",
    "Łukasz Żółć 李小龍 🚲",
    "",
];

fn wire(letter: &Letter, looks: &Looks) -> String {
    let sender: MailSender = "Mezusphere <no-reply@mail.example>".parse().unwrap();
    let id = MailId::random(&Entropy::counting());
    let now = Timestamp::from_seconds(1_795_294_748);
    let ready = ready(id, letter, looks, &page(letter, looks, ORIGIN), &sender, now).unwrap();
    assert!(ready.content.is_ascii(), "a server without 8BITMIME takes it");
    String::from_utf8(ready.content).unwrap()
}

/// The header fields, unfolded.
fn fields(wire: &str) -> Vec<(String, String)> {
    let head = wire.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
    head.lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

fn plain_looks() -> Looks {
    Looks { whose: "Shop".to_owned(), colour: None, support: None, from_name: None, reply_to: None }
}

#[test]
fn every_kind_renders_as_text_and_html_with_one_link_at_most() {
    let folder = std::env::var_os("MEZU_PAGES").map(std::path::PathBuf::from);
    for (looks, brand) in [(plain_looks(), "plain"), (sample_looks(), "branded")] {
        for letter in samples() {
            let (kind, page) = (letter.kind(), page(&letter, &looks, ORIGIN));
            let (text, html) = (page.text(), askama::Template::render(&page).unwrap());
            if let Some(folder) = &folder {
                std::fs::write(folder.join(format!("mail-{kind}-{brand}.html")), &html).unwrap();
                std::fs::write(folder.join(format!("mail-{kind}-{brand}.txt")), &text).unwrap();
            }
            for rendered in [&text, &html, &page.subject] {
                assert!(!rendered.contains("{}"), "{kind}: a placeholder is left: {rendered}");
            }
            for line in text.lines() {
                assert!(line.chars().count() <= 78 || line.starts_with("https://"), "{kind}: {line}");
            }
            let url = letter.path.as_ref().map(|path| format!("{ORIGIN}{path}"));
            let lines: Vec<_> = text.lines().filter(|line| line.contains(ORIGIN)).collect();
            assert_eq!(lines, url.iter().map(String::as_str).collect::<Vec<_>>(), "{kind}");
            // The button, and the address for whoever has no buttons.
            assert_eq!(
                html.matches("href=\"https://login.").count(),
                if url.is_some() { 2 } else { 0 },
                "{kind}"
            );
            assert_eq!(page.link.as_ref().map(|link| link.action.is_empty()), url.map(|_| false), "{kind}");
            assert!(text.contains(&page.not_you.split_whitespace().take(6).collect::<Vec<_>>().join(" ")));
        }
    }
}

#[test]
fn r18_no_mail_asks_for_anything_from_anywhere() {
    for letter in samples() {
        let html = askama::Template::render(&page(&letter, &sample_looks(), ORIGIN)).unwrap();
        for part in ["<img", "<script", "<link", "src=", "url(", "@import", "<iframe", "<object"] {
            assert!(!html.contains(part), "{}: {part}", letter.kind());
        }
        for href in html.split("href=\"").skip(1) {
            assert!(href.starts_with(ORIGIN) || href.starts_with("https://help.cycling.example"), "{href}");
        }
    }
}

#[test]
fn nothing_people_write_becomes_a_header_or_markup() {
    for name in NAMES {
        let looks = Looks {
            whose: name.to_owned(),
            colour: Some("red;}</style><script>".to_owned()),
            support: Some(name.to_owned()),
            from_name: Some(name.to_owned()),
            reply_to: Some(name.to_owned()),
        };
        for mut letter in samples() {
            letter.name = name.to_owned();
            letter.what = match letter.what {
                What::Invitation { .. } => What::Invitation { by: name.to_owned(), project: name.to_owned() },
                What::NewSignIn { at, .. } => {
                    What::NewSignIn { at, address: name.to_owned(), agent: name.to_owned() }
                }
                what => what,
            };
            let wire = wire(&letter, &looks);
            let mut names: Vec<_> = fields(&wire).into_iter().map(|(name, _)| name).collect();
            names.sort();
            let known = [
                "Auto-Submitted",
                "Content-Type",
                "Date",
                "From",
                "MIME-Version",
                "Message-ID",
                "Subject",
                "To",
                "X-Auto-Response-Suppress",
            ];
            assert_eq!(names, known, "{name:?}, {}", letter.kind());
            assert!(!wire.contains("\r\nBcc:") && !wire.contains("\nBcc:"), "{wire}");
            let html = askama::Template::render(&page(&letter, &looks, ORIGIN)).unwrap();
            assert!(!html.contains("<script") && !html.contains("<h1>won"), "{html}");
            assert_eq!(html.matches("<h1").count(), 1);
        }
    }
}

#[test]
fn the_head_says_from_whom_to_whom_and_that_nobody_reads_answers() {
    let letter = &samples()[3];
    let wire = wire(letter, &sample_looks());
    let field = |wanted: &str| {
        let all = fields(&wire);
        let mut found = all.into_iter().filter(|(name, _)| name == wanted);
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {wanted}"));
        assert!(found.next().is_none(), "{wanted} twice");
        value
    };
    assert_eq!(field("To"), "\"Ada Lovelace\" <ada@shop.example>");
    assert_eq!(field("Reply-To"), "help@cycling.example");
    assert_eq!(field("Auto-Submitted"), "auto-generated");
    let from: Mailbox = "X <no-reply@mail.example>".parse().unwrap();
    assert!(field("From").ends_with(&format!("<{}>", from.email)), "{}", field("From"));
    assert!(field("Message-ID").starts_with("<mal_") && field("Message-ID").ends_with("@mail.example>"));
    assert_eq!(field("Date"), "Sat, 21 Nov 2026 20:59:08 +0000");
    assert!(field("Content-Type").starts_with("multipart/alternative;"));
}

#[test]
fn a_name_that_would_become_a_link_is_not_repeated() {
    let mut letter = samples().remove(0);
    for name in ["win.example.com", "Ada, see https://evil.example/x", "ada@evil.example"] {
        letter.name = name.to_owned();
        let page = page(&letter, &plain_looks(), ORIGIN);
        assert_eq!(page.greeting, "Hello,", "{name}");
        let wire = wire(&letter, &plain_looks());
        assert!(!wire.contains("evil") && !wire.contains("win.example"), "{wire}");
    }
}

#[test]
fn addresses_are_written_as_mail_servers_write_them() {
    let mut letter = samples().remove(0);
    let cases = [
        ("ada@shop.example", Some("ada@shop.example")),
        ("ada@bücher.example", Some("ada@xn--bcher-kva.example")),
        ("a.b+c@shop.example", Some("a.b+c@shop.example")),
        ("ądą@shop.example", Some("ądą@shop.example")),
        ("ada@[127.0.0.1]", None),
        ("ada@shop..example", None),
    ];
    for (typed, written) in cases {
        letter.to = typed.to_owned();
        let sender: MailSender = "no-reply@mail.example".parse().unwrap();
        let page = page(&letter, &plain_looks(), ORIGIN);
        let now = Timestamp::from_seconds(1_795_294_748);
        let ready = ready(MailId::from_bits(1), &letter, &plain_looks(), &page, &sender, now);
        assert_eq!(ready.ok().map(|ready| ready.to.to_string()).as_deref(), written, "{typed}");
    }
}
