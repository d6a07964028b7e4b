//! What an edge keeps beside the feed outlives a restart, ends when it should, and cannot be read on a stolen disk.

use std::time::Duration;

use mezusphere_model::clock::ManualClock;

use crate::open;
use crate::support::START;

const KEY: [u8; 32] = [7; 32];

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart_until_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let end = START.after(Duration::from_mins(30));
    {
        let replica = open(&dir.path().join("replica"), clock.clock());
        replica.keep(&KEY, b"an-assertion-in-clear", end);
        replica.keep(&[8; 32], &vec![0; mezusphere_store::replica::KEPT_LEN_MAX + 1], end);
    }
    let on_disk = every_octet(dir.path());
    assert!(!on_disk.windows(12).any(|window| window == b"an-assertion"), "it lies in clear on the disk");
    let replica = open(&dir.path().join("replica"), clock.clock());
    assert_eq!(replica.kept(&KEY).as_deref(), Some(&b"an-assertion-in-clear"[..]));
    assert_eq!(replica.kept(&[8; 32]), None, "too long to be kept");
    clock.advance(Duration::from_mins(30));
    assert_eq!(replica.kept(&KEY), None, "its end has come");
}

fn every_octet(dir: &std::path::Path) -> Vec<u8> {
    let mut octets = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        octets.extend(if path.is_dir() { every_octet(&path) } else { std::fs::read(&path).unwrap() });
    }
    octets
}
