//! Proof that whoever asks for a certificate holds the key of one it had before.
//!
//! A node whose certificate has ended while it was off, or whose CA was retired, opens no connection with it any more. The
//! key is as secret as it was, so control takes it for the node's word: a signature with it over the new request. Whether
//! the certificate is one that control issued, to a node that may still have one, is control's to judge; nothing about a
//! chain is judged here.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::identity::NodeIdentity;
use crate::key::KeyError;

/// What the signature is made for, so that it is never taken for another one by the same key.
const PURPOSE: &[u8] = b"mezusphere/possession/1\0";

/// Signs the request `csr_der` with the key that `identity`'s leaf was issued for.
pub fn prove(identity: &NodeIdentity, csr_der: &[u8]) -> Result<Vec<u8>, KeyError> {
    let leaf = identity.chain().first().ok_or(KeyError::Malformed)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, identity.key().pkcs8_der())
        .map_err(|_| KeyError::Malformed)?;
    let signature = key
        .sign(&SystemRandom::new(), &signed(leaf, csr_der))
        .map_err(|error| KeyError::Library(error.to_string()))?;
    Ok(signature.as_ref().to_vec())
}

/// Whether `proof` was made for `csr_der` by whoever holds the key of the certificate `leaf_der`.
pub fn is_proven(leaf_der: &[u8], csr_der: &[u8], proof: &[u8]) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf_der) else { return false };
    let key = leaf.public_key().subject_public_key.data.as_ref();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&signed(leaf_der, csr_der), proof).is_ok()
}

/// Names both certificate and request, so that a proof is good for this pair alone.
fn signed(leaf_der: &[u8], csr_der: &[u8]) -> Vec<u8> {
    [PURPOSE, digest(&SHA256, leaf_der).as_ref(), digest(&SHA256, csr_der).as_ref()].concat()
}
