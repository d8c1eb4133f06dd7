//! The certificate authority of this server's boxes: for hosts with a credential, TLS ends at the proxy, which shows the
//! box a certificate signed here. Its key stays in the server's state folder; only its certificate goes into boxes.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{Timestamp, ToSpan as _, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use url::Host;

/// Days that the authority is good for: boxes of one server see one authority, over restarts.
const CA_DAYS: i64 = 3_650;
/// Days that a host's certificate is good for, and after how many it is made anew.
const LEAF_DAYS: i64 = 60;
const LEAF_FRESH_DAYS: i64 = 20;

/// Signs certificates for hosts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    leaves: Mutex<HashMap<Host<String>, Leaf>>,
}

/// TLS as one host.
struct Leaf {
    made: Timestamp,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// An authority that cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthorityError {
    #[error(
        "cannot keep the certificate authority of boxes in {path}: {source}; make it readable and writable"
    )]
    File { path: String, source: std::io::Error },
    #[error("{path} holds no certificate authority: {why}; remove it, and one is made at the next start")]
    Content { path: String, why: String },
    #[error("a certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("a certificate could not be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    /// The authority kept in `path`, made when there is none.
    pub fn load_or_make(path: &Path, now: Timestamp) -> Result<Authority, AuthorityError> {
        let failed = |source| AuthorityError::File { path: path.display().to_string(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let (key, certificate) = make(now)?;
                let text = format!("{certificate}{}", key.serialize_pem());
                let mut file = std::fs::OpenOptions::new();
                let mut file = file.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
                text
            }
            Err(source) => return Err(failed(source)),
        };
        Authority::from_pem(&text, now)
            .map_err(|why| AuthorityError::Content { path: path.display().to_string(), why })
    }

    /// An authority of this process only.
    pub fn in_memory(now: Timestamp) -> Result<Authority, AuthorityError> {
        let (key, certificate) = make(now)?;
        Authority::from_pem(&format!("{certificate}{}", key.serialize_pem()), now)
            .map_err(|why| AuthorityError::Content { path: "memory".into(), why })
    }

    fn from_pem(text: &str, now: Timestamp) -> Result<Authority, String> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| e.to_string())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|e| e.to_string())?;
        let key = KeyPair::try_from(key.secret_pkcs8_der()).map_err(|e| e.to_string())?;
        let end = text.find("-----BEGIN PRIVATE KEY").ok_or("its key comes first")?;
        let issuer = Issuer::new(params(now).map_err(|e| e.to_string())?, key);
        Ok(Authority { issuer, der, pem: text[..end].to_owned(), leaves: Mutex::default() })
    }

    /// The certificate that boxes trust, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// TLS as `host`, HTTP/1.1 only.
    pub fn server_config(
        &self,
        host: &Host<String>,
        now: Timestamp,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Leaf { made, config }) = leaves.get(host)
            && now.duration_since(*made).as_hours() < LEAF_FRESH_DAYS * 24
        {
            return Ok(config.clone());
        }
        let name = host.to_string().trim_matches(['[', ']']).to_owned();
        let mut leaf = CertificateParams::new(vec![name])?;
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        set_days(&mut leaf, now, LEAF_DAYS);
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.der.clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        leaves.insert(host.clone(), Leaf { made: now, config: config.clone() });
        Ok(config)
    }
}

/// The one implementation of cryptography.
pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn make(now: Timestamp) -> Result<(KeyPair, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = params(now)?.self_signed(&key)?.pem();
    Ok((key, certificate))
}

fn params(now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "bgagent egress proxy");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_days(&mut params, now, CA_DAYS);
    Ok(params)
}

/// The day so many days from today.
fn day(today: &Zoned, days: i64) -> (i32, u8, u8) {
    let day = today.checked_add(days.days()).unwrap_or_else(|_| today.clone());
    (day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs())
}

fn set_days(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC);
    let ((y, m, d), (end_y, end_m, end_d)) = (day(&today, -1), day(&today, days));
    params.not_before = rcgen::date_time_ymd(y, m, d);
    params.not_after = rcgen::date_time_ymd(end_y, end_m, end_d);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_same_after_a_restart_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let first = Authority::load_or_make(&path, now).unwrap();
        let again = Authority::load_or_make(&path, now + 48.hours()).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        assert!(!first.certificate_pem().contains("PRIVATE"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "nonsense").unwrap();
        let told = Authority::load_or_make(&path, now).unwrap_err().to_string();
        assert!(told.contains("remove it"), "{told}");
    }
}
