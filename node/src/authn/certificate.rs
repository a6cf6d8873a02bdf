//! The name a verified client certificate carries.
//!
//! ```text
//!   spiffe   the one URI of its alternative names: spiffe://<trust domain>/<path>
//!   dns      the one DNS name of its alternative names
//!   cn       the one common name of its subject, which is then a user, as etcd has it
//! ```
//!
//! Which one counts is a setting of the member; the first is the default. A certificate that signs others, or is not
//! for clients, names nobody. The path to an authority was verified before, by TLS.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// What of a certificate is its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The SPIFFE id.
    #[default]
    Spiffe,
    /// The DNS name.
    Dns,
    /// The common name.
    CommonName,
}

/// A certificate with its name.
#[derive(Clone, Debug)]
pub struct Named {
    /// What was looked for.
    pub naming: Naming,
    /// The name, or why there is none.
    name: Result<Box<str>, &'static str>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

impl Naming {
    /// By the word of the setting.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "spiffe" => Some(Self::Spiffe),
            "dns" => Some(Self::Dns),
            "cn" => Some(Self::CommonName),
            _ => None,
        }
    }
}

impl Named {
    /// Reads a certificate.
    pub fn read(der: &[u8], naming: Naming) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self {
                naming,
                name: Err("it can not be read"),
                not_after_ms: 0,
            };
        };
        let not_after = certificate.validity().not_after.timestamp();
        let name = is_for_a_client(&certificate).and_then(|()| match naming {
            Naming::Spiffe => spiffe(&certificate),
            Naming::Dns => dns(&certificate),
            Naming::CommonName => common_name(&certificate),
        });
        Self {
            naming,
            name,
            not_after_ms: u64::try_from(not_after).unwrap_or(0).saturating_mul(1000),
        }
    }

    /// The name, if it has one that counts.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref().ok()
    }

    /// Why it has none.
    pub fn trouble(&self) -> Option<&'static str> {
        self.name.as_ref().err().copied()
    }
}

/// The trust domain of a SPIFFE id.
pub fn trust_domain(id: &str) -> Option<&str> {
    let rest = id.strip_prefix("spiffe://")?;
    rest.split_once('/').map(|(domain, _)| domain)
}

fn is_for_a_client(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    const UNREADABLE: &str = "an extension of it can not be read";
    let basic = certificate.basic_constraints().map_err(|_| UNREADABLE)?;
    if basic.is_some_and(|basic| basic.value.ca) {
        return Err("it is an authority's");
    }
    if let Some(usage) = certificate.key_usage().map_err(|_| UNREADABLE)? {
        let usage = usage.value;
        if !usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign() {
            return Err("its key is not for proving who one is");
        }
    }
    let extended = certificate.extended_key_usage().map_err(|_| UNREADABLE)?;
    if extended.is_some_and(|usage| !usage.value.client_auth && !usage.value.any) {
        return Err("it is not for clients");
    }
    Ok(())
}

fn spiffe(certificate: &X509Certificate<'_>) -> Result<Box<str>, &'static str> {
    let names = alternative(certificate)?;
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let id = only(uris).ok_or("it has not exactly one URI")?;
    if certificate.key_usage().ok().flatten().is_none() {
        return Err("it does not say what its key is for");
    }
    let (domain, path) = id
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or("its URI is no SPIFFE id")?;
    let plain = |text: &str, more: &[u8]| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| allowed(byte) || more.contains(&byte))
    };
    let segments = path.split('/');
    let upper = domain.bytes().any(|byte| byte.is_ascii_uppercase());
    if !plain(domain, b"") || upper || !plain(path, b"/") {
        return Err("its URI is no SPIFFE id");
    }
    for segment in segments {
        if matches!(segment, "" | "." | "..") {
            return Err("its URI is no SPIFFE id");
        }
    }
    Ok(id.into())
}

fn dns(certificate: &X509Certificate<'_>) -> Result<Box<str>, &'static str> {
    let names = alternative(certificate)?;
    let found = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let name = only(found).ok_or("it has not exactly one DNS name")?;
    if name.is_empty() || name.contains('*') {
        return Err("its DNS name is no one's");
    }
    Ok(name.to_ascii_lowercase().into())
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<Box<str>, &'static str> {
    let names = certificate.subject().iter_common_name();
    let name = only(names).ok_or("it has not exactly one common name")?;
    let name = name.as_str().map_err(|_| "its common name is no text")?;
    if name.is_empty() {
        return Err("its common name is empty");
    }
    Ok(name.into())
}

fn alternative<'a>(
    certificate: &'a X509Certificate<'_>,
) -> Result<&'a [GeneralName<'a>], &'static str> {
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => Ok(&names.value.general_names),
        Ok(None) => Ok(&[]),
        Err(_) => Err("its alternative names can not be read"),
    }
}

fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, SanType,
    };

    use super::*;

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn params(names: Vec<SanType>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "alice");
        params
    }

    fn read(params: &CertificateParams, naming: Naming) -> Result<String, &'static str> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let named = Named::read(params.self_signed(&key).unwrap().der(), naming);
        named.name.map(String::from)
    }

    #[test]
    fn a_spiffe_id_is_the_one_uri() {
        let id = "spiffe://prod.example/payments/api";
        let found = read(&params(vec![uri(id)]), Naming::Spiffe);
        assert_eq!(found, Ok(id.into()));
        let two = params(vec![uri(id), uri("spiffe://prod.example/other")]);
        assert!(read(&two, Naming::Spiffe).is_err());
        assert!(read(&params(vec![]), Naming::Spiffe).is_err());
        for bad in [
            "https://prod.example/x",
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe:///x",
            "spiffe://prod.example/a/../b",
            "spiffe://prod.example//b",
            "spiffe://PROD.example/b",
            "spiffe://prod.example/a%2fb",
            "spiffe://prod.example/a?b",
        ] {
            assert!(
                read(&params(vec![uri(bad)]), Naming::Spiffe).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn who_may_sign_others_or_is_no_client_is_nobody() {
        let names = || vec![uri("spiffe://prod.example/x")];
        let mut authority = params(names());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        assert!(read(&authority, Naming::Spiffe).is_err());
        let mut signs = params(names());
        signs.key_usages.push(KeyUsagePurpose::KeyCertSign);
        assert!(read(&signs, Naming::Spiffe).is_err());
        let mut serves = params(names());
        serves.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        assert!(read(&serves, Naming::Spiffe).is_err());
        let mut client = params(names());
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert!(read(&client, Naming::Spiffe).is_ok());
    }

    #[test]
    fn other_names_count_only_where_they_are_asked_for() {
        let host = SanType::DnsName("API.prod.example".try_into().unwrap());
        let with = || params(vec![host.clone()]);
        assert_eq!(read(&with(), Naming::Dns), Ok("api.prod.example".into()));
        assert_eq!(read(&with(), Naming::CommonName), Ok("alice".into()));
        assert!(read(&with(), Naming::Spiffe).is_err());
    }

    #[test]
    fn rubbish_names_nobody() {
        assert!(Named::read(b"rubbish", Naming::Spiffe).name().is_none());
        assert_eq!(trust_domain("spiffe://a.b/c"), Some("a.b"));
        assert_eq!(trust_domain("a.b/c"), None);
    }
}
