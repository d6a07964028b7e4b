//! A node comes back by the key of the certificate it had.

use mezusphere_pki::{NodeKey, lifetime, possession};

use crate::world::World;

#[test]
fn r20_only_who_holds_the_old_key_proves_it_and_for_one_request_alone() {
    let world = World::new();
    let old = world.identity_for(&world.edge(), lifetime::LEAF_TTL_MIN);
    let thief = world.identity_for(&world.edge(), lifetime::LEAF_TTL_MIN);
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let other_csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let proof = possession::prove(&old, &csr).unwrap();
    let leaf = &old.chain()[0];
    assert!(possession::is_proven(leaf, &csr, &proof));
    assert!(!possession::is_proven(leaf, &other_csr, &proof), "for another request");
    assert!(
        !possession::is_proven(&thief.chain()[0], &csr, &proof),
        "for another certificate of the same name"
    );
    let forged = possession::prove(&thief, &csr).unwrap();
    assert!(!possession::is_proven(leaf, &csr, &forged), "with another key");
    for (leaf, proof) in [(&b"no certificate"[..], &proof[..]), (leaf, b""), (leaf, &proof[1..])] {
        assert!(!possession::is_proven(leaf, &csr, proof));
    }
}
