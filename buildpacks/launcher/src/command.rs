//! What to execute for a dyno's command line.

use std::ffi::OsString;
use std::path::Path;

/// Where the standard has a builder put its launcher.
const CNB_LAUNCHER: &str = "/cnb/lifecycle/launcher";
/// Shells in the order that we look for them, for images no buildpack has made.
const SHELLS: [&str; 4] = ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"];

/// Scripts of the app's own that set variables for its dynos, as on Heroku; the folder is below the app's, where dynos start.
const PROFILE_D: &str = ".profile.d";
/// Runs them in the shell that the command line is for.
const RUN_PROFILES: &str =
    "for profile in .profile.d/*.sh; do [ -r \"$profile\" ] && . \"$profile\"; done; unset profile\n";

/// The words to execute.
///
/// `args` are from someone who runs the image by hand and need no shell; else `command` is the dyno's command
/// line. The builder's launcher gets it as one word, which makes it a script of a shell that has the
/// buildpacks' environment and has run the app's `.profile`; the scripts of its `.profile.d` come before the line itself.
///
/// # Errors
/// When there is nothing to run, or a command line but no shell.
pub(crate) fn argv(
    args: Vec<OsString>,
    command: Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Vec<OsString>, String> {
    let launcher = exists(Path::new(CNB_LAUNCHER)).then(|| OsString::from(CNB_LAUNCHER));
    if !args.is_empty() {
        let prefix = launcher.map(|launcher| vec![launcher, "--".into()]);
        return Ok(prefix.unwrap_or_default().into_iter().chain(args).collect());
    }
    let command = command.filter(|c| !c.is_empty()).ok_or("nothing to run: PAAS_COMMAND is not set")?;
    if let Some(launcher) = launcher {
        // `--` alone would mean "no shell" to the builder's launcher.
        let mut script = if exists(Path::new(PROFILE_D)) { OsString::from(RUN_PROFILES) } else { OsString::new() };
        script.push(if command == "--" { "exec --".into() } else { command });
        return Ok(vec![launcher, script]);
    }
    let shell = SHELLS.iter().find(|shell| exists(Path::new(shell)));
    let shell = shell.ok_or("this image has neither bash nor sh to run the command line with")?;
    Ok(vec![shell.into(), "-c".into(), command])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(argv: Result<Vec<OsString>, String>) -> Vec<String> {
        argv.expect("has a command").into_iter().map(|w| w.into_string().expect("text")).collect()
    }

    #[test]
    fn the_builders_launcher_gets_the_line_as_one_word() {
        let seen = words(argv(vec![], Some("a --port $PORT && b".into()), |p| p == Path::new(CNB_LAUNCHER)));
        assert_eq!(seen, [CNB_LAUNCHER, "a --port $PORT && b"]);
    }

    #[test]
    fn an_apps_own_scripts_come_before_its_line() {
        let seen = words(argv(vec![], Some("serve".into()), |_| true));
        assert_eq!(seen, [CNB_LAUNCHER.to_owned(), format!("{RUN_PROFILES}serve")]);
    }

    #[test]
    fn other_images_get_the_best_shell_they_have() {
        let seen = words(argv(vec![], Some("a | b".into()), |p| p == Path::new("/bin/sh")));
        assert_eq!(seen, ["/bin/sh", "-c", "a | b"]);
        assert!(argv(vec![], Some("a".into()), |_| false).is_err());
    }

    #[test]
    fn by_hand_no_shell_is_in_between() {
        let seen = words(argv(vec!["ls".into(), "a b".into()], None, |p| p == Path::new(CNB_LAUNCHER)));
        assert_eq!(seen, [CNB_LAUNCHER, "--", "ls", "a b"]);
    }

    #[test]
    fn nothing_to_run_is_said() {
        assert_eq!(argv(vec![], None, |_| true), Err("nothing to run: PAAS_COMMAND is not set".to_owned()));
    }
}
