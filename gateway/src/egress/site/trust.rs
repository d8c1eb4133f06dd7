//! The certificates that boxes trust: this machine's bundle, those that its tools are configured with, and the
//! proxy's own. Only certificates are copied, whatever else the files hold.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Env, Group};

/// Variables that name a bundle, the most general first.
const VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "NIX_SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
];
/// Where systems keep their bundle.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// Longest bundle that is read.
const BUNDLE_MAX: u64 = 16 * 1024 * 1024;

/// The variables of a box that name its bundle.
pub const BOX_VARIABLES: [&str; 10] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "NIX_SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
];

/// The bundle of a box: every certificate once. Files that are missing or hold none are left out.
pub fn bundle<'a>(env: &Env, groups: impl IntoIterator<Item = &'a Group>, own: Option<&str>) -> String {
    let mut files: Vec<PathBuf> =
        VARIABLES.iter().filter_map(|name| env.get(*name)).map(PathBuf::from).collect();
    // The system's bundle counts too: a variable may name only what is added to it.
    files.extend(SYSTEM.iter().map(PathBuf::from).find(|path| path.exists()));
    files.extend(groups.into_iter().flat_map(|group| group.trust.iter().cloned()));
    let mut seen = std::collections::HashSet::new();
    let mut bundle = String::new();
    let mut add = |text: &str| {
        for certificate in certificates(text) {
            if seen.insert(certificate.split_whitespace().collect::<String>()) {
                bundle.push_str(certificate);
                bundle.push('\n');
            }
        }
    };
    let mut read: Vec<&Path> = vec![];
    for file in &files {
        if !read.contains(&file.as_path()) {
            read.push(file);
            if let Some(text) = text_of(file) {
                add(&text);
            }
        }
    }
    if let Some(own) = own {
        add(own);
    }
    bundle
}

fn text_of(file: &Path) -> Option<String> {
    let meta = fs::metadata(file).ok()?;
    if !meta.is_file() || meta.len() > BUNDLE_MAX {
        return None;
    }
    // Comments between certificates may be in any encoding.
    Some(String::from_utf8_lossy(&fs::read(file).ok()?).into_owned())
}

/// The certificates in a PEM text, with their lines around them.
fn certificates(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(END).filter_map(|part| {
        let part = &part[part.find(BEGIN)?..];
        (part.ends_with(END) && part.len() > BEGIN.len() + END.len()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::*;

    #[test]
    fn certificates_of_all_files_are_in_once_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let pem = |name: &str| format!("{BEGIN}\n{name}\n{END}\n");
        let (a, b) = (dir.path().join("a.pem"), dir.path().join("b.pem"));
        // With a sign that real certificates, which are in the bundle too, never have.
        let key = "-----BEGIN PRIVATE KEY-----\nk-e-y\n-----END PRIVATE KEY-----\n";
        fs::write(&a, format!("# words\n{}{key}{}", pem("A-A"), pem("B-B"))).unwrap();
        fs::write(&b, format!("{}{}", pem("B-B"), pem("C-C"))).unwrap();
        let env = [("SSL_CERT_FILE".to_owned(), a.display().to_string())].into();
        let group =
            Group { trust: vec![b, dir.path().join("gone.pem"), dir.path().into()], ..Group::new(Tool::Pip) };
        let told = bundle(&env, [&group], Some(&pem("D-D")));
        assert!(!told.contains("k-e-y") && !told.contains("# words"));
        let many = |text: &str| told.matches(text).count();
        assert_eq!(["A-A", "B-B", "C-C", "D-D"].map(many), [1, 1, 1, 1]);
    }
}
