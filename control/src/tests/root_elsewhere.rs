//! An installation that begins under a root whose key is never here.

use mezusphere_pki::{ExpectedRole, Root, Trust, TrustDomain, ceremony, verify_peer};
use mezusphere_store::primary::secret;

use super::*;
use crate::RootElsewhere;
use crate::installation::secret_name;

/// A machine without an installation, and a root elsewhere.
struct Before {
    dir: tempfile::TempDir,
    hand: ManualClock,
    entropy: Entropy,
    root: Root,
}

impl Before {
    fn new() -> Self {
        let (hand, entropy) = (ManualClock::at(BEGIN), entropy());
        let domain = TrustDomain::parse("shop.example").unwrap();
        let root = Root::create(&domain, BEGIN, &entropy).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), hand, entropy, root }
    }

    /// A start with these files.
    async fn start(
        &self,
        root_pem: String,
        issuing_pem: Option<String>,
    ) -> Result<(Control, Primary), OpenError> {
        let root_elsewhere = Some(RootElsewhere { root_pem, issuing_pem });
        let config = ControlConfig { root_elsewhere, ..development() };
        open(self.dir.path(), &self.hand, &self.entropy, config, 7).await
    }

    /// What the start asks for.
    async fn request(&self) -> Vec<u8> {
        match self.start(self.root.certificate_pem(), None).await {
            Err(OpenError::Unsigned { csr_pem }) => ceremony::request_from_pem(&csr_pem).unwrap(),
            other => panic!("{:?}", other.map(drop)),
        }
    }

    fn signed(&self, by: &Root, csr: &[u8]) -> String {
        ceremony::certificate_to_pem(&by.sign_request(csr, BEGIN, &self.entropy).unwrap())
    }
}

#[tokio::test]
async fn r20_an_installation_begins_under_a_root_whose_key_is_never_here() {
    let before = Before::new();
    let root_pem = before.root.certificate_pem();
    let csr = before.request().await;
    before.request().await;
    let plain = open(before.dir.path(), &before.hand, &before.entropy, development(), 7).await;
    assert!(matches!(plain, Err(OpenError::Unsigned { .. })), "no other root slips in meanwhile");

    let started = before.start(root_pem.clone(), Some(before.signed(&before.root, &csr))).await;
    let (control, primary) = started.expect("the request of the first start waits");
    let Before { dir, hand, entropy, root } = before;
    let world = World { control, primary, hand, entropy, dir };
    assert_eq!(world.control.roots_pem(), [root_pem]);
    assert_eq!(world.control.trust_domain(), "shop.example");
    let kept = world.primary.read(async |tx| {
        Ok::<_, mezusphere_store::StoreError>((
            secret::list(tx, secret_name::ROOT).await?.len(),
            secret::list(tx, secret_name::ISSUING_REQUEST).await?.len(),
        ))
    });
    assert_eq!(kept.await.unwrap(), (0, 0));
    let status = world.get("/ca").await.ok();
    assert_eq!((&status["root_key"], &status["request"]), (&json!(false), &json!(false)));
    let domain = root.trust_domain().unwrap();
    let trust = Trust::new(domain, vec![root.certificate().clone()], []).unwrap();
    let own = world.control.node_identity().get();
    verify_peer(own.chain(), &trust, BEGIN, ExpectedRole::AnyControl).unwrap();
    let world = world.restart(development()).await;
    assert_eq!(world.control.trust_domain(), "shop.example");
}

#[tokio::test]
async fn what_the_root_did_not_sign_begins_nothing() {
    let before = Before::new();
    let root_pem = before.root.certificate_pem();
    let csr = before.request().await;
    let stranger = Root::create(&before.root.trust_domain().unwrap(), BEGIN, &before.entropy).unwrap();
    let other = ceremony::IssuingRequest::create().unwrap().csr_der().unwrap();
    let issuing = before.signed(&before.root, &csr);
    for (root, issuing, what) in [
        (&root_pem, before.signed(&stranger, &csr), "another root's"),
        (&root_pem, before.signed(&before.root, &other), "of another request"),
        (&root_pem, root_pem.clone(), "the root itself"),
        (&root_pem, "nothing".to_owned(), "no certificate"),
        (&issuing, issuing.clone(), "no root"),
        (&"nothing".to_owned(), issuing.clone(), "no root at all"),
    ] {
        let started = before.start(root.clone(), Some(issuing)).await;
        assert!(matches!(started, Err(OpenError::RootElsewhere(_))), "{what}: {:?}", started.map(drop));
    }
    before.start(root_pem, Some(issuing)).await.expect("nothing of it stays");
}
