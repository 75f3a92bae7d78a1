//! Who may link: the tasks that ECS shows, from the addresses that it shows them with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use paas_domain::{DynoId, DynoKind, DynoName};
use paas_link::{Admitted, Claim, LinkAdmission, Refusal};
use paas_ports::PortError;
use tokio::time::sleep;

use super::book::{makes_room, service_dynos};
use super::note::{self, DynoNote, Note};
use super::sight::Task;
use super::{EcsRuntime, Inner};

/// The pauses before a task is looked at again whose address is not known, in ms: it may be quicker than ECS's
/// answers. In all about as long as a dyno waits for its name once it is heard.
const LOOK_AGAIN_MS: [u64; 6] = [50, 100, 200, 400, 800, 1_200];

#[async_trait]
impl LinkAdmission for EcsRuntime {
    async fn admit(&self, claim: &Claim) -> Result<Admitted, Refusal> {
        match self.inner.admit(claim).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(app = %claim.app, %error, "cannot say whether a dyno may link");
                Err(Refusal::NotNow)
            }
        }
    }
}

impl Inner {
    async fn admit(&self, claim: &Claim) -> Result<Result<Admitted, Refusal>, PortError> {
        match &claim.dyno {
            Some(dyno) => self.admit_once(claim, dyno).await,
            None => self.admit_service(claim).await,
        }
    }

    async fn admit_once(&self, claim: &Claim, id: &DynoId) -> Result<Result<Admitted, Refusal>, PortError> {
        // It may link before RunTask's answer was noted down.
        let Some((dyno, task)) = self.linking_once(claim, id).await? else { return Ok(Err(Refusal::Unknown)) };
        Ok(calls_from(task.as_ref(), claim.peer).map(|()| Admitted { dyno: id.clone(), name: dyno.name }))
    }

    /// What is known of a one-off dyno and its task; nothing when it cannot be the one that calls.
    async fn linking_once(&self, claim: &Claim, id: &DynoId) -> Result<Option<(DynoNote, Option<Task>)>, PortError> {
        let mut pauses = LOOK_AGAIN_MS.into_iter();
        loop {
            let Some((app, dyno)) = self.find_dyno(id).await? else { return Ok(None) };
            if app != claim.app || dyno.forgotten || dyno.exit.is_some() {
                return Ok(None);
            }
            let task = match dyno.task.clone() {
                None => None,
                Some(arn) if arn != claim.task && claim.task != id.as_str() => return Ok(None),
                Some(arn) => match self.world.once(id).filter(settled) {
                    Some(task) => Some(task),
                    None => self.look_once(&app, &[arn]).await?.pop(),
                },
            };
            match pauses.next() {
                Some(pause) if !task.as_ref().is_some_and(settled) => sleep(Duration::from_millis(pause)).await,
                _ => return Ok(Some((dyno, task))),
            }
        }
    }

    /// What is known of a service's task.
    async fn linking_service(&self, claim: &Claim, name: &str) -> Result<Option<Task>, PortError> {
        let mut pauses = LOOK_AGAIN_MS.into_iter();
        loop {
            let known = self.world.known(name).tasks.into_iter().find(|task| task.arn == claim.task && settled(task));
            let task = match known {
                Some(task) => Some(task),
                None => self.describe_tasks(Some(&claim.app), std::slice::from_ref(&claim.task)).await?.pop(),
            };
            match pauses.next() {
                Some(pause) if !task.as_ref().is_some_and(settled) => sleep(Duration::from_millis(pause)).await,
                _ => return Ok(task),
            }
        }
    }

    async fn admit_service(&self, claim: &Claim) -> Result<Result<Admitted, Refusal>, PortError> {
        let name = self.service_name(&claim.app, &claim.process_type);
        let task = self.linking_service(claim, &name).await?;
        let ours = task.filter(|task| task.service.as_deref() == Some(&*name));
        if let Err(refusal) = calls_from(ours.as_ref(), claim.peer) {
            return Ok(Err(refusal));
        }
        let Some(task) = ours else { return Ok(Err(Refusal::Unknown)) };
        self.world.note_task(task.clone());
        let notes = self.options.notes.notes(&claim.app).await?;
        let dynos = service_dynos(&notes, &claim.process_type);
        if claim.started_as.is_none() {
            let note: Note = note::read(&notes, &note::type_key(&claim.process_type)).unwrap_or_default();
            return self.first_name(claim, &task, &note, &dynos).await;
        }
        self.started_name(claim, &task).await
    }

    /// The name of a dyno that waits for it, for seconds: nothing here waits for a pass.
    async fn first_name(
        &self,
        claim: &Claim,
        task: &Task,
        note: &Note,
        dynos: &BTreeMap<DynoId, DynoNote>,
    ) -> Result<Result<Admitted, Refusal>, PortError> {
        let name = match dynos.get(&task.dyno) {
            Some(dyno) if dyno.exit.is_some() => return Ok(Err(Refusal::Unknown)),
            Some(dyno) => dyno.name.clone(),
            None => {
                // Who crashed makes room for who comes; the next pass finds it so.
                let place = dynos.values().filter(|dyno| makes_room(note, dyno)).min_by_key(|dyno| dyno.name.slot);
                if let Some(place) = place.and_then(|dyno| dyno.task.as_ref()) {
                    self.options.ledger.free_slot(place).await?;
                }
                let slot = self.options.ledger.take_slot(&claim.app, &claim.process_type, &task.arn).await?;
                DynoName { process_type: claim.process_type.clone(), slot }
            }
        };
        Ok(Ok(Admitted { dyno: task.dyno.clone(), name }))
    }

    /// The name of a dyno whose command runs already and knows itself by one.
    async fn started_name(&self, claim: &Claim, task: &Task) -> Result<Result<Admitted, Refusal>, PortError> {
        let pass = self.pass(&claim.app);
        let _pass = pass.lock().await;
        let notes = self.options.notes.notes(&claim.app).await?;
        let mut dynos = service_dynos(&notes, &claim.process_type);
        if !dynos.contains_key(&task.dyno) {
            // Only whoever has the app's lease keeps its book: the next pass enters it, and it asks again soon.
            (self.options.on_change)(&claim.app);
            return Ok(Err(Refusal::NotNow));
        }
        let Some(mut dyno) = dynos.remove(&task.dyno).filter(|dyno| dyno.exit.is_none()) else {
            return Ok(Err(Refusal::NotNow));
        };
        if let Some(name) = claim.started_as.as_ref().filter(|name| **name != dyno.name) {
            // Its command knows itself by this name; the slot that was kept for it stays taken.
            let free = !dynos.values().any(|other| other.name == *name);
            if dyno.kind == DynoKind::Service && name.process_type == claim.process_type && free {
                dyno.name = DynoName::clone(name);
                self.keep(&claim.app, &task.dyno, &dyno).await?;
            }
        }
        Ok(Ok(Admitted { dyno: task.dyno.clone(), name: dyno.name }))
    }
}

/// Whether looking again would tell more of who calls.
fn settled(task: &Task) -> bool {
    task.address.is_some() || task.stopped()
}

/// Whether it is alive and calls from its own address.
fn calls_from(task: Option<&Task>, peer: IpAddr) -> Result<(), Refusal> {
    match task {
        None => Err(Refusal::NotNow),
        Some(task) if task.stopped() => Err(Refusal::Unknown),
        Some(Task { address: None, .. }) => Err(Refusal::NotNow),
        Some(Task { address: Some(address), .. }) if *address == peer.to_canonical() => Ok(()),
        Some(_) => Err(Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::plan::tests::task;

    #[test]
    fn only_a_live_task_from_its_own_address() {
        let here: IpAddr = "10.0.1.7".parse().expect("an address");
        let there: IpAddr = "10.0.1.8".parse().expect("an address");
        let with = |address| Task { address, ..task(1, "d1") };
        assert_eq!(calls_from(Some(&with(Some(here))), here), Ok(()));
        assert_eq!(calls_from(Some(&with(Some(here))), "::ffff:10.0.1.7".parse().expect("an address")), Ok(()));
        assert_eq!(calls_from(Some(&with(Some(here))), there), Err(Refusal::Unknown));
        assert_eq!(calls_from(Some(&with(None)), here), Err(Refusal::NotNow));
        assert_eq!(calls_from(None, here), Err(Refusal::NotNow));
        let ended = Task { last_status: "STOPPED".to_owned(), ..with(Some(here)) };
        assert_eq!(calls_from(Some(&ended), here), Err(Refusal::Unknown));
    }
}
