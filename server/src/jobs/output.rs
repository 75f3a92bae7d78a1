//! Writing a job's output: one section a step, Heroku's forms.

use bytes::Bytes;
use paas_domain::OutputId;
use paas_ports::PortError;
use tokio::sync::mpsc;

use crate::cx::Cx;

/// One step's part of an output.
pub(super) struct Section<'a> {
    cx: &'a Cx,
    output: OutputId,
    section: u8,
}

impl<'a> Section<'a> {
    /// Starts the section anew: a step that is repeated writes it again.
    pub(super) async fn begin(cx: &'a Cx, output: &OutputId, section: u8) -> Result<Section<'a>, PortError> {
        cx.outputs.begin(output, section).await?;
        Ok(Self { cx, output: output.clone(), section })
    }

    /// Adds text as it stands.
    pub(super) async fn write(&self, text: impl Into<Bytes>) -> Result<(), PortError> {
        self.cx.outputs.write(&self.output, self.section, text.into()).await
    }

    /// Adds a line.
    pub(super) async fn line(&self, text: &str) -> Result<(), PortError> {
        self.write(format!("{text}\n")).await
    }

    /// What comes through a channel while `work` runs, for later, and what `work` gives.
    pub(super) async fn hold<T>(work: impl AsyncFnOnce(mpsc::Sender<Bytes>) -> T) -> (T, Vec<u8>) {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(64);
        let holding = async {
            let mut held = Vec::new();
            while let Some(bytes) = receiver.recv().await {
                held.extend_from_slice(&bytes);
            }
            held
        };
        tokio::join!(work(sender), holding)
    }

    /// Adds everything that comes through a channel while `work` runs, and gives what `work` gives.
    pub(super) async fn carry<T>(
        &self,
        work: impl AsyncFnOnce(mpsc::Sender<Bytes>) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(64);
        let carrying = async {
            let mut parts = Vec::new();
            // What has come meanwhile goes together: a write may be a call to another machine.
            while receiver.recv_many(&mut parts, 64).await > 0 {
                let bytes = if parts.len() == 1 { parts.pop().unwrap_or_default() } else { parts.concat().into() };
                parts.clear();
                self.write(bytes).await?;
            }
            Ok::<(), PortError>(())
        };
        let (result, carried) = tokio::join!(work(sender), carrying);
        carried?;
        result
    }
}
