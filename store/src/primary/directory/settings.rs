//! What a directory allows and what it looks like: plain data, kept as JSON.
//!
//! Every field may be missing, so that a node reads what an older or newer one wrote; what is missing or not understood
//! is the strictest. Whether values make sense is checked where they are set.

use serde::{Deserialize, Serialize};

/// Longest logo, in octets: it is part of every page that a browser has not seen yet.
pub const LOGO_LEN_MAX: usize = 64 * 1024;

/// Most domains of [`SignUp::Domains`].
pub const DOMAINS_MAX: usize = 50;

/// The settings of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Who may add themselves.
    #[serde(default)]
    pub sign_up: SignUp,
    /// How long sign-ins and sessions last; `None`: as the installation says.
    #[serde(default)]
    pub sessions: Option<SessionLimits>,
    /// What its pages and mails look like.
    #[serde(default)]
    pub brand: Brand,
    /// From whom its mails come.
    #[serde(default)]
    pub mail: MailLooks,
}

/// Who may add themselves to a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", content = "domains", rename_all = "snake_case")]
pub enum SignUp {
    /// Whose address is of one of these domains (lower case, ASCII), once they have proved that it is theirs.
    Domains(Vec<String>),
    /// Whoever proves that an address is theirs.
    Open,
    /// Whoever was invited.
    Invitation,
    /// Nobody: operators add users.
    #[default]
    Closed,
}

/// How long somebody stays signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// A sign-in ends so many seconds after it began.
    pub absolute_s: u32,
    /// And after so many seconds unused; 0: never for idleness.
    pub idle_s: u32,
}

/// What a directory's pages look like; `None`: as Mezusphere's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brand {
    /// Name on pages and in mails; `None`: the project's name, or the directory's.
    #[serde(default)]
    pub name: Option<String>,
    /// Colour of buttons and links, `#rrggbb`.
    #[serde(default)]
    pub colour: Option<String>,
    /// The logo; its octets are kept apart: [`super::logo`].
    #[serde(default)]
    pub logo: Option<LogoMark>,
    /// Where users find help: an e-mail address or an `https` address.
    #[serde(default)]
    pub support: Option<String>,
}

/// Which logo a directory has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoMark {
    /// What it is.
    pub media_type: LogoType,
    /// The first 32 hexadecimal digits of its SHA-256: what an address of it carries, so that it may be cached for ever.
    pub digest: String,
}

/// What a logo may be: nothing that can hold a script or refer to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogoType {
    /// `image/png`.
    #[serde(rename = "image/png")]
    Png,
    /// `image/webp`.
    #[serde(rename = "image/webp")]
    Webp,
    /// `image/jpeg`.
    #[serde(rename = "image/jpeg")]
    Jpeg,
}

impl LogoType {
    /// Its media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }

    /// What octets say they are by how they begin; `None`: none of the three.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Self::Jpeg)
        } else {
            webp.then_some(Self::Webp)
        }
    }
}

/// A logo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    /// What it is.
    pub media_type: LogoType,
    /// The picture, at most [`LOGO_LEN_MAX`].
    pub bytes: Vec<u8>,
}

/// From whom mails come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailLooks {
    /// Name beside the installation's sender address; `None`: the brand's.
    #[serde(default)]
    pub from_name: Option<String>,
    /// Where answers go.
    #[serde(default)]
    pub reply_to: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_unknown_is_the_strictest() {
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        let newer = r#"{"sign_up":{"mode":"domains","domains":["a.example"]},"sessions":null,"other":1}"#;
        let read: Settings = serde_json::from_str(newer).unwrap();
        assert_eq!(read.sign_up, SignUp::Domains(vec!["a.example".to_owned()]));
        assert_eq!(Settings::default().sign_up, SignUp::Closed);
    }

    #[test]
    fn a_logo_is_what_its_first_octets_say() {
        assert_eq!(LogoType::of(b"\x89PNG\r\n\x1a\n..."), Some(LogoType::Png));
        assert_eq!(LogoType::of(b"RIFF\x01\0\0\0WEBPVP8 "), Some(LogoType::Webp));
        assert_eq!(LogoType::of(&[0xff, 0xd8, 0xff, 0xe0]), Some(LogoType::Jpeg));
        for other in [&b"<svg xmlns="[..], b"GIF89a", b"RIFF", b""] {
            assert_eq!(LogoType::of(other), None);
        }
    }
}
