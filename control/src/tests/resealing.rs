//! A master key goes, on a whole installation, and a seal that is no master key at all.

use std::sync::atomic::{AtomicU8, Ordering};

use mezusphere_model::seal::UnsealError;
use mezusphere_pki::{Issuing, Root};
use mezusphere_store::primary::secret;

use super::*;
use crate::installation::secret_name;
use crate::keys::Resealed;

fn key(octet: u8) -> MasterKey {
    MasterKey::from_bytes([octet; 32])
}

/// A control in `dir` with this seal.
async fn with_seal(dir: &std::path::Path, seal: Arc<dyn Seal>) -> Result<(Control, Primary), OpenError> {
    let (hand, entropy) = (ManualClock::at(BEGIN), entropy());
    let primary = Primary::open_sqlite(dir, hand.clock(), entropy.clone(), Arc::clone(&seal)).await.unwrap();
    let control = Control::open(development(), primary.clone(), seal, hand.clock(), entropy).await?;
    Ok((control, primary))
}

#[tokio::test]
async fn r20_an_installation_changes_its_master_key_while_it_runs_and_starts_with_the_new_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::new(key(1), entropy());
    let (control, primary) = with_seal(dir.path(), Arc::new(sealer.clone())).await.unwrap();
    let all = control.check_sealed().await.unwrap().0;
    assert!(all >= 6, "{all}");
    assert_eq!(control.reseal().await.unwrap(), Resealed::default(), "nothing is to go");
    sealer.replace(&key(2)).unwrap();
    assert_eq!(control.unsealed_left().await.unwrap(), all as u64);
    let done = control.reseal().await.unwrap();
    assert_eq!((done.done, done.lost, done.left, done.elsewhere), (all, 0, 0, false));
    sealer.forget_retired();
    assert_eq!(control.check_sealed().await.unwrap(), (all, 0));
    drop(control);
    primary.close().await;
    drop(primary);

    let old = with_seal(dir.path(), Arc::new(Sealer::new(key(1), entropy()))).await;
    assert!(matches!(old.err().unwrap(), OpenError::MasterKey(_)));
    let (control, primary) = with_seal(dir.path(), Arc::new(Sealer::new(key(2), entropy()))).await.unwrap();
    assert!(control.check_sealed().await.unwrap().1 == 0);
    primary.close().await;
}

#[tokio::test]
async fn r20_a_ca_key_that_an_earlier_version_sealed_twice_is_sealed_anew_all_the_way_down() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::new(key(1), entropy());
    let (control, primary) = with_seal(dir.path(), Arc::new(sealer.clone())).await.unwrap();
    let values = async || {
        primary
            .read(async |tx| {
                let root = secret::current(tx, secret_name::ROOT).await?.unwrap();
                Ok::<_, mezusphere_store::StoreError>((
                    root,
                    secret::current(tx, secret_name::ISSUING).await?.unwrap(),
                ))
            })
            .await
            .unwrap()
    };
    let (root, issuing) = values().await;
    let twice = (
        Root::from_secret_pem(&root.value).unwrap().sealed(&sealer),
        Issuing::from_secret_pem(&issuing.value, &entropy()).unwrap().sealed(&sealer),
    );
    primary
        .write(async |tx| {
            secret::replace(tx, secret_name::ROOT, root.version, &twice.0).await?;
            secret::replace(tx, secret_name::ISSUING, issuing.version, &twice.1).await
        })
        .await
        .unwrap();
    sealer.replace(&key(2)).unwrap();
    control.reseal().await.unwrap();
    sealer.forget_retired();
    let (root_now, issuing_now) = values().await;
    assert_eq!(root_now.value, root.value);
    assert_eq!(issuing_now.value, issuing.value);
    drop(control);
    primary.close().await;
    drop(primary);
    with_seal(dir.path(), Arc::new(Sealer::new(key(2), entropy()))).await.unwrap();
}

/// A key management service, as far as this process sees one: it names the version of a key it never shows.
struct Service {
    inside: [Sealer; 2],
    version: AtomicU8,
}

impl Service {
    fn new() -> Arc<Self> {
        let inside = [1, 2].map(|octet| Sealer::new(key(octet), entropy()));
        Arc::new(Self { inside, version: AtomicU8::new(0) })
    }

    fn name(version: u8) -> Vec<u8> {
        [b"kms:".as_slice(), &[version]].concat()
    }
}

impl Seal for Service {
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let version = self.version.load(Ordering::Acquire);
        [Self::name(version), self.inside[usize::from(version)].seal(context, secret)].concat()
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (version, sealed) =
            sealed.strip_prefix(b"kms:").and_then(<[u8]>::split_first).ok_or(UnsealError)?;
        self.inside.get(usize::from(*version)).ok_or(UnsealError)?.open(context, sealed)
    }

    fn outdated(&self) -> Vec<Vec<u8>> {
        (0..self.version.load(Ordering::Acquire)).map(Self::name).collect()
    }
}

#[tokio::test]
async fn another_seal_than_a_master_key_is_plugged_in_and_its_keys_change_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new();
    let (control, primary) = with_seal(dir.path(), Arc::clone(&service) as Arc<dyn Seal>).await.unwrap();
    let all = control.check_sealed().await.unwrap().0;
    service.version.store(1, Ordering::Release);
    assert_eq!(control.unsealed_left().await.unwrap(), all as u64);
    assert_eq!(control.reseal().await.unwrap().done, all);
    assert_eq!(control.unsealed_left().await.unwrap(), 0);
    drop(control);
    primary.close().await;
    drop(primary);
    let (control, _primary) = with_seal(dir.path(), service).await.unwrap();
    assert_eq!(control.check_sealed().await.unwrap().1, 0);
}
