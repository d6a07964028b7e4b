//! The CA as people read it.

use std::fmt::Write as _;

use mezusphere_control::api::types::{CaHow, CaMember, CaPhase, CaRole, CaRotation, CaStatus, CaWhat};
use serde_json::Value;

/// Octets of a digest that people see: enough to tell a handful of CAs apart.
const DIGEST_SHOWN: usize = 12;

/// Members listed when nothing is waited for; `--json` has more.
const MEMBERS_SHOWN: usize = 20;

/// What follows a compromise.
pub(super) const TAINTED: &str = "\
The CA's certificates are refused from now on, and a new CA issues. Edges and warpgates ask it for certificates by themselves.
  next: find out how the key got away; if the root's key was beside it, replace the root too: mezusphere ca rotate --root
        watch everybody come back: mezusphere ca status";

/// All of it.
pub(super) fn status(ca: &CaStatus) -> String {
    let mut out = String::new();
    line(&mut out, "Trust domain", &ca.trust_domain);
    for (n, root) in ca.roots.iter().enumerate() {
        let title = if n == 0 { "Root" } else { "Root, coming" };
        let key = match (n, ca.root_key) {
            (0, true) => "; its key is kept here",
            (0, false) => "; its key is kept elsewhere",
            _ => "",
        };
        line(&mut out, title, &format!("{} until {}{key}", short(&root.sha256), root.not_after));
    }
    let issuing = &ca.issuing;
    line(&mut out, "Issuing CA", &format!("{} until {}", short(&issuing.key_sha256), issuing.not_after));
    match (&ca.rotation, &ca.next) {
        (Some(running), _) => rotation(&mut out, running),
        (None, Some(next)) if next.what == CaWhat::Issuing && !ca.root_key => {
            line(
                &mut out,
                "Next",
                &format!("from {} on, have a new issuing CA signed: mezusphere ca request", next.at),
            );
        }
        (None, Some(next)) => {
            line(&mut out, "Next", &format!("{} replaced by itself from {}", what(next.what), next.at));
        }
        (None, None) => {}
    }
    if ca.request {
        line(&mut out, "Request", "waits for a root's signature; mezusphere ca install FILE brings it in");
    }
    if let Some(last) = &ca.last {
        let how = match last.how {
            CaHow::Done => "replaced",
            CaHow::Aborted => "kept: its replacement was taken back",
            CaHow::Tainted => "refused at once, its key in other hands",
        };
        let behind = match last.left_behind {
            0 => String::new(),
            1 => "; 1 member was not waited for".to_owned(),
            count => format!("; {count} members were not waited for"),
        };
        line(&mut out, "Last", &format!("{} {how}, {}{behind}", what(last.what), last.at));
    }
    if let Some(newest) = ca.retired.first() {
        let more = ca.retired.len() - 1;
        let others = if more == 0 { String::new() } else { format!(", and {more} before it") };
        line(&mut out, "Refused", &format!("{} since {}{others}", short(&newest.key_sha256), newest.at));
    }
    out.push('\n');
    out.push_str(&members(ca));
    out.trim_end().to_owned()
}

/// A rotation was begun.
pub(super) fn begun(ca: &CaStatus) -> String {
    let Some(running) = &ca.rotation else { return "The rotation is over already.".to_owned() };
    format!(
        "The rotation of {} has begun. Traffic goes on.\n  next: watch it: mezusphere ca status; take it back: mezusphere ca rotate --abort",
        what(running.what)
    )
}

/// A rotation was taken back.
pub(super) fn aborted(ca: &CaStatus) -> String {
    match &ca.rotation {
        None => {
            let next = ca.next.as_ref().filter(|_| ca.root_key).map_or_else(String::new, |next| {
                format!("\n  next: the schedule replaces {} from {}", what(next.what), next.at)
            });
            format!("Taken back. Nobody had a certificate of the new CA.{next}")
        }
        Some(_) => "Being taken back: certificates come from the old CA again, and the new one is refused when nobody \
                    shows one of it.\n  next: watch it: mezusphere ca status"
            .to_owned(),
    }
}

/// A certificate's row: digests as short as people compare them.
pub(super) fn issued(item: &Value) -> Value {
    let mut row = item.clone();
    for field in ["ca", "sha256"] {
        if let Some(Value::String(digest)) = row.get_mut(field) {
            *digest = short(digest).to_owned();
        }
    }
    row
}

fn rotation(out: &mut String, running: &CaRotation) {
    let phase = match running.phase {
        CaPhase::Announce => "announce: the new CA is made",
        CaPhase::Trust => "trust: every node learns to trust it",
        CaPhase::Sign if running.undo => "sign: every node gets a certificate of the old CA again",
        CaPhase::Sign => "sign: every node gets a certificate of it",
        CaPhase::Retire => "retire: the old CA is refused",
    };
    let taken_back = if running.undo { ", being taken back" } else { "" };
    line(
        out,
        "Rotation",
        &format!("of {}{taken_back}, started {} by {}", what(running.what), running.started_at, running.by),
    );
    line(out, "Phase", phase);
    let left = running.max_wait_s.saturating_sub(running.waited_s);
    let waits = match running.waits_for {
        0 => "for connections to end that are done in a moment".to_owned(),
        1 => format!("for 1 member, {} at most", span(left)),
        count => format!("for {count} members, {} at most", span(left)),
    };
    line(out, "Waits", &waits);
}

fn members(ca: &CaStatus) -> String {
    if ca.members.is_empty() {
        return String::new();
    }
    let waiting = ca.members.iter().filter(|member| member.waits_for.is_some()).count();
    let shown = ca.members.get(..MEMBERS_SHOWN.max(waiting).min(ca.members.len())).unwrap_or_default();
    let mut rows = vec![["MEMBER", "ROLE", "HERE", "CA", "UNTIL", "APPLIED", "WAITS FOR"].map(str::to_owned)];
    rows.extend(shown.iter().map(row));
    let mut widths = [0; 7];
    for cells in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for cells in &rows {
        let padded: Vec<_> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // Writing to a String cannot fail.
        writeln!(out, "{}", padded.join("  ").trim_end()).unwrap_or_default();
    }
    if ca.member_count > shown.len() {
        let more = ca.member_count - shown.len();
        writeln!(out, "… and {more} more; --json shows up to 500").unwrap_or_default();
    }
    out
}

fn row(member: &CaMember) -> [String; 7] {
    let none = || "–".to_owned();
    [
        // Names are data: a control character must not move the reader's cursor.
        member.name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        match member.role {
            CaRole::Control => "control",
            CaRole::Bundles => "signs bundles",
            CaRole::Edge => "edge",
            CaRole::Warpgate => "warpgate",
        }
        .to_owned(),
        if member.here { "yes" } else { "no" }.to_owned(),
        member.ca.as_deref().map_or_else(none, |ca| short(ca).to_owned()),
        member.until.clone().unwrap_or_else(none),
        member.applied.map_or_else(none, |revision| revision.to_string()),
        member.waits_for.clone().unwrap_or_else(none),
    ]
}

const fn what(what: CaWhat) -> &'static str {
    match what {
        CaWhat::Issuing => "the issuing CA",
        CaWhat::Root => "the root",
    }
}

fn short(digest: &str) -> &str {
    digest.get(..DIGEST_SHOWN).unwrap_or(digest)
}

/// A stretch of time as people say it.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

fn line(out: &mut String, title: &str, text: &str) {
    // Writing to a String cannot fail.
    writeln!(out, "{title:<12}  {text}").unwrap_or_default();
}
