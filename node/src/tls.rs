//! Certificates: read from files, checked as a whole, replaced without a restart.
//!
//! ```text
//!   files --read, verify they fit--> configuration --swap--> the next handshake
//!     ^                                  |
//!     every few seconds, and on SIGHUP   a failure keeps what was there, and is logged
//! ```
//!
//! Open connections keep the certificate they began with. Only rustls with aws-lc-rs is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use meridian_raft::network::tls::PeerTls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::metrics;
use crate::settings::Tls;

/// How often files are looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Why certificates can not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can not be read or holds nothing of the kind.
    #[error("{path}: {what}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Chain and key do not fit, or the library refuses them.
    #[error("the certificate {path} can not be used: {source}", path = path.display())]
    Rejected {
        /// The chain.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
}

/// The certificates of one port, as they are now. `T` is what a handshake needs.
pub struct Certificates<T> {
    /// `client` or `peer`, for the log.
    port: &'static str,
    files: Tls,
    read: fn(&Tls) -> Result<T, TlsError>,
    current: Arc<ArcSwap<T>>,
}

/// The certificates of the client port. None if it is plain text.
pub fn client_port(files: &Tls) -> Result<Option<Certificates<ServerConfig>>, TlsError> {
    Certificates::load("client", files, |files| {
        server(files, &[b"h2", b"http/1.1"], false)
    })
}

/// The certificates of the peer port, for both directions. None if it is plain text.
pub fn peer_port(files: &Tls) -> Result<Option<Certificates<PeerTls>>, TlsError> {
    Certificates::load("peer", files, |files| {
        Ok(PeerTls {
            client: Arc::new(client(files)?),
            server: Arc::new(server(files, &[], true)?),
        })
    })
}

impl<T: Send + Sync + 'static> Certificates<T> {
    fn load(
        port: &'static str,
        files: &Tls,
        read: fn(&Tls) -> Result<T, TlsError>,
    ) -> Result<Option<Self>, TlsError> {
        if !files.is_on() {
            return Ok(None);
        }
        let current = Arc::new(ArcSwap::from_pointee(read(files)?));
        Ok(Some(Self {
            port,
            files: files.clone(),
            read,
            current,
        }))
    }

    /// What the next handshake uses: load it anew for each.
    pub fn current(&self) -> Arc<ArcSwap<T>> {
        Arc::clone(&self.current)
    }

    /// Reads the files again. On failure nothing changes.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new((self.read)(&self.files)?));
        Ok(())
    }

    /// Reloads when a file changes, and whenever `asked` moves. Ends when `asked` is dropped.
    pub async fn keep_fresh(self, mut asked: watch::Receiver<u64>) {
        let mut seen = self.fingerprint();
        loop {
            let forced = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                changed = asked.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
            };
            let now = self.fingerprint();
            if !forced && now == seen {
                continue;
            }
            let outcome = match self.reload() {
                Ok(()) => {
                    seen = now;
                    tracing::info!(port = self.port, "certificates were read again");
                    "read"
                }
                // Not marked as seen: files replaced one by one fit together at a later look.
                Err(error) => {
                    tracing::error!(
                        port = self.port,
                        %error,
                        "certificates changed but can not be used; the old ones stay"
                    );
                    "failed"
                }
            };
            metrics::CERTIFICATE_RELOADS
                .with_label_values(&[self.port, outcome])
                .inc();
        }
    }

    /// Length and time of change of each file.
    fn fingerprint(&self) -> Vec<Option<(u64, SystemTime)>> {
        let files = &self.files;
        [&files.cert_file, &files.key_file, &files.trusted_ca_file]
            .into_iter()
            .map(|path| {
                let found = std::fs::metadata(path).ok()?;
                Some((found.len(), found.modified().ok()?))
            })
            .collect()
    }
}

fn server(files: &Tls, protocols: &[&[u8]], mutual: bool) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity(files)?;
    let builder = ServerConfig::builder();
    let builder = if files.trusted_ca_file.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = Arc::new(authorities(&files.trusted_ca_file)?);
        let verifier = WebPkiClientVerifier::builder(roots);
        let verifier = if mutual || files.client_cert_auth {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        let verifier = verifier.build().map_err(|error| TlsError::File {
            path: (&files.trusted_ca_file).into(),
            what: error.to_string(),
        })?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Rejected {
            path: (&files.cert_file).into(),
            source,
        })?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn client(files: &Tls) -> Result<ClientConfig, TlsError> {
    let (chain, key) = identity(files)?;
    // Without an authority of its own a port trusts what it shows itself.
    let trusted = if files.trusted_ca_file.is_empty() {
        &files.cert_file
    } else {
        &files.trusted_ca_file
    };
    ClientConfig::builder()
        .with_root_certificates(authorities(trusted)?)
        .with_client_auth_cert(chain, key)
        .map_err(|source| TlsError::Rejected {
            path: (&files.cert_file).into(),
            source,
        })
}

fn identity(
    files: &Tls,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| TlsError::File {
        path: (&files.key_file).into(),
        what: format!("no private key can be read from it: {error}"),
    })?;
    Ok((certificates(Path::new(&files.cert_file))?, key))
}

fn authorities(path: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(Path::new(path))? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Rejected {
                path: path.into(),
                source,
            })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |what: String| TlsError::File {
        path: path.into(),
        what,
    };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(error.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn write_pair(dir: &Path) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let cert = dir.join("cert.pem");
        let key = dir.join("key.pem");
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Tls {
            cert_file: cert.display().to_string(),
            key_file: key.display().to_string(),
            ..Tls::default()
        }
    }

    #[test]
    fn a_failed_reload_keeps_the_old_certificates_and_a_good_one_replaces_them() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let files = write_pair(dir.path());
        let certificates = client_port(&files).unwrap().unwrap();
        let first = certificates.current().load_full();

        std::fs::write(&files.cert_file, "not a certificate").unwrap();
        let error = certificates.reload().unwrap_err().to_string();
        assert!(error.contains("cert.pem"), "{error}");
        assert!(Arc::ptr_eq(&first, &certificates.current().load_full()));

        write_pair(dir.path());
        certificates.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &certificates.current().load_full()));
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut files = write_pair(one.path());
        files.key_file = write_pair(two.path()).key_file;
        assert!(client_port(&files).is_err());
    }

    #[test]
    fn a_plain_port_has_no_certificates() {
        assert!(client_port(&Tls::default()).unwrap().is_none());
    }
}
