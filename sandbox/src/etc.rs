//! The box's `/etc`: an allowlist of what tools need from the host's, and a few files written for the box.
//!
//! Not taken over, because they may hold secrets or reach out: passwords, keys, hosts' names, site configuration of
//! package managers and git (their settings arrive through the tools' environment), `profile.d`, `environment`.

use std::path::Path;

use crate::layout::{HOME, INNER_ID, Layer, USER};
use crate::root::Item;
use crate::sys::Show;

/// Shown to the tools as the host has them, when the host has them.
const TOOLS: &[&str] = &[
    // linking and choosing programs
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    // certificates, without private keys
    "ssl/certs",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "pki/ca-trust",
    "pki/java",
    "crypto-policies",
    // time, names of things, terminals
    "localtime",
    "timezone",
    "locale.alias",
    "locale.conf",
    "mime.types",
    "magic",
    "magic.mime",
    "terminfo",
    "inputrc",
    "protocols",
    "services",
    "rpc",
    "networks",
    "os-release",
    "debian_version",
    "redhat-release",
    "lsb-release",
    "alpine-release",
    "shells",
    "login.defs",
    "manpath.config",
    "fonts",
    "paperspecs",
    "sgml",
    "xml",
    // shells and tools
    "bash.bashrc",
    "bashrc",
    "profile",
    "gitattributes",
    "vim",
    "nanorc",
    "perl",
    "R",
    "php",
    "texmf",
    "maven/m2.conf",
    "maven/logging",
    "dpkg/origins",
    "gdb",
    "glvnd",
    "OpenCL",
];
/// Likewise, all whose names begin so.
const TOOLS_BEGIN: &[&str] = &["java", "python", "ImageMagick"];
/// Shown to the worker.
const WORKER: &[&str] = &["ld.so.cache", "localtime", "timezone"];

/// What `/etc` of a layer holds.
pub(crate) fn items(layer: Layer, name: &str, host: &Path) -> Vec<Item> {
    let mut items = vec![Item::dir("/etc")];
    let names = match layer {
        Layer::Tools => TOOLS,
        Layer::Worker => WORKER,
    };
    for name in names {
        items.extend(of_host(host, name));
    }
    if layer == Layer::Tools {
        items.push(Item::Link { at: "/etc/mtab".into(), to: "/proc/mounts".into() });
        let entries = std::fs::read_dir(host).into_iter().flatten().flatten();
        for name in entries.filter_map(|e| e.file_name().into_string().ok()) {
            if TOOLS_BEGIN.iter().any(|begin| name.starts_with(begin)) {
                items.extend(of_host(host, &name));
            }
        }
    }
    let id = INNER_ID;
    for (file, text) in [
        (
            "passwd",
            format!("{USER}:x:{id}:{id}:{USER}:{HOME}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        ),
        ("group", format!("{USER}:x:{id}:\nnogroup:x:65534:\n")),
        ("hosts", format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost\n")),
        ("hostname", format!("{name}\n")),
        (
            "resolv.conf",
            "# names are resolved by the proxy: see the variables http_proxy and https_proxy\n".into(),
        ),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\nprotocols: files\nservices: files\n".into(),
        ),
    ] {
        items.push(Item::Text { at: Path::new("/etc").join(file), text });
    }
    items
}

fn of_host(host: &Path, name: &str) -> Option<Item> {
    let from = host.join(name);
    let at = Path::new("/etc").join(name);
    let kind = std::fs::symlink_metadata(&from).ok()?.file_type();
    if kind.is_symlink() {
        return Some(Item::Link { at, to: std::fs::read_link(&from).ok()? });
    }
    // A file is copied: one mount less, and small.
    if kind.is_file() && std::fs::metadata(&from).is_ok_and(|m| m.len() <= 256 * 1024) {
        return Some(Item::Copy { at, from });
    }
    Some(Item::Bind { at, from, show: Show::ReadOnly })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_list() {
        let host = tempfile::tempdir().unwrap();
        for name in ["shadow", "npmrc", "pip.conf", "gitconfig", "java-99", "profile", "hosts", "environment"]
        {
            std::fs::write(host.path().join(name), "x").unwrap();
        }
        let items = items(Layer::Tools, "box-1", host.path());
        let mut names: Vec<_> = items.iter().map(|i| i.at().display().to_string()).collect();
        names.sort();
        assert_eq!(
            names.join(" "),
            "/etc /etc/group /etc/hostname /etc/hosts /etc/java-99 /etc/mtab /etc/nsswitch.conf /etc/passwd \
             /etc/profile /etc/resolv.conf"
        );
        assert!(
            items.iter().any(|i| matches!(i, Item::Text { text, .. } if text.contains("localhost box-1")))
        );
    }
}
