//! How mail leaves an installation, as an operator writes it: parsed once, so that a typing error is told at the start
//! and not when somebody waits for a link.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lettre::Address;
use lettre::message::Mailbox;
use mezusphere_telemetry::{Counter, Gauge, Metrics, Redacted};
use url::{Host, Url};

/// Ports of submission: with STARTTLS (RFC 6409), and with TLS from the first octet (RFC 8314).
const PORT_SUBMISSION: u16 = 587;
const PORT_SUBMISSIONS: u16 = 465;

/// Longest password of a mail server, in octets.
pub(super) const PASSWORD_LEN_MAX: usize = 1024;

/// How mail leaves.
#[derive(Clone, Debug)]
pub struct MailConfig {
    /// From whom it comes.
    pub sender: MailSender,
    /// Where it goes.
    pub way: MailWay,
    /// What is counted.
    pub figures: MailFigures,
}

/// Where mail goes.
#[derive(Clone, Debug)]
pub enum MailWay {
    /// Into the log, whole, for development: whoever reads the log can use every link.
    Log,
    /// To a mail server.
    Smtp(SmtpConfig),
}

/// A mail server that takes mail for anybody: a relay or a provider's submission service.
#[derive(Clone)]
pub struct SmtpConfig {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: MailTls,
    pub(super) user: Option<String>,
    pub(super) password: Option<Redacted<String>>,
    /// Authorities to trust besides the system's, PEM.
    pub(super) roots_pem: Vec<u8>,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// With the first octet: `smtps:`.
    Implicit,
    /// By STARTTLS; without it nothing is sent. The default of `smtp:`.
    Required,
    /// By STARTTLS where the server offers it. Whoever can change packets can take the offer away.
    Opportunistic,
    /// Never: for a relay on the same machine or in the same closed network.
    Never,
}

/// The address that mail comes from, perhaps with a name: `Shop <no-reply@shop.example>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSender(Mailbox);

/// What is counted of mail. The default counts for nobody.
#[derive(Clone, Debug, Default)]
pub struct MailFigures {
    /// Handed to the mail server.
    pub(super) sent: Counter,
    /// Attempts that will be repeated.
    pub(super) put_off: Counter,
    /// Given up.
    pub(super) failed: Counter,
    /// Never queued, because too many waited.
    pub(super) dropped: Counter,
    /// How many wait, where this node holds the job.
    pub(super) waiting: Gauge,
}

/// What is wrong with how mail should leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailConfigError {
    /// Neither `log` nor a URL of a mail server.
    #[error("mail goes to smtp://host, smtps://host, or log")]
    Url,
    /// The URL has parts that mean nothing here.
    #[error("{0} means nothing in the URL of a mail server")]
    Part(String),
    /// `?tls=` is none of the known words.
    #[error("tls is required, opportunistic or none; smtps:// needs none of them")]
    Tls,
    /// A user without a password, or the other way round.
    #[error("a mail server wants a user and a password, or neither")]
    HalfCredentials,
    /// A password would cross the network in the clear, or whoever is on the way could make it so.
    #[error("the password would not be protected on the way: use tls=required, or smtps://")]
    Unprotected,
    /// Too long, or with line breaks.
    #[error("a mail server's password has 1 to {PASSWORD_LEN_MAX} octets and no line break")]
    Password,
    /// Not an address.
    #[error("'{0}' is no sender: write it like Shop <no-reply@shop.example>, or the address alone")]
    Sender(String),
}

impl MailConfig {
    /// Mail that goes `way`, from `sender`.
    pub fn new(way: MailWay, sender: MailSender) -> Self {
        Self { sender, way, figures: MailFigures::default() }
    }

    /// The same, counted.
    #[must_use]
    pub fn counted(self, figures: MailFigures) -> Self {
        Self { figures, ..self }
    }
}

impl MailFigures {
    /// Counts in `metrics`.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            sent: metrics.counter("mails_sent", "Mails handed to the mail server."),
            put_off: metrics
                .counter("mails_put_off", "Attempts to send a mail that failed and will be repeated."),
            failed: metrics.counter("mails_failed", "Mails given up."),
            dropped: metrics.counter("mails_dropped", "Mails never queued, because too many waited."),
            waiting: metrics.gauge("mails_waiting", "Mails that wait, on the node that sends them."),
        }
    }
}

impl MailWay {
    /// Reads `log`, `smtp://user@host:587?tls=required` or `smtps://user@host:465`. The password may stand in the URL, or
    /// be given apart.
    pub fn parse(text: &str, password: Option<String>, roots_pem: Vec<u8>) -> Result<Self, MailConfigError> {
        if text == "log" {
            return Ok(Self::Log);
        }
        let url = Url::parse(text).map_err(|_| MailConfigError::Url)?;
        let implicit = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(MailConfigError::Url),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(MailConfigError::Url)?;
        if !matches!(url.path(), "" | "/") {
            return Err(MailConfigError::Part(url.path().to_owned()));
        }
        if let Some(fragment) = url.fragment() {
            return Err(MailConfigError::Part(format!("#{fragment}")));
        }
        let tls = tls(&url, implicit)?;
        let decoded = |text: &str| -> Result<String, MailConfigError> {
            let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
            decoded.map(std::borrow::Cow::into_owned).map_err(|_| MailConfigError::Password)
        };
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded).transpose()?;
        let password = match password {
            Some(password) => Some(password),
            None => url.password().map(decoded).transpose()?,
        };
        if user.is_some() != password.is_some() {
            return Err(MailConfigError::HalfCredentials);
        }
        if let Some(password) = &password {
            if password.is_empty()
                || password.len() > PASSWORD_LEN_MAX
                || password.contains(['\r', '\n', '\0'])
            {
                return Err(MailConfigError::Password);
            }
            let protected = matches!(tls, MailTls::Implicit | MailTls::Required);
            if !protected && !is_this_machine(&url) {
                return Err(MailConfigError::Unprotected);
            }
        }
        Ok(Self::Smtp(SmtpConfig {
            // An IPv6 address stands in brackets in a URL only.
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(if implicit { PORT_SUBMISSIONS } else { PORT_SUBMISSION }),
            tls,
            user,
            password: password.map(Redacted::new),
            roots_pem,
        }))
    }

    /// Whether the text holds a password, which must not stand where every user of the machine reads it.
    pub fn holds_password(text: &str) -> bool {
        Url::parse(text).is_ok_and(|url| url.password().is_some())
    }
}

fn tls(url: &Url, implicit: bool) -> Result<MailTls, MailConfigError> {
    let mut tls = None;
    for (name, value) in url.query_pairs() {
        if name != "tls" {
            return Err(MailConfigError::Part(format!("?{name}")));
        }
        tls = Some(match &*value {
            _ if implicit => return Err(MailConfigError::Tls),
            "required" => MailTls::Required,
            "opportunistic" => MailTls::Opportunistic,
            "none" => MailTls::Never,
            _ => return Err(MailConfigError::Tls),
        });
    }
    Ok(tls.unwrap_or(if implicit { MailTls::Implicit } else { MailTls::Required }))
}

fn is_this_machine(url: &Url) -> bool {
    // Of a scheme that is not special to the web, an IPv4 address is kept as text.
    match url.host() {
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|at: IpAddr| at.is_loopback())
        }
        Some(Host::Ipv4(at)) => at.is_loopback(),
        Some(Host::Ipv6(at)) => at.is_loopback(),
        None => false,
    }
}

impl fmt::Debug for SmtpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpConfig({self})")
    }
}

impl fmt::Display for MailWay {
    /// Where mail goes, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("the log"),
            Self::Smtp(smtp) => fmt::Display::fmt(smtp, f),
        }
    }
}

impl fmt::Display for SmtpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.tls {
            MailTls::Implicit => "TLS",
            MailTls::Required => "STARTTLS",
            MailTls::Opportunistic => "STARTTLS if offered",
            MailTls::Never => "no TLS",
        };
        write!(f, "{}:{}, {how}", self.host, self.port)
    }
}

impl fmt::Display for MailSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} <{}>", self.address()),
            None => fmt::Display::fmt(self.address(), f),
        }
    }
}

impl FromStr for MailSender {
    type Err = MailConfigError;

    fn from_str(text: &str) -> Result<Self, MailConfigError> {
        let wrong = || MailConfigError::Sender(text.to_owned());
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"').trim(), address.trim()),
            None => ("", text),
        };
        let address: Address = address.parse().map_err(|_| wrong())?;
        if name.chars().any(char::is_control) || !address.to_string().is_ascii() {
            return Err(wrong());
        }
        Ok(Self(Mailbox::new(Some(name).filter(|name| !name.is_empty()).map(str::to_owned), address)))
    }
}

impl MailSender {
    /// `no-reply@` and the base host of the platform, if that is a host mail can come from.
    pub fn of_platform(base: &mezusphere_model::Host) -> Result<Self, MailConfigError> {
        format!("no-reply@{base}").parse()
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    pub(super) fn address(&self) -> &Address {
        &self.0.email
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(text: &str) -> SmtpConfig {
        match MailWay::parse(text, None, Vec::new()) {
            Ok(MailWay::Smtp(smtp)) => smtp,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_mail_server_is_written_as_a_url() {
        let cases = [
            ("smtp://mail.example", ("mail.example", 587, MailTls::Required)),
            ("smtps://mail.example", ("mail.example", 465, MailTls::Implicit)),
            ("smtp://u:p@mail.example:2525", ("mail.example", 2525, MailTls::Required)),
            ("smtp://mail.example?tls=opportunistic", ("mail.example", 587, MailTls::Opportunistic)),
            ("smtp://127.0.0.1:25/?tls=none", ("127.0.0.1", 25, MailTls::Never)),
            ("smtp://[::1]:25?tls=none", ("::1", 25, MailTls::Never)),
        ];
        for (text, (host, port, tls)) in cases {
            let smtp = smtp(text);
            assert_eq!((smtp.host.as_str(), smtp.port, smtp.tls), (host, port, tls), "{text}");
        }
        assert!(matches!(MailWay::parse("log", None, Vec::new()), Ok(MailWay::Log)));
    }

    #[test]
    fn what_cannot_work_is_told_at_once() {
        use MailConfigError as E;
        let cases = [
            ("", E::Url),
            ("mail.example", E::Url),
            ("http://mail.example", E::Url),
            ("smtp://", E::Url),
            ("smtp://mail.example/inbox", E::Part("/inbox".to_owned())),
            ("smtp://mail.example?tsl=none", E::Part("?tsl".to_owned())),
            ("smtp://mail.example?tls=maybe", E::Tls),
            ("smtps://mail.example?tls=none", E::Tls),
            ("smtp://ada@mail.example", E::HalfCredentials),
            ("smtp://ada:p%0d%0aDATA@mail.example", E::Password),
        ];
        for (text, error) in cases {
            assert_eq!(MailWay::parse(text, None, Vec::new()).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn r25_a_password_neither_crosses_a_network_in_the_clear_nor_shows_in_what_is_printed() {
        for tls in ["opportunistic", "none"] {
            let far = format!("smtp://ada:canary@mail.example?tls={tls}");
            assert_eq!(MailWay::parse(&far, None, Vec::new()).unwrap_err(), MailConfigError::Unprotected);
            for near in ["127.0.0.1", "[::1]", "localhost"] {
                smtp(&format!("smtp://ada:canary@{near}?tls={tls}"));
            }
        }
        let smtp = smtp("smtp://ada:canary@mail.example");
        assert_eq!(format!("{smtp:?}"), "SmtpConfig(mail.example:587, STARTTLS)");
        assert!(MailWay::holds_password("smtp://ada:canary@mail.example"));
        assert!(!MailWay::holds_password("smtp://ada@mail.example"));
    }

    #[test]
    fn a_password_given_apart_wins_and_is_taken_as_it_is() {
        let way = MailWay::parse("smtp://ada:old@mail.example", Some("new%41".to_owned()), Vec::new());
        let Ok(MailWay::Smtp(smtp)) = way else { panic!("{way:?}") };
        assert_eq!(smtp.password.unwrap().expose(), "new%41");
        let way = MailWay::parse("smtp://a%40b:p%3Aq@mail.example", None, Vec::new());
        let Ok(MailWay::Smtp(smtp)) = way else { panic!("{way:?}") };
        assert_eq!((smtp.user.as_deref(), smtp.password.unwrap().expose().as_str()), (Some("a@b"), "p:q"));
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        let sender = |text: &str| text.parse::<MailSender>();
        let shop = sender("Shop & Söhne <no-reply@shop.example>").unwrap();
        assert_eq!(
            (shop.name(), shop.address().to_string().as_str()),
            (Some("Shop & Söhne"), "no-reply@shop.example")
        );
        assert_eq!(sender("no-reply@shop.example").unwrap().name(), None);
        assert_eq!(sender("\"A, B\" <a@b.example>").unwrap().name(), Some("A, B"));
        for bad in [
            "",
            "shop",
            "Shop <>",
            "a@b.example\r\nBcc: c@d.example",
            "S\r\nBcc: x <a@b.example>",
            "ö@b.example",
        ] {
            assert!(sender(bad).is_err(), "{bad}");
        }
    }
}
