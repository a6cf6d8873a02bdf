//! TLS between members. Both sides of the configuration can be exchanged while the member runs: the next
//! handshake uses the new one, connections that are open stay open.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// How this member proves who it is to others, and whom it believes.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// For connections it dials.
    pub client: Arc<rustls::ClientConfig>,
    /// For connections it accepts; demands a certificate of the other side.
    pub server: Arc<rustls::ServerConfig>,
}

/// The configuration in force, exchanged by whoever watches the files.
pub type SharedTls = Arc<ArcSwap<PeerTls>>;
