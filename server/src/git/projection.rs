//! A repository's refs, made like the rows.
//!
//! Whatever is there that no row names is drift, and goes. A row whose commit the repository lacks is left out: it
//! must not keep the others from being seen.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{Oid, Repository};

/// Makes the refs of the repository at `path` equal to `branches`, and HEAD name the deployed one.
pub(super) fn write(path: &Path, branches: &[(String, String)]) -> Result<(), git2::Error> {
    let repository = Repository::open_bare(path)?;
    let mut wanted = BTreeMap::new();
    for (name, commit) in branches {
        let name = if name.starts_with("refs/") { name.clone() } else { format!("refs/heads/{name}") };
        wanted.insert(name, Oid::from_str(commit)?);
    }
    let mut there = BTreeMap::new();
    // What goes first makes room: `a` may follow `a/b`.
    for reference in repository.references()? {
        let mut reference = reference?;
        match (reference.name().map(str::to_owned), reference.target()) {
            (Ok(name), Some(target)) if wanted.contains_key(&name) => drop(there.insert(name, target)),
            _ => reference.delete()?,
        }
    }
    for (name, target) in &wanted {
        if there.get(name) == Some(target) {
            continue;
        }
        if repository.odb()?.exists(*target) {
            repository.reference(name, *target, true, "")?;
        } else {
            tracing::error!(path = %path.display(), %target, "a branch's commit is not in the repository");
        }
    }
    let only_master = wanted.contains_key("refs/heads/master") && !wanted.contains_key("refs/heads/main");
    let head = if only_master { "refs/heads/master" } else { "refs/heads/main" };
    if repository.find_reference("HEAD")?.symbolic_target().ok().flatten() != Some(head) {
        repository.set_head(head)?;
    }
    Ok(())
}
