//! `ps:type`: the sizes of an app's dynos.

use std::collections::BTreeMap;

use paas_proto::{Formation, FormationChange, FormationUpdate, UpdateFormation};

use super::scale::no_process_types;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::ui;

/// manage dyno sizes
///
/// Called with no arguments shows the current dyno size. Called with one argument sets the size, which is one of
/// eco|basic|standard-1x|standard-2x|performance-m|performance-l. Called with 1..n TYPE=SIZE arguments sets the size
/// per type.
#[derive(clap::Args)]
pub(crate) struct Type {
    /// a size for all process types, or sizes as web=standard-2x
    #[arg(value_name = "SIZE | TYPE=SIZE")]
    sizes: Vec<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Type {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let path = format!("/apps/{}/formation", path_segment(&app));
        let mut formation: Vec<Formation> = api.list(&path)?;
        if formation.is_empty() {
            return Err(no_process_types(&app));
        }
        let updates = changes(&self.sizes, &formation)?;
        if !updates.is_empty() {
            ui::action(&format!("Scaling dynos on {}", ui::app(&app)), || {
                let _: Vec<Formation> = api.patch(&path, &UpdateFormation { updates })?;
                Ok(((), String::new()))
            })?;
            formation = api.list(&path)?;
        }
        show(formation);
        Ok(())
    }
}

fn changes(sizes: &[String], formation: &[Formation]) -> Result<Vec<FormationUpdate>, Failure> {
    let update = |process_type: &str, size: &str| FormationUpdate {
        r#type: process_type.to_owned(),
        change: FormationChange { size: Some(size.to_owned()), ..FormationChange::default() },
    };
    if let [size] = sizes
        && !size.contains('=')
    {
        return Ok(formation.iter().map(|line| update(&line.r#type, size)).collect());
    }
    let mut updates = Vec::new();
    for pair in sizes {
        let Some((process_type, size)) = pair.split_once('=').filter(|(t, s)| !t.is_empty() && !s.is_empty()) else {
            return Err(Failure::usage(format!("`{pair}` is not a size of a process type: use `web=standard-2x`")));
        };
        if formation.iter().all(|line| line.r#type != process_type) {
            let types: Vec<_> = formation.iter().map(|line| line.r#type.as_str()).collect();
            return Err(Failure::new(format!(
                "Type {process_type} not found in process formation.\nTypes: {}",
                types.join(", ")
            )));
        }
        updates.push(update(process_type, size));
    }
    Ok(updates)
}

fn show(mut formation: Vec<Formation>) {
    formation.sort_by(|a, b| a.r#type.cmp(&b.r#type));
    let mut totals: BTreeMap<&str, u32> = BTreeMap::new();
    for line in &formation {
        *totals.entry(&line.size).or_default() += line.quantity;
    }
    ui::header("Process Types");
    let rows: Vec<_> =
        formation.iter().map(|f| vec![f.r#type.clone(), f.size.clone(), f.quantity.to_string()]).collect();
    ui::table(&["type", "size", "qty"], &rows);
    ui::line("");
    ui::header("Dyno Totals");
    let rows: Vec<_> = totals.iter().map(|(size, total)| vec![(*size).to_owned(), total.to_string()]).collect();
    ui::table(&["type", "total"], &rows);
}
