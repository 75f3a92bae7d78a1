//! What is asked for, and how: paths, credentials, encodings, pkt-lines, capabilities (N06 to N35).

use crate::world::pack::{CAPABILITIES, NONE, history, line, push};

use super::{Bench, NOW, basic, gzip};

impl Bench {
    /// Runs a case, if it is one of these.
    pub(super) async fn requests(&self, case: &str) -> bool {
        match case {
            "N06" => {
                for name in ["-o.git", "--upload-pack=id.git", "..%2f..%2fetc", "%00", "a%2fb.git", ".git", "%2e%2e"] {
                    let path = format!("/{name}/info/refs?service=git-receive-pack");
                    let answer = self.get(&path, &self.authorized()).await;
                    assert_eq!(answer.status, 404, "{name}");
                }
            }
            "N08" => {
                let (other, _) = self.world.account("other@example.com", &["global"]).await;
                self.world.app_of(&other, "foreign").await;
                self.look().await;
                for service in ["git-receive-pack", "git-upload-pack"] {
                    let path = format!("/foreign.git/info/refs?service={service}");
                    assert_eq!(self.get(&path, &self.authorized()).await.status, 404);
                }
                let good = history(&[], NOW, "x");
                let body = push(&[(NONE, &good.tip, b"refs/heads/main")], CAPABILITIES, &good.pack());
                assert_eq!(self.post("foreign", "receive-pack", "", &body).await.expect("an answer").status, 404);
            }
            "N09" => {
                for (path, headers) in [
                    ("/target.git/info/refs?service=git-receive-pack", ""),
                    ("/nowhere.git/info/refs?service=git-upload-pack", ""),
                    ("/target/info/refs?service=git-upload-pack", "Authorization: Basic !!!\r\n"),
                    ("/target/info/refs", "Authorization: Basic Og==\r\n"),
                    ("/target/info/refs", "Authorization: Digest x\r\n"),
                ] {
                    let answer = self.get(path, headers).await;
                    assert_eq!(answer.status, 401);
                    assert!(answer.head.contains("www-authenticate: basic realm="), "{}", answer.head);
                }
            }
            "N10" => {
                let reader = self.world.key(&self.world.account, &["read"]).await;
                self.look().await;
                let headers = format!("Authorization: {}\r\n", basic(&reader));
                let path = |service| format!("/target.git/info/refs?service=git-{service}");
                assert_eq!(self.get(&path("receive-pack"), &headers).await.status, 403);
                assert_eq!(self.get(&path("upload-pack"), &headers).await.status, 200);
            }
            "N11" | "N12" => {
                let long = format!("version=2{}", "x".repeat(10 * 1024));
                for asked in ["version=99", "version=2\tHOME=/", "version=2=", &long] {
                    let headers = format!("{}Git-Protocol: {asked}\r\n", self.authorized());
                    let answer = self.get("/target.git/info/refs?service=git-upload-pack", &headers).await;
                    assert_eq!(answer.status, 200);
                    assert!(answer.text().starts_with("001e# service=git-upload-pack\n0000"), "{}", answer.text());
                    assert!(answer.text().contains("refs/heads/main"), "not version 0: {}", answer.text());
                }
            }
            "N14" => {
                let good = history(&[], NOW, "gzip");
                let body = push(&[(NONE, &good.tip, b"refs/heads/zipped")], CAPABILITIES, &good.pack());
                let body = gzip(&body);
                let answer = self.post("target", "receive-pack", "Content-Encoding: gzip\r\n", &body).await;
                self.keeps_branch(&answer.expect("an answer"), "zipped", &good.tip).await;
                let cut = self.post("target", "receive-pack", "Content-Encoding: gzip\r\n", &body[..20]).await;
                self.rejected(&cut.expect("an answer")).await;
                let plain = self.post("target", "receive-pack", "Content-Encoding: gzip\r\n", b"0000").await;
                self.rejected(&plain.expect("an answer")).await;
            }
            "N16" => {
                for encoding in ["br", "zstd", "deflate", "gzip, gzip"] {
                    let headers = format!("Content-Encoding: {encoding}\r\n");
                    for service in ["receive-pack", "upload-pack"] {
                        let answer = self.post("target", service, &headers, b"0000").await.expect("an answer");
                        assert_eq!(answer.status, 415, "{encoding}");
                    }
                }
            }
            "N17" | "N18" | "N20" | "N21" => {
                for bad in ["0001", "0002", "0003", "fff1", "ffff", "zzzz", "-001", " 0a4", "+0a4", "0x04"] {
                    for service in ["receive-pack", "upload-pack"] {
                        let body = format!("{bad}{}0000", "x".repeat(200));
                        let answer = self.post("target", service, "", body.as_bytes()).await.expect("an answer");
                        assert_eq!(answer.status, 400, "{bad} {service}: {}", answer.text());
                    }
                }
            }
            "N22" => {
                let good = history(&[], NOW, "upper case");
                let body = push(&[(NONE, &good.tip, b"refs/heads/upper")], CAPABILITIES, &good.pack());
                let upper = [body[..4].to_ascii_uppercase(), body[4..].to_vec()].concat();
                self.keeps_branch(&self.receive(&upper).await, "upper", &good.tip).await;
            }
            "N24" => {
                let good = history(&[], NOW, "x");
                let body = push(&[(NONE, &good.tip, b"refs/heads/cut")], CAPABILITIES, b"");
                for end in [0, 3, 50, body.len() - 4, body.len() - 1] {
                    assert_eq!(self.receive(&body[..end]).await.status, 400, "{end}");
                }
                // The flush is there, the pack is not, or only half of it.
                let whole = [body.as_slice(), &good.pack()].concat();
                for end in [body.len(), body.len() + 3, body.len() + 20, whole.len() - 1] {
                    self.rejected(&self.receive(&whole[..end]).await).await;
                }
            }
            "N25" => {
                let empty = b"0004".repeat(10_000_000);
                for service in ["receive-pack", "upload-pack"] {
                    // The answer may be lost with the connection that is cut.
                    if let Some(answer) = self.post("target", service, "", &empty).await {
                        assert_eq!(answer.status, 400);
                    }
                }
                let command = line(format!("{NONE} {NONE} refs/heads/x"));
                if let Some(answer) = self.post("target", "receive-pack", "", &command.repeat(50_000)).await {
                    assert_eq!(answer.status, 400);
                }
            }
            "N30" | "N31" => {
                for (n, capability) in
                    ["report-status teleport=2", "report-status agent=\x1b[31m\nX-Evil: 1"].iter().enumerate()
                {
                    let good = history(&[], NOW, capability);
                    let name = format!("refs/heads/{case}-{n}");
                    let body = push(&[(NONE, &good.tip, name.as_bytes())], capability, &good.pack());
                    let answer = self.receive(&body).await;
                    self.keeps(&answer, &name, &good.tip).await;
                    assert!(!answer.head.contains("evil"));
                }
            }
            "N33" => {
                let body =
                    [line("push-cert\0report-status\n"), line("garbage\n"), line("push-cert-end\n"), b"0000".into()];
                self.rejected(&self.receive(&body.concat()).await).await;
            }
            "N34" | "N35" => {
                let good = history(&[], NOW, "x");
                let capabilities = format!("{CAPABILITIES} push-options");
                let options = [line("a;b=c"), b"0000".to_vec()].concat();
                let rest = [options, good.pack()].concat();
                let body = push(&[(NONE, &good.tip, b"refs/heads/options")], &capabilities, &rest);
                self.rejected(&self.receive(&body).await).await;
            }
            _ => return false,
        }
        true
    }
}
