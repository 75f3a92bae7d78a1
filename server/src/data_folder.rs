//! The folder in which an installation keeps what it must not lose: keys, ports, the database, repositories.
//!
//! Every secret file is made with mode 0600 in a folder of mode 0700, written whole and renamed.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use paas_store::MasterKey;
use serde::{Deserialize, Serialize};

/// A data folder.
#[derive(Clone, Debug)]
pub struct DataFolder {
    root: PathBuf,
}

/// Where this installation listens, chosen at its first start and kept: URLs and git remotes hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// API and git, TLS and plain.
    pub api: u16,
    /// Apps.
    pub http: u16,
    /// The rendezvous of `run`.
    pub rendezvous: u16,
    /// Where dynos on AWS call.
    pub link: u16,
}

impl DataFolder {
    /// Opens the folder, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or others than its owner may read it.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        Ok(Self { root })
    }

    /// A path within the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Takes the folder for this process until the answer is dropped (or the process dies), and writes its id.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> io::Result<fs::File> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.path("server.pid"))?;
        file.try_lock().map_err(io::Error::from)?;
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(file)
    }

    /// Whose leases are this server's, also those of its last life: an id of the folder's own and the machine's name,
    /// so that a copy of the folder elsewhere is another server. Made at the first start. Only for who has the lock.
    ///
    /// # Errors
    /// When the file cannot be read or made.
    pub fn server_id(&self) -> io::Result<String> {
        let path = self.path("server.id");
        let id = match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => id,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                let id = paas_domain::JobId::new().to_string();
                write_secret(&path, id.as_bytes())?;
                id
            }
        };
        Ok(format!("{}-{}", rustix::system::uname().nodename().to_string_lossy(), id.trim()))
    }

    /// The process that has the folder, when one has.
    #[must_use]
    pub fn holder(&self) -> Option<i32> {
        let path = self.path("server.pid");
        let file = fs::OpenOptions::new().write(true).open(&path).ok()?;
        if file.try_lock().is_ok() {
            return None;
        }
        fs::read_to_string(&path).ok()?.trim().parse().ok()
    }

    /// The key that seals secrets; made at the first start.
    ///
    /// # Errors
    /// When the file cannot be read or made, is readable for others, or holds no key.
    pub fn master_key(&self) -> io::Result<MasterKey> {
        let path = self.path("encryption.key");
        let bytes = match fs::read(&path) {
            Ok(bytes) => {
                refuse_readable(&path)?;
                bytes
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = MasterKey::generate().map_err(io::Error::other)?;
                write_secret(&path, &bytes)?;
                bytes.to_vec()
            }
            Err(error) => return Err(error),
        };
        MasterKey::new(&bytes).map_err(|_| io::Error::other(format!("{} holds no key", path.display())))
    }

    /// Where the admin's API key is written at the first start.
    #[must_use]
    pub fn admin_key_file(&self) -> PathBuf {
        self.path("admin.key")
    }

    /// Writes the admin's API key for its owner to read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_admin_key(&self, key: &str) -> io::Result<()> {
        write_secret(&self.admin_key_file(), format!("{key}\n").as_bytes())
    }

    /// A key of 32 bytes for one purpose, derived from the encryption key: every server that has that one has this.
    ///
    /// # Errors
    /// When the encryption key is not there or may be read by others.
    pub fn derived_key(&self, purpose: &str) -> io::Result<[u8; 32]> {
        let path = self.path("encryption.key");
        refuse_readable(&path)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &fs::read(path)?);
        let tag = hmac::sign(&key, purpose.as_bytes());
        <[u8; 32]>::try_from(tag.as_ref()).map_err(io::Error::other)
    }

    /// The ports of an installation that has started before. Writes nothing: others may ask while it starts.
    ///
    /// # Errors
    /// When it has not started yet.
    pub fn known_ports(&self) -> io::Result<Ports> {
        Ok(serde_json::from_slice(&fs::read(self.path("ports.json"))?)?)
    }

    /// The installation's ports: those wished for, those of the last start, else free ones.
    ///
    /// # Errors
    /// When no port is free or the file cannot be written.
    pub fn ports(&self, wished: [Option<u16>; 4]) -> io::Result<Ports> {
        let path = self.path("ports.json");
        let kept = self.known_ports().ok();
        // All held at once, so that they differ.
        let free: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
        let free = |at: usize| free[at].local_addr().map(|address| address.port());
        let ports = Ports {
            api: wished[0].or(kept.map(|p| p.api)).map_or_else(|| free(0), Ok)?,
            http: wished[1].or(kept.map(|p| p.http)).map_or_else(|| free(1), Ok)?,
            rendezvous: wished[2].or(kept.map(|p| p.rendezvous)).map_or_else(|| free(2), Ok)?,
            link: wished[3].or(kept.map(|p| p.link)).map_or_else(|| free(3), Ok)?,
        };
        if kept != Some(ports) {
            write_secret(&path, &serde_json::to_vec(&ports)?)?;
        }
        Ok(ports)
    }
}

/// Writes a file of mode 0600 whole: readers see all of it or the one before.
///
/// # Errors
/// When it cannot be written.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn refuse_readable(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} may be read by others: chmod 600 it", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataFolder::open(folder.path()).expect("opens");
        data.master_key().expect("made");
        let path = data.path("encryption.key");
        let first = fs::read(&path).expect("there");
        data.master_key().expect("read again");
        assert_eq!(fs::read(&path).expect("there"), first);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(data.master_key().is_err());
    }

    #[test]
    fn ports_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataFolder::open(folder.path()).expect("opens");
        assert!(data.known_ports().is_err());
        let first = data.ports([None; 4]).expect("free ports");
        assert_eq!(data.known_ports().expect("kept"), first);
        assert_eq!(data.ports([None; 4]).expect("kept"), first);
        assert_eq!(data.ports([Some(5000), None, None, None]).expect("wished").api, 5000);
    }
}
