//! From a finished build to its image, and to the process types that it has.

use std::path::Path;

use paas_builder::{FoundProcfile, find_procfile};
use paas_domain::Procfile;
use paas_ports::{BuiltImage, PortError};
use paas_store::{Image, ProcessTable};

use super::{BUILT_AGAIN, BuildStep, EXPORT, Work};
use crate::crash_point::Side;
use crate::jobs::output::Section;
use crate::jobs::{JobError, Next, point};

impl Work<'_> {
    pub(super) async fn export_image(mut self) -> Result<Next, JobError> {
        let spec = self.spec().await?;
        let procfile = read_procfile(&spec.source).await.map_err(JobError::GiveUp)?;
        let output = Section::begin(self.cx, &self.build.output, EXPORT).await?;
        let declared = procfile.iter().flat_map(Procfile::iter).map(|(process_type, _)| process_type.as_str());
        output.line("-----> Discovering process types").await?;
        output.line(&format!("       Procfile declares types -> {}", listed(declared))).await?;
        let builder = &self.cx.builder;
        let has_procfile = procfile.as_ref().is_some_and(|procfile| !procfile.is_empty());
        let (built, said) = if has_procfile {
            output.line("").await?;
            (output.carry(async |sender| builder.export(&spec, sender).await).await, Vec::new())
        } else {
            // The buildpack's own types are known at the end, and stand before what the export says.
            Section::hold(async |sender| builder.export(&spec, sender).await).await
        };
        let built = match built {
            Err(PortError::NotFound(_)) => return self.build_again().await,
            built => built?,
        };
        let process_types = process_table(procfile.as_ref(), &built);
        if !has_procfile {
            if !process_types.is_empty() {
                let types = listed(process_types.keys().map(paas_domain::ProcessType::as_str));
                output.line(&format!("       Default types for buildpack -> {types}")).await?;
            }
            output.line("").await?;
            output.write(said).await?;
        }
        let image = Image {
            id: built.image.0.clone(),
            process_types,
            builder: built.builder.clone(),
            size: i64::try_from(built.size).unwrap_or(i64::MAX),
            description: built.description.clone(),
            architecture: built.architecture,
        };
        point(self.cx, BuildStep::ExportImage.as_str(), Side::BeforeCommit).await;
        let now = self.cx.now();
        let mut uow = self.cx.begin().await?;
        uow.put_image(&self.lease.scope, &image, now).await?;
        self.memo.built = Some(built);
        self.advance(&mut uow, BuildStep::CutRelease).await?;
        uow.save().await?;
        Ok(Next::Step)
    }

    /// Goes back to the build: another builder ran it, and is not there any more.
    async fn build_again(mut self) -> Result<Next, JobError> {
        self.memo.built_again += 1;
        if self.memo.built_again > BUILT_AGAIN {
            return Err(JobError::GiveUp("the build was lost with its builder, again and again".to_owned()));
        }
        let mut uow = self.cx.begin().await?;
        self.advance(&mut uow, BuildStep::RunBuild).await?;
        uow.save().await?;
        Ok(Next::Step)
    }

    /// Goes back a step, once: the build's layers are still there.
    pub(super) async fn export_again(mut self) -> Result<Next, JobError> {
        if std::mem::replace(&mut self.memo.exported_again, true) {
            return Err(JobError::GiveUp("the image was stored and is not there any more".to_owned()));
        }
        let mut uow = self.cx.begin().await?;
        self.advance(&mut uow, BuildStep::ExportImage).await?;
        uow.save().await?;
        Ok(Next::Step)
    }
}

/// Process types as a line of output shows them.
fn listed<'a>(types: impl Iterator<Item = &'a str>) -> String {
    let types: Vec<&str> = types.collect();
    if types.is_empty() { "(none)".to_owned() } else { types.join(", ") }
}

/// The Procfile of a source tar. Says in a sentence why it cannot be used.
pub(super) async fn read_procfile(source: &Path) -> Result<Option<Procfile>, String> {
    let source = source.to_owned();
    let read = tokio::task::spawn_blocking(move || find_procfile(&source, Path::new("")));
    match read.await.map_err(|e| e.to_string())?.map_err(|e| format!("the source cannot be read: {e}"))? {
        FoundProcfile::Nothing => Ok(None),
        FoundProcfile::LeadsOut => Err("Procfile is a link that leads out of the app".to_owned()),
        FoundProcfile::Content(bytes) => Procfile::parse(&bytes).map(Some).map_err(|e| e.to_string()),
    }
}

/// The Procfile's types, and no others; what the buildpacks announced by themselves only where there is no Procfile,
/// or an empty one.
fn process_table(procfile: Option<&Procfile>, built: &BuiltImage) -> ProcessTable {
    let mut table = ProcessTable::new();
    match procfile {
        Some(procfile) if !procfile.is_empty() => {
            table.extend(procfile.iter().map(|(process_type, command)| (process_type.clone(), command.to_owned())));
        }
        _ => table.extend(built.default_processes.clone()),
    }
    table
}
