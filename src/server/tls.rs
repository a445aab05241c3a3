//! TLS of listeners: certificates, keys, and the names in certificates of clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::TlsConfig;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("the setting {setting}: {path}: {reason}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What the files say does not go together.
    #[error("the certificate and the key cannot be used: {0}")]
    Together(#[from] rustls::Error),
    /// The certificates that clients' are to be signed by cannot be used.
    #[error("the setting tls.clients: {0}")]
    Clients(String),
}

/// What listeners need for TLS, from the files that the settings name.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(settings: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if settings.clients.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("tls.clients", &settings.clients)? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError::Clients(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier =
            if settings.require_client { verifier } else { verifier.allow_unauthenticated() };
        let verifier = verifier.build().map_err(|error| TlsError::Clients(error.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let chain = certificates("tls.certificate", &settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key);
    let key = key.map_err(|error| wrong("tls.key", &settings.key, &error))?;
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| wrong(setting, path, &error))?;
    if found.is_empty() {
        return Err(wrong(setting, path, &"it holds no certificate in PEM"));
    }
    Ok(found)
}

fn wrong(setting: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { setting, path: path.to_owned(), reason: reason.to_string() }
}

/// The common name in the subject of a certificate (RFC 5280, 4.1.2.6), if it has exactly one.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}
