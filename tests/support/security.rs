//! Users and certificates, made as an operator makes them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::broker::escrowmq;

/// Adds a user as an operator does.
#[track_caller]
pub(crate) fn set_user(file: &Path, name: &str, password: Option<&str>, groups: &[&str]) {
    let mut command = escrowmq();
    command.args(["user", "set"]).arg(file).arg(name);
    for group in groups {
        command.args(["--group", group]);
    }
    if password.is_none() {
        command.arg("--no-password");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let words = format!("{}\n", password.unwrap_or_default());
    // One that wants no password does not read it.
    let _ = child.stdin.take().unwrap().write_all(words.as_bytes());
    assert!(child.wait().unwrap().success());
}

/// A certificate authority of the test, with files of what it signs.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Makes `NAME.pem` and `NAME.key`.
    pub(crate) fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(name, "pem"), certificate.pem()).unwrap();
        std::fs::write(self.file(name, "key"), key.serialize_pem()).unwrap();
    }

    pub(crate) fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{name}.{kind}"))
    }
}
