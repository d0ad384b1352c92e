//! Certificates of a control plane, made anew for each test.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Makes in the folder: `ca.crt`, and key and certificate of the API server, of its client at kubelets, of the front
/// proxy, of the controllers and of an administrator; and the key of service accounts.
pub fn generate(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "lhrun-test-ca");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&key).unwrap();
    write(folder, "ca.crt", &certificate.pem());
    write(folder, "ca.key", &key.serialize_pem());
    let issuer = Issuer::new(authority, key);

    let names = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    issue(folder, &issuer, "apiserver", &names, "kube-apiserver", None, ExtendedKeyUsagePurpose::ServerAuth);
    for (file, user, group) in [
        ("admin", "admin", Some("system:masters")),
        ("controllers", "system:kube-controller-manager", None),
        ("front-proxy", "front-proxy", None),
        ("kubelet-client", "kube-apiserver", None),
    ] {
        issue(folder, &issuer, file, &[], user, group, ExtendedKeyUsagePurpose::ClientAuth);
    }
    let accounts = KeyPair::generate().unwrap();
    write(folder, "service-accounts.key", &accounts.serialize_pem());
    write(folder, "service-accounts.pub", &accounts.public_key_pem());
}

fn issue(
    folder: &Path,
    issuer: &Issuer<'_, KeyPair>,
    file: &str,
    names: &[String],
    user: &str,
    group: Option<&str>,
    usage: ExtendedKeyUsagePurpose,
) {
    let mut wanted = CertificateParams::new(names.to_vec()).unwrap();
    wanted.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        wanted.distinguished_name.push(DnType::OrganizationName, group);
    }
    wanted.extended_key_usages = vec![usage];
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = wanted.signed_by(&key, issuer).unwrap();
    write(folder, &format!("{file}.crt"), &certificate.pem());
    write(folder, &format!("{file}.key"), &key.serialize_pem());
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}
