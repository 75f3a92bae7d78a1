//! The refs that a push names (N40 to N62).

use crate::world::pack::{self, CAPABILITIES, NONE, TAG, history, line, push};

use super::{Bench, NOW};

impl Bench {
    /// Runs a case, if it is one of these.
    pub(super) async fn refs(&self, case: &str) -> bool {
        match case {
            "N40" => {
                let good = history(&[], NOW, "other");
                let answer = self.pack("other", &good.tip, &good.pack()).await;
                self.keeps_branch(&answer, "other", &good.tip).await;
                assert!(answer.text().contains("Pushed to non-main branch, skipping build."));
            }
            "N42" => {
                self.refuses_refs(&[b"refs/heads/--exec=id", b"refs/heads/-", b"refs/tags/-x", b"refs/heads/a/-b"])
                    .await
            }
            "N43" => {
                let names: Vec<Vec<u8>> = [
                    "a..b", "a~1", "a^", "a:b", "a?b", "a*", "a[b", "a\\b", "a@{1}", ".a", "a.lock", "a//b", "a/", "a.",
                ]
                .iter()
                .map(|name| format!("refs/heads/{name}").into_bytes())
                .collect();
                self.refuses_refs(&names.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
            }
            "N45" => {
                let names: [&[u8]; 6] = [
                    b"refs/heads/a\x01b",
                    b"refs/heads/a b",
                    b"refs/heads/a\x7fb",
                    b"refs/heads/a\nb",
                    b"refs/heads/\xff\xfe",
                    b"refs/heads/\x1b[2J",
                ];
                self.refuses_refs(&names).await;
            }
            "N46" => {
                self.refuses_refs(&[b"HEAD", b"refs/heads/HEAD", b"main", b"heads/main", b"", b"/etc/passwd"]).await
            }
            "N49" => {
                let long = [b"refs/heads/".as_slice(), &b"a".repeat(5000)].concat();
                let part = [b"refs/heads/".as_slice(), &b"a".repeat(250)].concat();
                self.refuses_refs(&[&long, &part]).await;
            }
            "N50" => {
                let good = history(&[], NOW, "folder");
                let answer = self.pack("folder", &good.tip, &good.pack()).await;
                self.keeps_branch(&answer, "folder", &good.tip).await;
                let answer = self.pack("folder/file", &good.tip, &good.pack()).await;
                self.rejected(&answer).await;
            }
            "N53" => {
                let replace = format!("refs/replace/{}", self.tip);
                let names: [&[u8]; 6] = [
                    replace.as_bytes(),
                    b"refs/notes/commits",
                    b"refs/meta/config",
                    b"refs/hidden",
                    b"refs/pull/1/head",
                    b"refs/remotes/origin/main",
                ];
                self.refuses_refs(&names).await;
            }
            "N55" => {
                let good = history(&[], NOW, "x");
                let twice = [(NONE, good.tip.as_str(), b"refs/heads/twice".as_slice()); 2];
                self.rejected(&self.receive(&push(&twice, CAPABILITIES, &good.pack())).await).await;
            }
            "N57" => {
                // Only the client knows whether it was forced; another commit on top of nothing is taken.
                let good = history(&[], NOW, "rewritten");
                let body = push(&[(&self.tip, &good.tip, b"refs/heads/main")], CAPABILITIES, &good.pack());
                self.deploys(&self.receive(&body).await, &good.tip).await;
            }
            "N61" => {
                let good = history(&[], NOW, "tagged");
                let tag = format!("object {}\ntype commit\ntag v9\ntagger S <s@example.com> {NOW}\n\nx\n", good.tip);
                let mut entries = good.entries;
                entries.push(pack::entry(TAG, tag.as_bytes()));
                let id = pack::id(TAG, tag.as_bytes());
                let body = push(&[(NONE, &id, b"refs/tags/v9")], CAPABILITIES, &pack::pack(4, &entries));
                self.keeps(&self.receive(&body).await, "refs/tags/v9", &id).await;
            }
            "N62" => {
                let good = history(&[], NOW, "x");
                let body = push(&[(NONE, &good.tip, b"refs/heads/cut-off")], CAPABILITIES, &good.pack());
                let answer = self.receive(&[line(format!("shallow {}", good.tip)), body].concat()).await;
                self.rejected(&answer).await;
                assert!(answer.text().contains("git fetch --all --unshallow"), "{}", answer.text());
            }
            _ => return false,
        }
        true
    }
}
