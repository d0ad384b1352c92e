//! The server's certificate and the kubeconfig that trusts it.

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{Error, Kind, Result};

/// A certificate authority of its own and the server certificate it signed, for `127.0.0.1` and `localhost`.
///
/// The authority's key is not kept: nothing else is ever signed. All parts are PEM.
#[derive(Clone, Debug)]
pub struct Pki {
    /// Certificate of the authority, which clients trust.
    pub ca: String,
    /// Certificate of the server.
    pub certificate: String,
    key: SecretString,
}

impl Pki {
    /// Makes new ones.
    pub fn generate() -> Result<Self> {
        Self::make().map_err(|error| Error::new(Kind::Failed, "making a certificate").source(error))
    }

    fn make() -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(DnType::CommonName, "lhrun-sandbox-ca");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;

        let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "lhrun-sandbox");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key))?;
        Ok(Self { ca: ca_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem().into() })
    }

    /// Takes up those a folder holds (`ca.crt`, `server.crt`, `server.key`), or makes new ones and keeps them there, so
    /// that a rebuilt cluster is trusted by the clients of the old one. The folder must exist.
    pub fn load_or_generate(folder: &Path) -> Result<Self> {
        let [ca, certificate, key] = ["ca.crt", "server.crt", "server.key"].map(|name| folder.join(name));
        if key.exists() {
            let read = |path: &Path| {
                std::fs::read_to_string(path).map_err(|error| {
                    Error::new(Kind::Failed, "reading a certificate").object(path.display().to_string()).source(error)
                })
            };
            let pki = Self { ca: read(&ca)?, certificate: read(&certificate)?, key: read(&key)?.into() };
            pki.server_config(None)?;
            return Ok(pki);
        }
        let pki = Self::generate()?;
        write_private(&ca, &pki.ca)?;
        write_private(&certificate, &pki.certificate)?;
        write_private(&key, pki.key.expose_secret())?;
        Ok(pki)
    }

    /// With a `client_ca` (PEM), only clients that show a certificate of that authority are served.
    pub(super) fn server_config(&self, client_ca: Option<&str>) -> Result<Arc<ServerConfig>> {
        let bad =
            |error: &dyn std::fmt::Display| Error::new(Kind::Invalid, format!("the server's certificate: {error}"));
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(&error))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret().as_bytes()).map_err(|error| bad(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| bad(&error))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| bad(&error))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| bad(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Writes a kubeconfig for the server at `addr`, readable by its owner only, in place of what was there.
/// Cluster, user and context are all called `name`.
pub fn write_kubeconfig(path: &Path, name: &str, addr: SocketAddr, pki: &Pki, token: &SecretString) -> Result<()> {
    let name = serde_json::Value::from(name);
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: https://{addr}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n    token: {token}\ncontexts:\n\
         - name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n    namespace: default\n\
         current-context: {name}\n",
        ca = BASE64.encode(&pki.ca),
        token = serde_json::Value::from(token.expose_secret()),
    );
    write_private(path, &text)
}

/// Replaces a file at once by one that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| {
        Error::new(Kind::Failed, format!("writing {}", path.display())).object(path.display().to_string()).source(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_keeps_its_authority() {
        let folder = tempfile::tempdir().unwrap();
        let first = Pki::load_or_generate(folder.path()).unwrap();
        let second = Pki::load_or_generate(folder.path()).unwrap();
        assert_eq!(first.ca, second.ca);
        assert!(!format!("{first:?}").contains("PRIVATE"));
        std::fs::write(folder.path().join("server.key"), "broken").unwrap();
        assert_eq!(Pki::load_or_generate(folder.path()).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn the_kubeconfig_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, "old").unwrap();
        let pki = Pki::generate().unwrap();
        write_kubeconfig(&path, "sandbox", "127.0.0.1:6443".parse().unwrap(), &pki, &"secret".into()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
        let missing = folder.path().join("none/kubeconfig");
        let error = write_kubeconfig(&missing, "s", "127.0.0.1:1".parse().unwrap(), &pki, &"t".into()).unwrap_err();
        assert!(error.to_string().contains("none/kubeconfig") && !error.to_string().contains("secret"));
    }
}
