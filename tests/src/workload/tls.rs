//! TLS for the workload: a CA and a certificate made at start, ALPN `h2` and `http/1.1`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Shared, at, h1, h2};

/// Where the CA's certificate lies.
pub(super) fn ca(folder: &Path) -> PathBuf {
    at(folder, "ca.pem")
}

/// Where the server's certificate and key lie.
pub(super) fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    (at(folder, "certificate.pem"), at(folder, "key.pem"))
}

/// Makes the certificates in `folder` and what accepts with them.
pub(super) fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let leaf = leaf.signed_by(&key, &authority)?;
    std::fs::write(ca(folder), authority.pem())?;
    let (certificate_file, key_file) = certificate(folder);
    std::fs::write(&certificate_file, leaf.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&certificate_file)?],
            PrivateKeyDer::from_pem_file(&key_file)?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves one connection with the protocol it negotiated.
pub(super) async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let stream = acceptor.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        h2::serve(Box::new(stream), shared).await
    } else {
        h1::serve(Box::new(stream), shared).await
    }
}
