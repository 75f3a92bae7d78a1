//! A stack, from whatever state it is in to where it shall be.

use std::time::Instant;

use super::account::{Account, Event, Proposal, Stack};
use super::parameters::Parameters;
use super::{InstallError, Pace, Talk};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none.
    Created,
    /// It was another.
    Updated,
    /// It was so already.
    Unchanged,
}

/// Works on one stack.
pub(super) struct Applier<'a> {
    pub(super) account: &'a dyn Account,
    pub(super) talk: &'a dyn Talk,
    pub(super) pace: Pace,
    pub(super) stack: &'a str,
}

/// Where an operation began, in the stack's events.
struct Mark(Option<String>);

impl Applier<'_> {
    /// The stack once CloudFormation has stopped working on it; `None` when there is none.
    pub(super) async fn at_rest(&mut self) -> Result<Option<Stack>, InstallError> {
        let Some(found) = self.account.stack(self.stack).await? else { return Ok(None) };
        if !found.is_moving() {
            return Ok(Some(found));
        }
        self.talk.tell(&format!("Stack {} is {} from an earlier run: waiting for it", self.stack, found.status));
        self.follow(&found.id, None).await
    }

    /// Makes the stack what it shall be. `found` is what is there, at rest.
    pub(super) async fn apply(
        &mut self,
        body: &str,
        parameters: &Parameters,
        may_replace: bool,
        found: Option<Stack>,
    ) -> Result<(Outcome, Stack), InstallError> {
        let found = self.cleared(found).await?;
        let is_new = found.is_none();
        let Some((name, proposal)) = self.proposed(is_new, body, parameters).await? else {
            let unchanged = self.account.stack(self.stack).await?.or(found);
            return unchanged.map(|stack| (Outcome::Unchanged, stack)).ok_or_else(|| self.vanished());
        };
        if !is_new {
            self.show(&proposal, may_replace)?;
        }
        let mark = self.mark().await?;
        self.account.execute(self.stack, &name).await?;
        let stack = self.follow(self.stack, Some(mark)).await?.ok_or_else(|| self.vanished())?;
        if !stack.is_whole() {
            return Err(self.failed(&stack).await);
        }
        Ok((if is_new { Outcome::Created } else { Outcome::Updated }, stack))
    }

    /// Takes away what only a failed first try has left, and frees what got stuck. `None` is room for a new stack.
    async fn cleared(&mut self, found: Option<Stack>) -> Result<Option<Stack>, InstallError> {
        let Some(stack) = found else { return Ok(None) };
        match stack.status.as_str() {
            // Only a proposal was ever made, or nothing is left of it.
            "REVIEW_IN_PROGRESS" | "DELETE_COMPLETE" => Ok(None),
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" => {
                self.talk.tell(&format!("The first try ended as {}: taking away what is left of it", stack.status));
                self.account.delete(&stack.id).await?;
                match self.follow(&stack.id, None).await? {
                    Some(left) if left.status != "DELETE_COMPLETE" => Err(self.failed(&left).await),
                    _ => Ok(None),
                }
            }
            "UPDATE_ROLLBACK_FAILED" => {
                self.talk.tell("The last update could not be taken back: trying again");
                let mark = self.mark().await?;
                self.account.continue_rollback(self.stack).await?;
                match self.follow(&stack.id, Some(mark)).await? {
                    Some(freed) if freed.stands() && freed.status != "UPDATE_ROLLBACK_FAILED" => Ok(Some(freed)),
                    Some(stuck) => Err(self.failed(&stuck).await),
                    None => Err(self.vanished()),
                }
            }
            _ if stack.stands() => Ok(Some(stack)),
            _ => Err(self.failed(&stack).await),
        }
    }

    /// A proposal that can be executed, with its name; `None` when there is nothing to do.
    async fn proposed(
        &mut self,
        is_new: bool,
        body: &str,
        parameters: &Parameters,
    ) -> Result<Option<(String, Proposal)>, InstallError> {
        let mut name = parameters.proposal_name(body);
        let mut is_second_try = false;
        loop {
            self.account.propose(self.stack, &name, is_new, body, parameters).await?;
            let proposal = self.settled(&name).await?;
            if proposal.can_run {
                return Ok(Some((name, proposal)));
            }
            self.account.withdraw(self.stack, &name).await?;
            if proposal.is_empty() {
                return Ok(None);
            }
            if is_second_try {
                return Err(InstallError::Refused(format!("CloudFormation cannot do this: {}", proposal.reason)));
            }
            // One of the same name may be left from an earlier run, when the world was another, or have run already.
            is_second_try = true;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            name = format!("{name}-{}", now.as_millis());
        }
    }

    async fn settled(&self, name: &str) -> Result<Proposal, InstallError> {
        let began = Instant::now();
        loop {
            let proposal = self.account.proposal(self.stack, name).await?;
            let is_made = !proposal.status.ends_with("_PENDING") && !proposal.status.ends_with("_IN_PROGRESS");
            if is_made {
                return Ok(proposal);
            }
            self.pause(began, "REVIEW_IN_PROGRESS").await?;
        }
    }

    /// Says what an update does; refuses what takes something away that was not agreed to.
    fn show(&self, proposal: &Proposal, may_replace: bool) -> Result<(), InstallError> {
        let mut lost = Vec::new();
        for change in &proposal.changes {
            let word = if change.replaces { "Replace" } else { &change.action };
            self.talk.tell(&format!("  {word:<8} {} {}", change.kind, change.resource));
            if change.replaces || change.action == "Remove" {
                lost.push(change.resource.as_str());
            }
        }
        if lost.is_empty() || may_replace {
            return Ok(());
        }
        Err(InstallError::Refused(format!(
            "this would remove or replace {}: look at the list, and say --allow-replacement when that is meant",
            lost.join(", ")
        )))
    }

    async fn mark(&self) -> Result<Mark, InstallError> {
        let events = self.account.events(self.stack, None).await?;
        Ok(Mark(events.last().map(|event| event.id.clone())))
    }

    /// Tells what happens until the stack rests. With a mark, an operation must have begun and ended behind it: the
    /// status alone may still be that of before. `None` when the stack is gone.
    async fn follow(&mut self, stack: &str, mark: Option<Mark>) -> Result<Option<Stack>, InstallError> {
        let began = Instant::now();
        let is_marked = mark.is_some();
        let mut seen = mark.and_then(|mark| mark.0);
        let (mut waits, mut told) = (false, false);
        let mut ended = false;
        loop {
            let Some(now) = self.account.stack(stack).await? else { return Ok(None) };
            for event in self.account.events(stack, seen.as_deref()).await? {
                seen = Some(event.id.clone());
                if event.physical_id == now.id && event.kind == STACK {
                    ended = !event.status.ends_with("_IN_PROGRESS");
                }
                self.tell(&event, &now.id, &mut waits);
            }
            if waits && !told {
                told = true;
                self.talk.tell(
                    "  The certificate is issued once the zone answers for the domain. A zone that was made just now \
                     needs its name servers set where the domain is registered; stopping here and running this again \
                     later is fine",
                );
            }
            if !now.is_moving() && now.status != "REVIEW_IN_PROGRESS" && (ended || !is_marked) {
                return Ok(Some(now));
            }
            self.pause(began, &now.status).await?;
        }
    }

    /// `waits` becomes whether a certificate is being waited for.
    fn tell(&self, event: &Event, stack: &str, waits: &mut bool) {
        let is_stack = event.physical_id == stack && event.kind == STACK;
        if event.kind == "AWS::CertificateManager::Certificate" {
            *waits = event.status.ends_with("_IN_PROGRESS");
        }
        if is_stack || event.status.ends_with("_COMPLETE") || event.status.ends_with("_FAILED") {
            let reason = if event.reason.is_empty() { String::new() } else { format!(" ({})", event.reason) };
            self.talk.tell(&format!("  {:<28} {} {}{reason}", event.status, event.kind, event.resource));
        }
    }

    async fn pause(&self, began: Instant, status: &str) -> Result<(), InstallError> {
        if began.elapsed() > self.pace.patience {
            return Err(InstallError::StillMoving { stack: self.stack.to_owned(), status: status.to_owned() });
        }
        tokio::time::sleep(self.pace.poll).await;
        Ok(())
    }

    /// What failed first, in AWS's words: everything behind it is only "cancelled".
    async fn failed(&self, stack: &Stack) -> InstallError {
        let events = self.account.events(&stack.id, None).await.unwrap_or_default();
        let is_cause = |event: &&Event| {
            event.status.ends_with("_FAILED") && event.kind != STACK && !event.reason.contains("cancelled")
        };
        let mut causes: Vec<_> = events
            .iter()
            .filter(is_cause)
            .map(|event| format!("  {} {}: {}", event.kind, event.resource, event.reason))
            .collect();
        causes.dedup();
        if causes.is_empty() {
            causes.push("  no resource says why; the stack's events in the console may".to_owned());
        }
        InstallError::Failed { stack: self.stack.to_owned(), status: stack.status.clone(), causes: causes.join("\n") }
    }

    fn vanished(&self) -> InstallError {
        InstallError::Refused(format!("stack {} was deleted by somebody else meanwhile", self.stack))
    }
}

const STACK: &str = "AWS::CloudFormation::Stack";

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
