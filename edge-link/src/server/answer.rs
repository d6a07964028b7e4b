//! What each endpoint does: reads the question, asks control, writes the answer. Who asks is the edge of the connection.

use std::sync::Arc;

use mezusphere_model::document::Partition;
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::{
    ACTIVITY_BATCH_MAX, AboutEdge, Activity, CONNECT_MESSAGE_LEN_MAX, ControlLink, DENIAL_BATCH_MAX,
    DenialCount, LinkError, RedeemCode, TUNNELS_HELD_MAX, TunnelReport,
};
use mezusphere_pki::authority::CSR_LEN_MAX;
use mezusphere_store::feed::{self, AppliedReport, Changes, FeedSource, Woken};
use serde::Serialize;

use super::reply::Failure;
use crate::body::{Encoded, decode, encode};
use crate::limits::{BATCH_OCTETS_MAX, HEADS_MAX, REPORTS_MAX, WAKE_LINE_LEN_MAX};
use crate::wire::{
    Applied, AssertionFor, Batch, ByToken, Certified, CertifyKey, Change, Changed, ChangesSince, ConnectFrom,
    ConnectReply, Endpoint, FiledDoc, Found, HeadAt, Heads, Nothing, Page, SnapshotOf, TunnelsHeld, WakeLine,
    Word,
};

/// Who asks, and what it may ask.
pub(super) struct Asker {
    pub(super) edge: EdgeId,
    pub(super) link: Arc<dyn ControlLink>,
    pub(super) feed: Arc<dyn FeedSource>,
}

type Reply = Result<Encoded, Failure>;

impl Asker {
    /// Answers a question. `Wake` is not one: it has no end.
    pub(super) async fn answer(&self, endpoint: Endpoint, question: &[u8]) -> Reply {
        match endpoint {
            Endpoint::Heads => self.heads().await,
            Endpoint::Snapshot => self.snapshot(decode(question)?).await,
            Endpoint::Changes => self.changes(decode(question)?).await,
            Endpoint::Applied => self.applied(decode(question)?).await,
            Endpoint::Wake => Err(Failure::new(Word::Unknown, "the wake is no question")),
            Endpoint::Find => {
                let ByToken { token } = decode(question)?;
                plain(&Found { found: self.link.find_session(token).await? }).await
            }
            Endpoint::Redeem => plain(&self.link.redeem(decode::<RedeemCode>(question)?).await?).await,
            Endpoint::SignOut => {
                let ByToken { token } = decode(question)?;
                done(self.link.sign_out(token).await).await
            }
            Endpoint::Activity => {
                let Batch::<Activity> { batch } = decode(question)?;
                at_most(batch.len(), ACTIVITY_BATCH_MAX)?;
                done(self.link.activity(batch).await).await
            }
            Endpoint::Denials => {
                let Batch::<DenialCount> { batch } = decode(question)?;
                at_most(batch.len(), DENIAL_BATCH_MAX)?;
                done(self.link.denials(batch).await).await
            }
            Endpoint::Assertion => {
                let asked: AssertionFor = decode(question)?;
                let credential = asked.credential();
                let credential =
                    credential.ok_or_else(|| Failure::new(Word::Malformed, "there is no credential"))?;
                plain(&self.link.assertion(credential, asked.environment).await?).await
            }
            Endpoint::Tunnel => {
                let mut report: TunnelReport = decode(question)?;
                // An edge reports its own tunnels and no other's.
                report.edge = self.edge;
                done(self.link.tunnel(report).await).await
            }
            Endpoint::Tunnels => {
                let TunnelsHeld { mut held, at } = decode(question)?;
                at_most(held.len(), TUNNELS_HELD_MAX)?;
                for report in &mut held {
                    report.edge = self.edge;
                }
                done(self.link.tunnels(held, at).await).await
            }
            Endpoint::Certify => {
                let CertifyKey { csr_der } = decode(question)?;
                at_most(csr_der.len(), CSR_LEN_MAX)?;
                plain(&Certified { chain_der: self.link.certify(csr_der).await? }).await
            }
            Endpoint::About => done(self.link.about(decode::<AboutEdge>(question)?).await).await,
            Endpoint::Connect => {
                let ConnectFrom { message, from } = decode(question)?;
                at_most(message.len(), CONNECT_MESSAGE_LEN_MAX)?;
                plain(&ConnectReply { message: self.link.connect(message, from).await? }).await
            }
        }
    }

    async fn heads(&self) -> Reply {
        let heads = self.feed.heads().await?;
        at_most(heads.len(), HEADS_MAX)?;
        let visible = heads.into_iter().filter(|head| may_leave(head.partition));
        let heads = visible
            .map(|head| HeadAt { partition: head.partition.to_string(), at: head.cursor.into() })
            .collect();
        Ok(encode(&Heads { heads }, true).await?)
    }

    async fn snapshot(&self, asked: SnapshotOf) -> Reply {
        visible(asked.partition)?;
        let max = asked.max.clamp(1, feed::BATCH_LEN_MAX);
        let mut page = self.feed.snapshot(asked.partition, asked.after, max).await?;
        let fit = fitting(page.documents.iter().map(|filed| filed.body.get().len()), max);
        page.more |= fit < page.documents.len();
        page.documents.truncate(fit);
        let documents = page.documents.into_iter().map(FiledDoc::from).collect();
        let page = Page { at: page.cursor.into(), documents, more: page.more };
        Ok(encode(&page, may_deflate(asked.partition)).await?)
    }

    async fn changes(&self, asked: ChangesSince) -> Reply {
        visible(asked.partition)?;
        let max = asked.max.clamp(1, feed::BATCH_LEN_MAX);
        let changed = match self.feed.changes(asked.partition, asked.since.into(), max).await? {
            Changes::StartOver => Changed { start_over: true, ..Changed::default() },
            Changes::Entries { mut entries, mut more } => {
                let len = |entry: &feed::Entry| entry.body.as_ref().map_or(0, |body| body.get().len());
                let fit = fitting(entries.iter().map(len), max);
                more |= fit < entries.len();
                entries.truncate(fit);
                Changed { start_over: false, entries: entries.into_iter().map(Change::from).collect(), more }
            }
        };
        Ok(encode(&changed, may_deflate(asked.partition)).await?)
    }

    async fn applied(&self, asked: Applied) -> Reply {
        at_most(asked.reports.len(), REPORTS_MAX)?;
        let follower = self.edge.to_string();
        let reports = asked.reports.into_iter().filter(|report| may_leave(report.partition));
        let reports = reports
            .map(|report| AppliedReport {
                follower: follower.clone(),
                partition: report.partition,
                cursor: report.at.into(),
                at: report.time,
            })
            .collect();
        self.feed.applied(reports).await?;
        plain(&Nothing {}).await
    }
}

/// What an edge is told of what happened; `None`: nothing that concerns it.
pub(super) fn wake_line(woken: &Woken) -> Option<WakeLine> {
    let Woken::Changed(partitions) = woken else {
        return Some(WakeLine { anything: true, ..WakeLine::default() });
    };
    let visible = partitions.iter().filter(|partition| may_leave(**partition));
    let changed: Vec<String> = visible.map(ToString::to_string).collect();
    // Each with its quotes and comma.
    let len: usize = changed.iter().map(|text| text.len() + 3).sum();
    if changed.is_empty() {
        None
    } else if len > WAKE_LINE_LEN_MAX / 2 {
        Some(WakeLine { anything: true, ..WakeLine::default() })
    } else {
        Some(WakeLine { changed, anything: false })
    }
}

/// The control partition stays where control runs.
fn may_leave(partition: Partition) -> bool {
    partition != Partition::Control
}

fn visible(partition: Partition) -> Result<(), Failure> {
    let hidden = || Failure::new(Word::Malformed, "there is no such partition");
    if may_leave(partition) { Ok(()) } else { Err(hidden()) }
}

/// In the platform's partition keys of many hosts lie beside what strangers may choose (challenges of their hosts).
fn may_deflate(partition: Partition) -> bool {
    partition != Partition::Platform
}

/// How many of these documents go into one answer: at least one, whatever its length.
fn fitting(lens: impl Iterator<Item = usize>, max: usize) -> usize {
    let mut sum = 0;
    lens.take(max)
        .take_while(|len| {
            let fits = sum < BATCH_OCTETS_MAX;
            sum += len;
            fits
        })
        .count()
}

fn at_most(len: usize, max: usize) -> Result<(), Failure> {
    let too_many = || Failure::new(Word::Malformed, format!("{len} is more than {max}"));
    if len <= max { Ok(()) } else { Err(too_many()) }
}

/// Writes an answer that may hold a secret beside what a stranger chose: never deflated.
async fn plain<T: Serialize>(answer: &T) -> Reply {
    Ok(encode(answer, false).await?)
}

async fn done(end: Result<(), LinkError>) -> Reply {
    end?;
    plain(&Nothing {}).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_at_its_octets_but_holds_one_document_at_least() {
        let of = |lens: &[usize]| fitting(lens.iter().copied(), 1000);
        assert_eq!(of(&[10, 10, 10]), 3);
        assert_eq!(of(&[BATCH_OCTETS_MAX * 2, 10]), 1);
        assert_eq!(of(&[BATCH_OCTETS_MAX - 1, 10, 10]), 2);
        assert_eq!(of(&[]), 0);
        assert_eq!(fitting([1, 1, 1].into_iter(), 2), 2);
    }

    #[test]
    fn the_control_partition_wakes_nobody() {
        let project = Partition::Project(mezusphere_model::id::ProjectId::from_bits(7));
        let changed = |partitions: &[Partition]| wake_line(&Woken::Changed(partitions.into()));
        assert_eq!(changed(&[Partition::Control]), None);
        let both = changed(&[Partition::Control, project]).unwrap();
        assert_eq!(both.changed, [project.to_string()]);
        assert!(wake_line(&Woken::Anything).unwrap().anything);
    }

    #[test]
    fn a_storm_of_changes_is_told_as_anything() {
        let many: Vec<_> =
            (0..5000).map(|n| Partition::Project(mezusphere_model::id::ProjectId::from_bits(n))).collect();
        assert!(wake_line(&Woken::Changed(many.into())).unwrap().anything);
    }
}
