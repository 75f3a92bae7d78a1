//! What a push asks for: the part of a receive-pack request before the pack, and what is refused by it alone.
//!
//! Refused here is what git would take: refs that we do not keep (with a `proc-receive` hook git checks no names),
//! and what git would refuse without saying what to do (shallow clones).

use std::collections::HashSet;

use bytes::Bytes;
use paas_domain::RefName;

use super::pkt_line::{self, BadPacket, Packet};
use super::wire::NO_OBJECT;

/// The most bytes that the part before the pack may have.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// What git says of a ref that a hook declined.
pub(super) const DECLINED: &str = "pre-receive hook declined";
/// The longest part of a ref's name; each becomes a file name, with `.lock` behind it.
const MAX_COMPONENT: usize = 200;

/// The part of a push before its pack.
#[derive(Debug, Default)]
pub(super) struct PushRequest {
    /// The updates, as they stand there.
    pub(super) updates: Vec<RawUpdate>,
    /// Commits whose parents the pusher does not have.
    pub(super) shallow: Vec<String>,
    capabilities: Vec<String>,
    /// Its bytes, and those of the pack that came with them.
    pub(super) bytes: Bytes,
    /// Where among them the pack begins.
    pub(super) pack_at: usize,
}

/// One update as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawUpdate {
    /// The new object, or [`NO_OBJECT`].
    pub(super) new: String,
    /// The name, whatever it is.
    pub(super) name: Vec<u8>,
}

/// Bytes that are no push.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("bad pkt-line")]
    Packet,
    #[error("bad line in the list of commands")]
    Line,
    #[error("the list of commands is too long")]
    TooLong,
    #[error("signed pushes and push options are not supported")]
    NotOffered,
}

impl From<BadPacket> for BadRequest {
    fn from(_: BadPacket) -> Self {
        Self::Packet
    }
}

/// Reads the part before the pack as its bytes come in.
#[derive(Debug, Default)]
pub(super) struct Parser {
    request: PushRequest,
    read: usize,
}

impl Parser {
    /// Goes on with all `bytes` that came so far. Whether the part is whole.
    pub(super) fn go_on(&mut self, bytes: &[u8]) -> Result<bool, BadRequest> {
        while let Some((packet, length)) = pkt_line::first(&bytes[self.read..])? {
            self.read += length;
            if self.read > MAX_BYTES {
                return Err(BadRequest::TooLong);
            }
            match packet {
                Packet::Flush => return Ok(true),
                Packet::Line(line) => self.line(line)?,
            }
        }
        if bytes.len() > MAX_BYTES { Err(BadRequest::TooLong) } else { Ok(false) }
    }

    /// The request, with all bytes that came so far.
    pub(super) fn finish(mut self, bytes: Bytes) -> PushRequest {
        self.request.bytes = bytes;
        self.request.pack_at = self.read;
        self.request
    }

    fn line(&mut self, line: &[u8]) -> Result<(), BadRequest> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(id) = line.strip_prefix(b"shallow ") {
            self.request.shallow.push(object_id(id).ok_or(BadRequest::Line)?);
            return Ok(());
        }
        if line.starts_with(b"push-cert") {
            return Err(BadRequest::NotOffered);
        }
        let (command, capabilities) = match line.iter().position(|b| *b == 0) {
            Some(nul) if self.request.updates.is_empty() => (&line[..nul], Some(&line[nul + 1..])),
            _ => (line, None),
        };
        if let Some(capabilities) = capabilities {
            let text = String::from_utf8_lossy(capabilities);
            self.request.capabilities = text.split(' ').map(str::to_owned).collect();
            if self.request.has("push-options") {
                return Err(BadRequest::NotOffered);
            }
        }
        let (old, rest) = command.split_at_checked(40).ok_or(BadRequest::Line)?;
        let (new, name) = rest.strip_prefix(b" ").and_then(|rest| rest.split_at_checked(40)).ok_or(BadRequest::Line)?;
        let name = name.strip_prefix(b" ").ok_or(BadRequest::Line)?;
        object_id(old).ok_or(BadRequest::Line)?;
        let new = object_id(new).ok_or(BadRequest::Line)?;
        self.request.updates.push(RawUpdate { new, name: name.to_owned() });
        Ok(())
    }
}

fn object_id(bytes: &[u8]) -> Option<String> {
    let good = bytes.len() == 40 && bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    good.then(|| String::from_utf8_lossy(bytes).into_owned())
}

impl PushRequest {
    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }

    /// Why this push is refused as a whole, in words for its author.
    pub(super) fn refusal(&self, max_updates: usize) -> Option<String> {
        if self.updates.len() > max_updates {
            return Some(format!("it changes {} refs, and {max_updates} is the most.", self.updates.len()));
        }
        let mut seen = HashSet::new();
        for update in &self.updates {
            let shown = shown(&update.name);
            let Some(name) = parse_ref(&update.name) else {
                return Some(format!("{shown} is not a branch or tag that can be kept here."));
            };
            if !seen.insert(&update.name) {
                return Some(format!("{shown} stands in it twice."));
            }
            if name.deploys() && update.new == NO_OBJECT {
                return Some(format!("{shown} is what is deployed and cannot be deleted."));
            }
        }
        None
    }

    /// The answer that declines every update, with a text on the side band.
    pub(super) fn declined(&self, text: &str) -> Vec<u8> {
        let mut report = Vec::new();
        if self.has("report-status") || self.has("report-status-v2") {
            pkt_line::write(&mut report, b"unpack ok\n");
            for update in &self.updates {
                let line = [b"ng ".as_slice(), &update.name, b" ", DECLINED.as_bytes(), b"\n"].concat();
                pkt_line::write(&mut report, &line);
            }
            pkt_line::flush(&mut report);
        }
        if !self.has("side-band-64k") {
            return report;
        }
        let mut out = Vec::new();
        pkt_line::write_band(&mut out, 2, text.as_bytes());
        pkt_line::write_band(&mut out, 1, &report);
        pkt_line::flush(&mut out);
        out
    }
}

/// A ref that we keep: a branch or a tag whose name git allows, that no program takes for an option, and that
/// leaves the deployed branches their place.
pub(super) fn parse_ref(name: &[u8]) -> Option<RefName> {
    let name: RefName = std::str::from_utf8(name).ok()?.parse().ok()?;
    let short = name.branch().or_else(|| name.as_str().strip_prefix("refs/tags/"))?;
    let parts = || short.split('/');
    let good = parts().all(|part| !part.starts_with('-') && part.len() <= MAX_COMPONENT) && short != "HEAD";
    let below = name.branch().is_some_and(|b| b.starts_with("main/") || b.starts_with("master/"));
    (good && !below).then_some(name)
}

/// Bytes of a user for the user's own terminal: nothing in them moves the cursor.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > 200 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";

    fn request(lines: &[&str]) -> Result<PushRequest, BadRequest> {
        let mut bytes = Vec::new();
        for line in lines {
            pkt_line::write(&mut bytes, line.as_bytes());
        }
        pkt_line::flush(&mut bytes);
        let mut parser = Parser::default();
        for end in 0..bytes.len() {
            if parser.go_on(&bytes[..end])? {
                return Err(BadRequest::Line);
            }
        }
        assert!(parser.go_on(&bytes)?);
        Ok(parser.finish(bytes.into()))
    }

    fn refusal_of(name: &str) -> Option<String> {
        request(&[&format!("{NO_OBJECT} {A} {name}\0report-status")]).expect("parsed").refusal(10)
    }

    #[test]
    fn a_push_is_read_byte_by_byte() {
        let first = format!("{NO_OBJECT} {A} refs/heads/main\0 report-status side-band-64k agent=git/2\n");
        let shallow = format!("shallow {A}");
        let second = format!("{A} {NO_OBJECT} refs/tags/v1\n");
        let request = request(&[&shallow, &first, &second]).expect("parsed");
        assert_eq!(request.shallow, [A]);
        assert_eq!(request.updates.len(), 2);
        assert_eq!(request.updates[1], RawUpdate { new: NO_OBJECT.into(), name: b"refs/tags/v1".to_vec() });
        assert!(request.has("side-band-64k") && request.refusal(2).is_none());
        assert!(request.refusal(1).is_some());
    }

    #[test]
    fn what_is_no_push_is_told_apart() {
        assert_eq!(request(&[""]).err(), Some(BadRequest::Line));
        assert_eq!(request(&["hello"]).err(), Some(BadRequest::Line));
        assert_eq!(request(&["push-cert\0"]).err(), Some(BadRequest::NotOffered));
        let options = format!("{NO_OBJECT} {A} refs/heads/main\0push-options");
        assert_eq!(request(&[&options]).err(), Some(BadRequest::NotOffered));
        let upper = format!("{NO_OBJECT} {} refs/heads/main", "A".repeat(40));
        assert_eq!(request(&[&upper]).err(), Some(BadRequest::Line));
    }

    #[test]
    fn only_branches_and_tags_with_plain_names_are_kept() {
        for good in
            ["refs/heads/main", "refs/heads/feature/x", "refs/tags/v1.0", "refs/heads/größe", "refs/heads/mainly"]
        {
            assert_eq!(refusal_of(good), None, "{good}");
        }
        let long = format!("refs/heads/{}", "a".repeat(5000));
        for bad in [
            "HEAD",
            "refs/heads/HEAD",
            "refs/heads/--exec=id",
            "refs/heads/a/-b",
            "refs/heads/a..b",
            "refs/heads/a~1",
            "refs/heads/a b",
            "refs/heads/a\u{1}",
            "refs/replace/x",
            "refs/notes/commits",
            "refs/heads/main/x",
            "refs/heads/",
            "",
            &long,
        ] {
            assert!(refusal_of(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn the_deployed_branch_cannot_be_deleted_and_no_ref_comes_twice() {
        let delete = format!("{A} {NO_OBJECT} refs/heads/main\0report-status");
        assert!(request(&[&delete]).expect("parsed").refusal(10).expect("refused").contains("cannot be deleted"));
        let other = format!("{A} {NO_OBJECT} refs/heads/other");
        assert!(request(&[&other]).expect("parsed").refusal(10).is_none());
        assert!(request(&[&other, &other]).expect("parsed").refusal(10).expect("refused").contains("twice"));
    }
}
