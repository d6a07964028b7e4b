//! From what is kept of a message to a mail: its words, its link, its headers.
//!
//! Links lead to the configured login host, never to one a client named (R17). Whatever people wrote is encoded by the
//! field it goes to, so nothing of it becomes a header of its own.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use mezusphere_model::Timestamp;
use mezusphere_model::id::MailId;

use super::config::MailSender;
use super::letter::{Letter, What};
use super::looks::Looks;
use super::smtp::Ready;
use crate::page::mail::{MailLink, MailPage, plain, reads_as_address};
use crate::page::text::{self, fill};
use crate::page::{Moment, agent_in_words};

/// What the letter says, in its directory's looks.
pub(super) fn page(letter: &Letter, looks: &Looks, origin: &str) -> MailPage {
    let t = &text::ENGLISH;
    let words = match &letter.what {
        What::SignUp => &t.mail.sign_up,
        What::AlreadyRegistered => &t.mail.already_registered,
        What::VerifyEmail => &t.mail.verify_email,
        What::Recovery => &t.mail.recovery,
        What::Invitation { .. } => &t.mail.invitation,
        What::ChangeEmail => &t.mail.change_email,
        What::EmailChanged { .. } => &t.mail.email_changed,
        What::PasswordChanged { .. } => &t.mail.password_changed,
        What::NewSignIn { .. } => &t.mail.new_sign_in,
        What::Test => &t.mail.test,
    };
    let mut page = MailPage::new(t, words, &looks.whose, &letter.name, &letter.to)
        .branded(looks.colour.as_deref(), looks.support.as_deref());
    if looks.reply_to.is_none() {
        page = page.unanswered();
    }
    match &letter.what {
        What::Invitation { by, project } => {
            let (by, project) = (plain(by), plain(project));
            // An address of an operator is shown as such; a name that poses as one is not.
            let by = if reads_as_address(&by) && !by.contains('@') { looks.whose.clone() } else { by };
            page.subject = fill(words.subject, &project);
            page.lead = fill(&fill(words.lead, &by), &project);
        }
        What::EmailChanged { new } => page.lead = fill(&page.lead, new),
        What::PasswordChanged { at, address, agent } | What::NewSignIn { at, address, agent } => {
            page.facts = vec![
                (t.mail.fact_when, Moment(*at).for_people(t)),
                (t.mail.fact_browser, plain(&agent_in_words(agent, t))),
            ];
            // An operator at the machine itself has none.
            if !address.is_empty() {
                page.facts.push((t.mail.fact_address, plain(address)));
            }
        }
        What::SignUp
        | What::AlreadyRegistered
        | What::VerifyEmail
        | What::Recovery
        | What::ChangeEmail
        | What::Test => {}
    }
    page.link = letter.path.as_ref().map(|path| MailLink {
        action: words.action,
        url: format!("{origin}{path}"),
        ends: letter
            .ends_at
            .map(|end| fill(t.mail.link_ends, &Moment(end).for_people(t)))
            .unwrap_or_default(),
    });
    page
}

/// The mail as it goes to the server.
///
/// # Errors
/// If the recipient's address cannot be written in a mail.
pub(super) fn ready(
    id: MailId,
    letter: &Letter,
    looks: &Looks,
    page: &MailPage,
    sender: &MailSender,
    now: Timestamp,
) -> Result<Ready, String> {
    let to = address(&letter.to)?;
    let from = sender.address();
    // The directory's own name comes first; the installation's sender name is for directories without one.
    let from_name = looks.from_name.as_deref().map(plain).filter(|name| !name.is_empty());
    let from_name = from_name.or_else(|| sender.name().map(plain)).unwrap_or_else(|| page.whose.clone());
    let name = Some(plain(&letter.name)).filter(|name| !name.is_empty() && !reads_as_address(name));
    let html = askama::Template::render(page).map_err(|why| why.to_string())?;
    let mut builder = Message::builder()
        .message_id(Some(format!("<{id}@{}>", from.domain())))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.as_seconds()).unwrap_or(0)))
        .from(Mailbox::new(Some(from_name), from.clone()))
        .to(Mailbox::new(name, to.clone()))
        .subject(page.subject.clone())
        // RFC 3834: nobody's absence notice answers to it; the second is Exchange's word for the same.
        .raw_header(field("Auto-Submitted", "auto-generated"))
        .raw_header(field("X-Auto-Response-Suppress", "All"));
    if let Some(reply_to) = looks.reply_to.as_deref().and_then(|text| address(text).ok()) {
        builder = builder.reply_to(Mailbox::new(None, reply_to));
    }
    let body = MultiPart::alternative_plain_html(page.text(), html);
    let mail = builder.multipart(body).map_err(|why| why.to_string())?;
    Ok(Ready { from: from.clone(), to, content: mail.formatted() })
}

fn field(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// An address as mail servers write it: a domain beyond ASCII in its xn-- form, so that only a local part beyond ASCII
/// needs a server with SMTPUTF8.
fn address(text: &str) -> Result<Address, String> {
    let wrong = || "this is no address that mail can be sent to".to_owned();
    let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    let Ok(url::Host::Domain(ascii)) = url::Host::parse(domain) else { return Err(wrong()) };
    Address::new(local, ascii).map_err(|_| wrong())
}

/// One letter of every kind, with what people may put in.
#[cfg(test)]
pub(super) fn samples() -> Vec<Letter> {
    let at = Timestamp::from_seconds(1_795_294_748);
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0".to_owned();
    let address = "2001:db8:1234:5678::abcd".to_owned();
    let token = "/0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    [
        (What::SignUp, Some("/sign-up")),
        (What::AlreadyRegistered, None),
        (What::VerifyEmail, Some("/verify")),
        (What::Recovery, Some("/recover")),
        (
            What::Invitation { by: "Grace Hopper".to_owned(), project: "Compilers & <Friends>".to_owned() },
            Some("/invitation"),
        ),
        (What::ChangeEmail, Some("/change-email")),
        (What::EmailChanged { new: "ada.l@new.example".to_owned() }, None),
        (What::PasswordChanged { at, address: address.clone(), agent: agent.clone() }, None),
        (What::NewSignIn { at, address, agent }, None),
        (What::Test, None),
    ]
    .into_iter()
    .map(|(what, page)| Letter {
        to: "ada@shop.example".to_owned(),
        name: "Ada Lovelace".to_owned(),
        what,
        path: page.map(|page| format!("{page}{token}")),
        ends_at: page.map(|_| at.after(Duration::from_mins(30))),
        decoy: false,
    })
    .collect()
}

#[cfg(test)]
pub(super) fn sample_looks() -> Looks {
    Looks {
        whose: "Łódź Cycling Club".to_owned(),
        colour: Some("#ffd400".to_owned()),
        support: Some("https://help.cycling.example/".to_owned()),
        from_name: None,
        reply_to: Some("help@cycling.example".to_owned()),
    }
}
