//! Packs and the objects in them (N65 to N95).

use crate::world::pack::{self, BLOB, CAPABILITIES, COMMIT, NONE, OFS_DELTA, REF_DELTA, TREE, history, line, push};

use super::{Bench, NOW};

impl Bench {
    /// Runs a case, if it is one of these.
    pub(super) async fn packs(&self, case: &str) -> bool {
        match case {
            "N65" => {
                let good = history(&[], NOW, "x");
                for count in [u32::MAX, 1_000_000_000, 4] {
                    self.rejected(&self.pack("count", &good.tip, &pack::pack(count, &good.entries)).await).await;
                }
            }
            "N66" => {
                for size in [1 << 63, u64::MAX, 1 << 40] {
                    let huge = [pack::head(BLOB, size), pack::deflate(b"x")].concat();
                    self.rejected(&self.pack("huge", &self.tip.replace('0', "1"), &pack::pack(1, &[huge])).await).await;
                }
            }
            "N67" => {
                // A gigabyte in a megabyte: refused by what it says of itself, also where nothing would be built of it.
                let id = "4fce05a4e4ed8cefef2d99f32c519b2fd7841b74";
                let (tip, bomb) = pack::one_file(b"bomb", pack::zeros(1024), id, NOW);
                assert!(bomb.len() < 2 << 20);
                for (old, name) in [(self.tip.as_str(), "refs/heads/main"), (NONE, "refs/heads/bomb")] {
                    let body = push(&[(old, &tip, name.as_bytes())], CAPABILITIES, &bomb);
                    let answer = self.receive(&body).await;
                    self.rejected(&answer).await;
                    assert!(answer.text().contains("it unpacks to more than 32 MB"), "{}", answer.text());
                }
                // One that a pack may unpack to, and a file may not be (8 MB here).
                let zeros = vec![0; 9 << 20];
                let large = history(&[("100644", b"large", &zeros)], NOW, "x");
                let body = push(&[(&self.tip, &large.tip, b"refs/heads/main")], CAPABILITIES, &large.pack());
                let answer = self.receive(&body).await;
                self.rejected(&answer).await;
                assert!(answer.text().contains("large is larger than 8 MB"), "{}", answer.text());
            }
            "N68" => {
                let base = pack::entry(BLOB, b"hello hello hello");
                let delta = pack::deflate(&[17, 17, 0x90, 17]);
                for offset in [0, 1, 1_000_000, u64::from(u32::MAX) * 8, base.len() as u64 - 1] {
                    let entry = [pack::head(OFS_DELTA, 4), pack::back(offset), delta.clone()].concat();
                    let pack = pack::pack(2, &[base.clone(), entry]);
                    self.rejected(&self.pack("offset", &"1".repeat(40), &pack).await).await;
                }
            }
            "N69" => {
                let delta = pack::deflate(&[17, 17, 0x90, 17]);
                let entry = [pack::head(REF_DELTA, 4), vec![0xab; 20], delta].concat();
                self.rejected(&self.pack("thin", &"1".repeat(40), &pack::pack(1, &[entry])).await).await;
            }
            "N70" => {
                let good = history(&[], NOW, "deep");
                let mut entries = good.entries;
                let base = vec![b'a'; 64];
                entries.push(pack::entry(BLOB, &base));
                // Each takes the one before without its first byte, and one more at the end.
                for n in 0..50_000_u32 {
                    let before = entries.last().expect("one").len() as u64;
                    let delta = [64, 64, 0x91, 1, 63, 1, b'a' + (n % 26) as u8];
                    let entry = [pack::head(OFS_DELTA, delta.len() as u64), pack::back(before), pack::deflate(&delta)];
                    entries.push(entry.concat());
                }
                let count = u32::try_from(entries.len()).expect("few");
                let answer = self.pack("deep", &good.tip, &pack::pack(count, &entries)).await;
                self.answered(&answer, "deep", &good.tip).await;
            }
            "N71" => {
                let base = pack::entry(BLOB, b"hello hello hello");
                for delta in [[17, 16, 0x90, 17], [16, 17, 0x90, 17], [17, 17, 0x90, 18], [17, 0x7f, 0x90, 17]] {
                    let entry =
                        [pack::head(OFS_DELTA, 4), pack::back(base.len() as u64), pack::deflate(&delta)].concat();
                    self.rejected(&self.pack("lie", &"1".repeat(40), &pack::pack(2, &[base.clone(), entry])).await)
                        .await;
                }
            }
            "N73" => {
                for name in [".git", ".GIT", "git~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION", ".git ", "..", "."] {
                    let bad = history(&[("100644", name.as_bytes(), b"x")], NOW, "x");
                    self.rejected(&self.pack("evil", &bad.tip, &bad.pack()).await).await;
                }
            }
            "N76" => {
                for (n, mode) in ["100777", "0", "170000", "100600", "040755"].iter().enumerate() {
                    let odd = history(&[(mode, b"odd", b"x")], NOW, "x");
                    let name = format!("mode-{n}");
                    let answer = self.pack(&name, &odd.tip, &odd.pack()).await;
                    self.answered(&answer, &name, &odd.tip).await;
                }
            }
            "N79" => {
                let links: [(&str, &[u8], &[u8]); 2] =
                    [("120000", b"absolute", b"/etc/passwd"), ("120000", b"up", b"../../../../etc/passwd")];
                let good = history(&links, NOW, "links");
                let answer = self.pack("links", &good.tip, &good.pack()).await;
                self.keeps_branch(&answer, "links", &good.tip).await;
                let archive = self.archive(&good.tip).await;
                let links: Vec<String> = archive.iter().filter_map(|file| file.link.clone()).collect();
                assert_eq!(links, ["/etc/passwd", "../../../../etc/passwd"]);
            }
            "N80" => {
                for url in ["--upload-pack=id", "ext::sh -c id", "../../x\r"] {
                    let text = format!("[submodule \"x\"]\n\tpath = x\n\turl = {url}\n");
                    let bad = history(&[], NOW, "x");
                    let tree = pack::tree(&[
                        ("100644", b".gitmodules", &pack::id(BLOB, text.as_bytes())),
                        ("100644", b"Procfile", &pack::id(BLOB, b"worker: run\n")),
                        ("160000", b"x", &self.tip),
                    ]);
                    let commit = pack::commit(&pack::id(TREE, &tree), NOW, "x");
                    let mut entries = bad.entries;
                    entries.truncate(1);
                    entries.push(pack::entry(BLOB, text.as_bytes()));
                    entries.push(pack::entry(TREE, &tree));
                    entries.push(pack::entry(COMMIT, &commit));
                    let tip = pack::id(COMMIT, &commit);
                    let body = push(&[(&self.tip, &tip, b"refs/heads/main")], CAPABILITIES, &pack::pack(4, &entries));
                    self.rejected(&self.receive(&body).await).await;
                }
            }
            "N82" => {
                let text = b"$Format:%H$ $Id$\r\n".as_slice();
                let attributes = b"* export-subst ident text filter=x diff=x\nhidden export-ignore\n".as_slice();
                let files: [(&str, &[u8], &[u8]); 3] =
                    [("100644", b".gitattributes", attributes), ("100644", b"file", text), ("100644", b"hidden", b"x")];
                let good = history(&files, NOW, "attributes");
                let answer = self.pack("attributes", &good.tip, &good.pack()).await;
                self.keeps_branch(&answer, "attributes", &good.tip).await;
                let archive = self.archive(&good.tip).await;
                assert_eq!(archive.iter().find(|file| file.name == "file").expect("there").content, text);
                assert!(archive.iter().any(|file| file.name == "hidden"));
            }
            "N83" => {
                let id = "36406a1eee032e80a284d3ed9f5176bba67be064";
                let (tip, long) = pack::one_file(b".gitattributes", pack::zeros(100), id, NOW);
                self.rejected(&self.pack("longest", &tip, &long).await).await;
                let long = [b"* ".as_slice(), &b"x".repeat(4 << 20), b"\n"].concat();
                let bad = history(&[("100644", b".gitattributes", &long)], NOW, "x");
                self.rejected(&self.pack("long", &bad.tip, &bad.pack()).await).await;
            }
            "N84" => {
                for (n, when) in
                    ["9223372036854775807 +0000", "99999999999999999999 +0000", "1700000000 -9999", "0 -0000"]
                        .iter()
                        .enumerate()
                {
                    let odd = history(&[], when, "x");
                    let name = format!("time-{n}");
                    let answer = self.pack(&name, &odd.tip, &odd.pack()).await;
                    self.answered(&answer, &name, &odd.tip).await;
                    if answer.text().contains("ok refs/") {
                        self.archive(&odd.tip).await;
                    }
                }
            }
            "N85" => {
                let message = format!("\x1b[2J\x1b]0;evil\x07{}", "x".repeat(1 << 20));
                let good = history(&[], NOW, &message);
                let body = push(&[(&self.tip, &good.tip, b"refs/heads/main")], CAPABILITIES, &good.pack());
                let answer = self.receive(&body).await;
                self.deploys(&answer, &good.tip).await;
                assert!(!answer.text().contains("evil"));
                let releases = self.world.releases(&self.app).await;
                assert!(releases.iter().all(|release| release.description.len() < 100));
            }
            "N95" => {
                let branches = self.world.branches(&self.app).await;
                let tip = &branches.iter().find(|(name, _)| name == "main").expect("main").1;
                let mut body = line(format!("want {tip} ofs-delta side-band-64k no-progress multi_ack_detailed\n"));
                body.extend_from_slice(b"0000");
                for n in 0..100_000_u64 {
                    body.extend(line(format!("have {:040x}\n", u128::from(n) * 0x9e37_79b9_7f4a_7c15 + 1)));
                }
                body.extend(line("done\n"));
                let answer = self.post("target", "upload-pack", "", &body).await.expect("an answer");
                assert_eq!(answer.status, 200);
                assert!(answer.body.windows(4).any(|w| w == b"PACK"));
            }
            _ => return false,
        }
        true
    }
}
