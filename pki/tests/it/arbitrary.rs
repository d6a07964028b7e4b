//! Whatever bytes come, nothing panics and nothing gets in (R24).

use mezusphere_model::Entropy;
use mezusphere_model::seal::Seal as _;
use mezusphere_pki::seal::{MasterKey, Sealer};
use mezusphere_pki::trust::certificates_from_pem;
use mezusphere_pki::{
    ExpectedRole, NodeIdentity, NodeKey, Peer, PublicCertificate, SpiffeName, Trust, lifetime, verify_peer,
};
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;

use crate::world::{BEGIN, World};

/// Bytes that begin as DER does, so that parsers look further than the first octet.
fn nearly_der() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 0..600), any::<bool>()).prop_map(|(body, framed)| {
        let len = u16::try_from(body.len()).unwrap_or(0).to_be_bytes();
        let head: &[u8] = if framed { &[0x30, 0x82, len[0], len[1]] } else { &[] };
        [head, &body].concat()
    })
}

proptest! {
    #[test]
    fn r24_arbitrary_bytes_are_no_request_and_no_certificate(bytes in nearly_der()) {
        let world = World::new();
        prop_assert!(world.issuing.issue(&bytes, &world.edge(), BEGIN, lifetime::LEAF_TTL).is_err());
        let chain = [CertificateDer::from(bytes.clone()), world.issuing.certificate().clone()];
        prop_assert!(Peer::read(&chain).is_err());
        prop_assert!(verify_peer(&chain, &world.trust(), BEGIN, ExpectedRole::AnyWarpgate).is_err());
        prop_assert!(Trust::new(world.domain.clone(), chain[..1].to_vec(), []).is_err());
        prop_assert!(NodeKey::from_pkcs8_der(&bytes).is_err());
    }

    #[test]
    fn r24_octets_of_a_real_chain_replaced_never_change_who_it_names(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let world = World::new();
        let identity = world.identity_for(&world.warpgate(), lifetime::LEAF_TTL);
        let mut leaf = identity.chain()[0].as_ref().to_vec();
        for (at, octet) in &changes {
            let at = at.index(leaf.len());
            leaf[at] = *octet;
        }
        let chain = [CertificateDer::from(leaf), identity.chain()[1].clone()];
        match verify_peer(&chain, &world.trust(), BEGIN, ExpectedRole::AnyWarpgate) {
            Ok(peer) => prop_assert_eq!(peer.name, world.warpgate()),
            Err(why) => prop_assert!(!why.to_string().is_empty()),
        }
    }

    #[test]
    fn r24_arbitrary_texts_are_no_names_keys_or_pem(text in "\\PC{0,200}", body in "[A-Za-z0-9+/=\n]{0,300}") {
        if let Ok(name) = text.parse::<SpiffeName>() {
            prop_assert_eq!(name.to_string(), text.clone());
        }
        for label in ["CERTIFICATE", "PRIVATE KEY"] {
            let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n{text}");
            prop_assert!(PublicCertificate::from_pem(&pem, &pem, BEGIN).is_err());
            prop_assert!(NodeIdentity::from_pem(&pem, NodeKey::generate().unwrap()).is_err());
            drop(certificates_from_pem(&pem));
        }
        drop(MasterKey::parse(text.as_bytes()));
    }

    #[test]
    fn r24_arbitrary_bytes_do_not_open(bytes in prop::collection::vec(any::<u8>(), 0..200), secret: Vec<u8>) {
        let sealer = Sealer::new(MasterKey::from_bytes([7; 32]), Entropy::counting());
        prop_assert!(sealer.open("place", &bytes).is_err());
        let sealed = sealer.seal("place", &secret);
        prop_assert_eq!(sealer.open("place", &sealed), Ok(secret));
    }
}
