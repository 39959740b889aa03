//! Certificate and key of the server, by rustls with ring.

use crate::config::TlsFiles;
use burnlog_log::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Reads both files. `Denied` with the file where one cannot be read or is not what it should be.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let denied = |path: &std::path::Path, message: &str| {
        Error::new(ErrorKind::Denied, "serve", message.to_owned()).at(path.display())
    };
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.certificates).and_then(Iterator::collect).map_err(|error| {
            denied(&files.certificates, "the certificates cannot be read (PEM)").caused_by(error)
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| denied(&files.key, "the key cannot be read (PEM)").caused_by(error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| {
            denied(&files.certificates, "the certificates and the key do not go together").caused_by(error)
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
