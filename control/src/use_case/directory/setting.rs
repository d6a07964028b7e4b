//! Which values a directory's settings may have, and what changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mezusphere_identity::account::{Email, check_name};
use mezusphere_model::Host;
use mezusphere_store::primary::directory::{
    DOMAINS_MAX, LOGO_LEN_MAX, Logo, LogoType, SessionLimits, Settings, SignUp as Policy,
};
use serde_json::{Map, Value};

use crate::api::types::{Change, DirectoryChanges, SignUp};
use crate::config;
use crate::problem::{self, Refusal};

/// Shortest and longest time a sign-in may last: five minutes, and as long as browsers keep a cookie (400 days).
const ABSOLUTE_S: std::ops::RangeInclusive<u32> = 300..=400 * 24 * 3600;

/// Shortest idle limit: activity is reported a few times within it.
const IDLE_S_MIN: u32 = 60;

/// Longest brand or sender's name, in characters: it stands in one line on a phone.
const BRAND_LEN_MAX: usize = 60;

/// Longest support address, in octets.
const SUPPORT_LEN_MAX: usize = 200;

fn refuse(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(&problem::DIRECTORY_INVALID, format!("{field}: {why}"))
}

/// The settings after the changes, and what becomes of the logo.
pub(super) fn applied(
    before: &Settings,
    changes: DirectoryChanges,
    installation: config::SessionLimits,
) -> Result<(Settings, Change<Logo>), Refusal> {
    let mut after = before.clone();
    after.sessions = sessions(before.sessions, &changes, installation)?;
    after.sign_up = sign_up(&before.sign_up, changes.sign_up, changes.domains)?;
    after.brand.name =
        changes.brand_name.try_map(|text| line("brand_name", &text))?.applied(after.brand.name);
    after.brand.colour = changes.colour.try_map(|text| colour(&text))?.applied(after.brand.colour);
    after.brand.support = changes.support.try_map(|text| support(&text))?.applied(after.brand.support);
    after.mail.from_name =
        changes.mail_from_name.try_map(|text| line("mail_from_name", &text))?.applied(after.mail.from_name);
    after.mail.reply_to = changes.mail_reply_to.try_map(|text| address(&text))?.applied(after.mail.reply_to);
    let logo = changes.logo.try_map(|text| logo(&text))?;
    Ok((after, logo))
}

fn sign_up(before: &Policy, mode: Option<SignUp>, domains: Option<Vec<String>>) -> Result<Policy, Refusal> {
    let held = match before {
        Policy::Domains(domains) => Some(domains.clone()),
        _ => None,
    };
    let by_domain = matches!(mode, Some(SignUp::Domains)) || (mode.is_none() && held.is_some());
    match (mode, domains) {
        (_, domains) if by_domain => {
            let domains = domains.map_or_else(|| Ok(held.unwrap_or_default()), checked_domains)?;
            if domains.is_empty() {
                return Err(refuse("domains", "name at least one, such as shop.example"));
            }
            Ok(Policy::Domains(domains))
        }
        (_, Some(domains)) if !domains.is_empty() => {
            Err(refuse("domains", "they are for sign_up domains; set that too"))
        }
        (Some(SignUp::Invitation), _) => Ok(Policy::Invitation),
        (Some(SignUp::Open), _) => Ok(Policy::Open),
        (Some(SignUp::Closed | SignUp::Domains), _) => Ok(Policy::Closed),
        (None, _) => Ok(before.clone()),
    }
}

fn checked_domains(domains: Vec<String>) -> Result<Vec<String>, Refusal> {
    if domains.len() > DOMAINS_MAX {
        return Err(refuse("domains", format!("at most {DOMAINS_MAX}")));
    }
    let mut checked = Vec::with_capacity(domains.len());
    for domain in domains {
        // People write what they see after the @.
        let host = Host::parse(domain.trim_start_matches('@'))
            .map_err(|why| refuse("domains", format!("{why}; other scripts in their xn-- form")))?;
        if !host.as_str().contains('.') {
            return Err(refuse("domains", format!("{host} is no whole domain")));
        }
        checked.push(host.as_str().to_owned());
    }
    checked.sort_unstable();
    checked.dedup();
    Ok(checked)
}

fn sessions(
    before: Option<SessionLimits>,
    changes: &DirectoryChanges,
    installation: config::SessionLimits,
) -> Result<Option<SessionLimits>, Refusal> {
    use Change::{Clear, Keep, Set};

    let seconds = |span: std::time::Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    let now = before.unwrap_or(SessionLimits {
        absolute_s: seconds(installation.absolute),
        idle_s: seconds(installation.idle),
    });
    let limits = match (changes.session_absolute_s, changes.session_idle_s) {
        (Keep, Keep) => return Ok(before),
        (Clear, Set(_)) | (Set(_), Clear) => {
            return Err(refuse("session_idle_s", "clear both limits, or set the one that should differ"));
        }
        (Clear, _) | (_, Clear) => return Ok(None),
        (Set(absolute_s), Keep) => SessionLimits { absolute_s, ..now },
        (Keep, Set(idle_s)) => SessionLimits { idle_s, ..now },
        (Set(absolute_s), Set(idle_s)) => SessionLimits { absolute_s, idle_s },
    };
    if !ABSOLUTE_S.contains(&limits.absolute_s) {
        return Err(refuse("session_absolute_s", "five minutes to 400 days"));
    }
    let limits = match changes.session_idle_s {
        // An idle limit that nobody asked for gives way to the absolute one.
        Keep => SessionLimits { idle_s: limits.idle_s.min(limits.absolute_s), ..limits },
        _ => limits,
    };
    if limits.idle_s != 0 && !(IDLE_S_MIN..=limits.absolute_s).contains(&limits.idle_s) {
        return Err(refuse(
            "session_idle_s",
            "0 for none, or a minute at least, and no longer than the whole sign-in",
        ));
    }
    Ok(Some(limits))
}

fn line(field: &str, text: &str) -> Result<String, Refusal> {
    let name = check_name(text).map_err(|why| refuse(field, why))?;
    if name.chars().count() > BRAND_LEN_MAX || name.contains(['<', '>', '"', '@']) {
        return Err(refuse(field, format!("at most {BRAND_LEN_MAX} characters, without < > \" @")));
    }
    Ok(name.to_owned())
}

fn colour(text: &str) -> Result<String, Refusal> {
    let digits = text.strip_prefix('#').unwrap_or_default();
    if digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(refuse("colour", "write it as #rrggbb, such as #0a7c5b"));
    }
    Ok(text.to_ascii_lowercase())
}

fn support(text: &str) -> Result<String, Refusal> {
    if text.len() > SUPPORT_LEN_MAX {
        return Err(refuse("support", format!("at most {SUPPORT_LEN_MAX} octets")));
    }
    let is_page = text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| Host::parse(host).is_ok())
    });
    if is_page {
        return Ok(text.to_owned());
    }
    Email::parse(text)
        .map(|email| email.as_str().to_owned())
        .map_err(|_| refuse("support", "an e-mail address, or an address that begins with https://"))
}

fn address(text: &str) -> Result<String, Refusal> {
    Email::parse(text).map(|email| email.as_str().to_owned()).map_err(|why| refuse("mail_reply_to", why))
}

fn logo(text: &str) -> Result<Logo, Refusal> {
    let bytes = STANDARD.decode(text).map_err(|_| refuse("logo", "not base64 (RFC 4648 §4)"))?;
    if bytes.len() > LOGO_LEN_MAX {
        return Err(refuse("logo", format!("at most {LOGO_LEN_MAX} octets")));
    }
    let media_type = LogoType::of(&bytes).ok_or_else(|| refuse("logo", "a PNG, WebP or JPEG picture"))?;
    Ok(Logo { media_type, bytes })
}

/// The fields that differ, as they are now, for the audit log.
pub(super) fn differences(before: &Settings, after: &Settings) -> Value {
    let fields = |settings: &Settings| match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let old = fields(before);
    let mut now = fields(after);
    now.retain(|name, value| old.get(name) != Some(value));
    Value::Object(now)
}
