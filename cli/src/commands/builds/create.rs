//! `builds:create`: builds what lies in a folder, without a commit.

use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use paas_proto::{Build, BuildStatus, CreateBuild, Source, SourceBlob};

use crate::app_flag::AppFlag;
use crate::commands::releases::output::stream;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::{git, ui};

/// build and release the source in a folder or archive
#[derive(clap::Args)]
pub(crate) struct Create {
    /// the folder to build; what git ignores is left out
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    app: AppFlag,
    /// a tar.gz file to build instead
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    source_tar: Option<PathBuf>,
    /// the URL of a tar.gz file to build instead
    #[arg(long, value_name = "URL", conflicts_with_all = ["folder", "source_tar"])]
    source_url: Option<String>,
    /// what to call this version
    #[arg(long)]
    version: Option<String>,
}

impl Create {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let path = format!("/apps/{}", path_segment(&app));
        let url = match &self.source_url {
            Some(url) => url.clone(),
            None => {
                let archive = self.archive()?;
                ui::action("Uploading source", || {
                    let source: Source = api.post(&format!("{path}/sources"), &serde_json::json!({}))?;
                    api.upload(&source.source_blob.put_url, archive)?;
                    Ok((source.source_blob.get_url, String::new()))
                })?
            }
        };
        let source_blob = SourceBlob { url, version: self.version.clone(), ..SourceBlob::default() };
        let build: Build = api.post(&format!("{path}/builds"), &CreateBuild { source_blob, buildpacks: None })?;
        stream(api, &build.output_stream_url)?;
        let build: Build = api.get(&format!("{path}/builds/{}", path_segment(&build.id)))?;
        if build.status == BuildStatus::Failed { Err(Failure::new("Build failed")) } else { Ok(()) }
    }

    fn archive(&self) -> Result<std::fs::File, Failure> {
        if let Some(file) = &self.source_tar {
            return std::fs::File::open(file)
                .map_err(|e| Failure::new(format!("Couldn't read {}: {e}", file.display())));
        }
        pack(&self.folder).map_err(|e| Failure::new(format!("Couldn't pack {}: {e}", self.folder.display())))
    }
}

/// A tar.gz of the folder, in a file that vanishes when closed.
fn pack(folder: &Path) -> std::io::Result<std::fs::File> {
    let mut archive = tar::Builder::new(GzEncoder::new(tempfile::tempfile()?, Compression::fast()));
    archive.follow_symlinks(false);
    let listed = folder
        .to_str()
        .and_then(|at| git::git(&["-C", at, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).ok());
    match listed {
        Some(names) => {
            for name in names.split_terminator('\0') {
                let file = folder.join(name);
                if file.is_symlink() || file.is_file() {
                    archive.append_path_with_name(&file, name)?; // git also lists what was just deleted
                }
            }
        }
        None => archive.append_dir_all(".", folder)?,
    }
    let mut file = archive.into_inner()?.finish()?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_what_git_does_not_ignore() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("app.py"), "print(1)").expect("written");
        std::fs::write(at(".gitignore"), "secret\n").expect("written");
        std::fs::write(at("secret"), "s").expect("written");
        std::os::unix::fs::symlink("app.py", at("link")).expect("linked");
        let names = || {
            let file = pack(folder.path()).expect("packed");
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
            let entries = archive
                .entries()
                .expect("an archive")
                .map(|e| e.expect("entry").path().expect("path").display().to_string());
            let mut names: Vec<_> = entries.filter(|name| !name.contains(".git/")).collect();
            names.sort();
            names
        };
        assert!(names().iter().any(|name| name.ends_with("secret")));
        git::git(&["init", "-q", folder.path().to_str().expect("UTF-8")]).expect("a repository");
        assert_eq!(names(), [".gitignore", "app.py", "link"]);
    }
}
