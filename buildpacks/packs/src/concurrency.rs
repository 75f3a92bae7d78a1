//! `WEB_CONCURRENCY`, set at the start of a dyno by its memory, as Heroku's buildpacks do.

use std::fs;
use std::path::Path;

use crate::failure::Failure;

/// One worker for each 256 MB, and no more than twice the processors plus one; unset where memory is not limited.
const PROFILE: &str = r#"if [ -z "${WEB_CONCURRENCY:-}" ]; then
    limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null)
    case $limit in
        '' | *[!0-9]* | ????????????????*) ;;
        *)
            workers=$((limit / 268435456)) most=$((2 * $(nproc) + 1))
            if [ "$workers" -gt "$most" ]; then workers=$most; fi
            if [ "$workers" -lt 1 ]; then workers=1; fi
            export WEB_CONCURRENCY=$workers
            unset most workers
            ;;
    esac
    unset limit
fi
"#;

/// Adds the script to a launch layer.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_profile(layer: &Path) -> Result<(), Failure> {
    let folder = layer.join("profile.d");
    fs::create_dir_all(&folder).map_err(|e| Failure::io("making", &folder, &e))?;
    let file = folder.join("web_concurrency.sh");
    fs::write(&file, PROFILE).map_err(|e| Failure::io("writing", &file, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_a_shell_reads_and_leaves_a_set_value_alone() {
        let work = tempfile::tempdir().expect("a folder");
        write_profile(work.path()).expect("writes");
        let script = ". profile.d/web_concurrency.sh && echo \"$WEB_CONCURRENCY\"";
        let mut bash = std::process::Command::new("bash");
        let seen = bash.args(["-euc", script]).current_dir(work.path()).env("WEB_CONCURRENCY", "7").output();
        let seen = seen.expect("runs");
        assert_eq!(String::from_utf8_lossy(&seen.stdout), "7\n");
    }
}
