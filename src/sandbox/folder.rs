//! Where a sandbox keeps its files, and the lock that makes it the only one there.
//!
//! In the folder (a temporary one, or the one that was asked for): `lock`, `kubeconfig`, `keys.json`, `pki/` and `s3/`. The
//! cluster's own data, `volumes/` and `pods/`, always lives in a temporary folder, because it goes with the cluster, and
//! because the pods' user must reach it, which a folder in somebody's home does not allow.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use crate::{Error, Kind, Result};

/// The files of one running sandbox.
#[derive(Debug)]
pub struct Folder {
    kept: PathBuf,
    /// Held as long as the sandbox runs.
    _lock: File,
    run: TempDir,
}

impl Folder {
    /// Takes the folder, or a temporary one that goes at the end. Errors: `refused` when another sandbox has it,
    /// naming its process; `failed` when it cannot be used.
    pub fn open(kept: Option<&Path>) -> Result<Self> {
        let run = tempfile::Builder::new().prefix("lhrun-").permissions(fs::Permissions::from_mode(0o711)).tempdir();
        let run = run.map_err(|error| Error::new(Kind::Failed, "making a temporary folder").source(error))?;
        let kept = match kept {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
                folder.canonicalize().map_err(|error| failed(folder, error))?
            }
            None => run.path().to_owned(),
        };
        let lock = lock(&kept)?;
        let folder = Self { kept, _lock: lock, run };
        private_folder(&folder.s3())?;
        private_folder(&folder.pki())?;
        folder.wipe()?;
        Ok(folder)
    }

    /// The temporary part, removed at the end.
    pub fn run(&self) -> &Path {
        self.run.path()
    }

    /// Buckets.
    pub fn s3(&self) -> PathBuf {
        self.kept.join("s3")
    }

    /// Certificates.
    pub fn pki(&self) -> PathBuf {
        self.kept.join("pki")
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kept.join("kubeconfig")
    }

    /// Data of the cluster's volumes.
    pub fn volumes(&self) -> PathBuf {
        self.run.path().join("volumes")
    }

    /// Folders of the pods.
    pub fn pods(&self) -> PathBuf {
        self.run.path().join("pods")
    }

    /// Empties what belongs to the cluster.
    pub fn wipe(&self) -> Result<()> {
        for folder in [self.volumes(), self.pods()] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&folder, error)),
                _ => fs::create_dir(&folder).map_err(|error| failed(&folder, error))?,
            }
        }
        Ok(())
    }

    /// The sandbox's credentials: those of an earlier sandbox in this folder, else new ones.
    pub fn keys(&self) -> Result<Keys> {
        let path = self.kept.join("keys.json");
        match fs::read(&path) {
            Ok(text) => Keys::parse(&text).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("{} does not hold a sandbox's keys", path.display()))
                    .object(path.display().to_string())
                    .hint("remove it to get new ones")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Keys::random()?;
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let written = file.and_then(|mut file| file.write_all(keys.text().expose_secret().as_bytes()));
                written.map_err(|error| failed(&path, error))?;
                Ok(keys)
            }
            Err(error) => Err(failed(&path, error)),
        }
    }
}

/// Takes the lock of the folder and leaves our process id in it, for those who come later.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = file.map_err(|error| failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let holder = match file.read_to_string(&mut holder) {
                Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                _ => "another process".to_owned(),
            };
            let text = format!("{holder} runs a sandbox in {}", folder.display());
            return Err(Error::new(Kind::Refused, text)
                .object(folder.display().to_string())
                .hint("stop it, or choose another folder"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| failed(&path, error))?;
    Ok(file)
}

fn private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Failed, format!("the sandbox cannot use {}", path.display()))
        .object(path.display().to_string())
        .source(error)
}

/// Credentials of one sandbox, made at random for it.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Bearer token of the Kubernetes API.
    pub token: SecretString,
    /// S3 access key id.
    pub access_key: String,
    /// S3 secret key.
    pub secret_key: SecretString,
}

impl Keys {
    fn random() -> Result<Self> {
        let [token, access_key, secret_key] = [random_hex(16)?, random_hex(10)?.to_uppercase(), random_hex(20)?];
        Ok(Self { token: token.into(), access_key, secret_key: secret_key.into() })
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(text).ok()?;
        let field = |name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self {
            token: field("token")?.into(),
            access_key: field("accessKey")?,
            secret_key: field("secretKey")?.into(),
        })
    }

    fn text(&self) -> SecretString {
        let value = serde_json::json!({
            "token": self.token.expose_secret(),
            "accessKey": self.access_key,
            "secretKey": self.secret_key.expose_secret(),
        });
        value.to_string().into()
    }
}

fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| Error::new(Kind::Failed, "the system's random generator failed"))?;
    Ok(super::hex(&random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_sandbox_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("new/sandbox");
        let first = Folder::open(Some(&path)).unwrap();
        let error = Folder::open(Some(&path)).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.message().contains("new/sandbox"), "{error}");
        drop(first);
        Folder::open(Some(&path)).unwrap();
    }

    #[test]
    fn keys_stay_with_their_folder_and_are_private() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::open(Some(base.path())).unwrap();
        let keys = folder.keys().unwrap();
        assert_eq!(folder.keys().unwrap().token.expose_secret(), keys.token.expose_secret());
        let mode = |path: &str| fs::metadata(base.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("keys.json"), mode("s3"), mode("pki")), (0o600, 0o700, 0o700));
        assert!(!format!("{keys:?}").contains(keys.secret_key.expose_secret()));
        fs::write(base.path().join("keys.json"), "{\"token\": \"\"}").unwrap();
        assert_eq!(folder.keys().unwrap_err().kind(), Kind::Invalid);
        let other = Folder::open(None).unwrap().keys().unwrap();
        assert_ne!(other.access_key, keys.access_key);
    }

    #[test]
    fn nothing_temporary_stays() {
        let folder = Folder::open(None).unwrap();
        let run = folder.run().to_owned();
        assert!(folder.pods().starts_with(&run) && folder.s3().starts_with(&run));
        drop(folder);
        assert!(!run.exists());
    }
}
