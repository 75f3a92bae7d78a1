//! The image of the suite: the real launcher, the script's words in the place of the builder's launcher, and the
//! libraries that the two need. Pushed to the emulator's registry once per run.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, PushImageOptionsBuilder, TagImageOptionsBuilder};
use futures_util::StreamExt as _;
use paas_aws::Aws;
use tokio::sync::OnceCell;

/// Its repository.
const REPOSITORY: &str = "paas-test-dyno";
static PINNED: OnceCell<String> = OnceCell::const_new();

/// Its name, digest-pinned.
pub(crate) async fn pinned(docker: &Docker, account: &Aws) -> String {
    PINNED.get_or_init(|| push(docker, account)).await.clone()
}

async fn push(docker: &Docker, account: &Aws) -> String {
    let (launcher, dyno) = (example("launcher"), example("test-dyno"));
    let mut hasher = DefaultHasher::new();
    for binary in [&launcher, &dyno] {
        std::fs::read(binary).expect("not run: the examples are not built").hash(&mut hasher);
    }
    let (tag, registry) = (format!("{:016x}", hasher.finish()), crate::support::registry());
    let (here, there) = ("paas-test-ecs-dyno", format!("{registry}/{REPOSITORY}"));
    if docker.inspect_image(&format!("{here}:{tag}")).await.is_err() {
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(here)
            .tag(&tag)
            .changes(vec!["USER 1000:1000".to_owned()])
            .build();
        let tar = rootfs(&[(&launcher, "paas/launcher"), (&dyno, "cnb/lifecycle/launcher")]);
        let mut made = Box::pin(docker.create_image(Some(options), Some(bollard::body_full(tar.into())), None));
        while let Some(step) = made.next().await {
            step.expect("imports the image");
        }
    }
    let _ = account.ecr.create_repository().repository_name(REPOSITORY).send().await;
    let options = TagImageOptionsBuilder::new().repo(&there).tag(&tag).build();
    docker.tag_image(&format!("{here}:{tag}"), Some(options)).await.expect("tags the image");
    let options = PushImageOptionsBuilder::new().tag(&tag).build();
    let mut pushed = Box::pin(docker.push_image(&there, Some(options), Some(Default::default())));
    while let Some(step) = pushed.next().await {
        step.expect("pushes the image");
    }
    drop(pushed);
    let _ = docker
        .remove_image(&format!("{there}:{tag}"), None::<bollard::query_parameters::RemoveImageOptions>, None)
        .await;
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(&tag).build();
    let images = account.ecr.describe_images().repository_name(REPOSITORY).image_ids(id).send().await;
    let images = images.expect("the image is there");
    format!("{there}@{}", images.image_details()[0].image_digest().expect("a digest"))
}

/// A program that `cargo test` builds beside the tests.
fn example(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("has a path");
    me.parent().and_then(Path::parent).expect("a target folder").join("examples").join(name)
}

/// A tar of the programs and of every library they are linked to.
fn rootfs(programs: &[(&PathBuf, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, path.trim_start_matches('/'), content).expect("adds to the tar");
    };
    let mut libraries = Vec::new();
    for (program, path) in programs {
        let bytes = std::fs::read(program).expect("not run: the examples are not built");
        add(path, &bytes);
        let loader = interpreter(&bytes);
        let listed = Command::new(&loader).arg("--list").arg(program).output().expect("lists libraries");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        libraries.extend(paths.map(str::to_owned));
        libraries.push(loader);
    }
    libraries.sort_unstable();
    libraries.dedup();
    for path in libraries {
        add(&path, &std::fs::read(&path).expect("the library is there"));
    }
    tar.into_inner().expect("finishes the tar")
}

/// The dynamic loader that a program names.
fn interpreter(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(4096)];
    let at = head.windows(4).position(|w| w == b"/lib").expect("the program names its loader");
    let end = head[at..].iter().position(|b| *b == 0).expect("a string");
    String::from_utf8_lossy(&head[at..at + end]).into_owned()
}
