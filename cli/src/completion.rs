//! Completion in bash, zsh and fish: three short scripts that ask `paas __complete` for the words that fit.
//!
//! Our own, since a `:` splits words in bash and separates descriptions in zsh, which the generated ones overlook.

use clap::CommandFactory;

use crate::parse::Paas;

const BASH: &str = r#"_paas() {
    local line words=() reply
    line="${COMP_LINE:0:COMP_POINT}"
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    COMPREPLY=()
    while IFS= read -r reply; do
        # bash has already taken everything up to the last colon as a word of its own
        [[ "$COMP_WORDBREAKS" == *:* && "${words[-1]}" == *:* ]] && reply="${reply#"${words[-1]%:*}":}"
        COMPREPLY+=("$reply")
    done < <(paas __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _paas paas
"#;

const ZSH: &str = r#"#compdef paas
_paas() {
    local -a replies
    replies=("${(@f)$(paas __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -Q -a replies
}
compdef _paas paas
"#;

const FISH: &str = r"complete -c paas -f -a '(paas __complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
";

/// The shells that can be completed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The script to source.
pub(crate) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    }
}

/// The words that may stand in the place of the last of `words`.
pub(crate) fn candidates(words: &[String]) -> Vec<String> {
    let table = Paas::command();
    let mut fitting = match words {
        [] => return Vec::new(),
        [first] => table
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .flat_map(|c| std::iter::once(c.get_name()).chain(c.get_all_aliases()))
            .filter(|name| name.starts_with(first.as_str()))
            .map(str::to_owned)
            .collect::<Vec<_>>(),
        [first, .., last] => table
            .get_subcommands()
            .find(|c| c.get_name() == first || c.get_all_aliases().any(|alias| alias == first))
            .into_iter()
            .flat_map(|c| {
                c.get_arguments().filter_map(|a| a.get_long()).map(|long| format!("--{long}")).collect::<Vec<_>>()
            })
            .filter(|flag| last.starts_with('-') && flag.starts_with(last.as_str()))
            .collect(),
    };
    fitting.sort();
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_commands_and_flags() {
        let of = |words: &[&str]| candidates(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["ps:s"]), ["ps:scale", "ps:stop"]);
        assert_eq!(of(&["scale", "--r"]), ["--remote"]);
        assert!(of(&["ps:scale", "web"]).is_empty() && of(&["nope", "--"]).is_empty());
        assert!(!of(&[""]).contains(&"__complete".to_owned()));
    }
}
