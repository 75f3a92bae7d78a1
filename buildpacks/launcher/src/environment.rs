//! The environment an app gets: the image's own, the dyno's `PORT` and `DYNO`, and its config vars.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// What belongs to the platform and never reaches an app.
const OURS: &str = "PAAS_COMMAND";
/// What a dyno is told about itself; a config var of the same name does not win, as on Heroku.
const OF_THE_DYNO: [&str; 2] = ["PORT", "DYNO"];

/// The app's environment, made from the container's.
///
/// Config vars win over the image's own variables, except over those that tell a dyno who it is.
///
/// # Errors
/// When the config is damaged. The text holds no value.
pub(crate) fn of_the_app(
    container: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<OsString, OsString>, String> {
    let mut vars: BTreeMap<OsString, OsString> = container.collect();
    let config = paas_dyno_env::decode(|name| vars.get(OsStr::new(name)).and_then(|v| v.to_str()).map(str::to_owned))
        .map_err(|e| e.to_string())?;
    vars.retain(|name, _| {
        let of_the_link = paas_link_frames::env::OURS.iter().any(|ours| name == ours);
        name != OURS && !of_the_link && !name.to_string_lossy().starts_with(paas_dyno_env::PREFIX)
    });
    for (name, value) in config {
        let told_by_us = OF_THE_DYNO.contains(&name.as_str()) && vars.contains_key(OsStr::new(&name));
        if !told_by_us && is_settable(&name, &value) {
            vars.insert(name.into(), value.into());
        }
    }
    Ok(vars)
}

/// Whether the kernel can carry this variable: one that it cannot would keep the whole dyno from starting.
fn is_settable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(config: &[(&str, &str)], plain: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let plain = plain.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        paas_dyno_env::encode(&config).into_iter().chain(plain).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn config_wins_over_the_image_but_not_over_the_dyno() {
        let vars = of_the_app(
            container(
                &[("LANG", "de"), ("PORT", "1"), ("DYNO", "x"), ("KEY", "a=b\nc")],
                &[
                    ("LANG", "C"),
                    ("PORT", "5000"),
                    ("DYNO", "web.1"),
                    ("PAAS_COMMAND", "true"),
                    ("PAAS_LINK_TOKEN", "t"),
                ],
            )
            .into_iter(),
        )
        .expect("decodes");
        let seen: Vec<(&str, &str)> =
            vars.iter().map(|(k, v)| (k.to_str().expect("text"), v.to_str().expect("text"))).collect();
        assert_eq!(seen, [("DYNO", "web.1"), ("KEY", "a=b\nc"), ("LANG", "de"), ("PORT", "5000")]);
    }

    #[test]
    fn a_worker_may_have_a_port_of_its_own() {
        let vars = of_the_app(container(&[("PORT", "9000")], &[("DYNO", "worker.1")]).into_iter()).expect("decodes");
        assert_eq!(vars[OsStr::new("PORT")], "9000");
    }

    #[test]
    fn damage_is_one_clear_line() {
        let broken = [("PAAS_CONFIG_0".into(), "%%%".into())];
        assert_eq!(of_the_app(broken.into_iter()), Err("the config of this dyno is damaged (base64)".to_owned()));
    }
}
