//! Classes E, F, H, I and M: one-off dynos, domains, builds, releases, accounts.

use paas_ports::outside;
use paas_store::DomainKind;
use paas_tests::api_world::Ask;
use serde_json::{Value, json};

use super::{Case, World};

/// What is answered to whoever asks for a feature that there is not.
const ABSENT: &str = "404 not_found 405 method_not_allowed";

impl World {
    fn run(&self, bodies: &[Value]) -> Vec<Ask> {
        self.posts("/apps/mine/dynos", bodies)
    }

    fn hosts(&self, names: &[&str]) -> Vec<Ask> {
        let body = |name: &&str| self.post("/apps/mine/domains", &json!({"hostname": name, "sni_endpoint": null}));
        names.iter().map(body).collect()
    }

    fn build_of(&self, urls: &[Value]) -> Vec<Ask> {
        let body = |url: &Value| self.post("/apps/mine/builds", &json!({"source_blob": {"url": url}}));
        urls.iter().map(body).collect()
    }

    /// A buildpack for an app, and for one build.
    fn buildpack(&self, names: &[&str]) -> Vec<Ask> {
        let both = |name: &&str| {
            let put = self.api.ask("PUT", "/apps/mine/buildpack-installations");
            let build = json!({"source_blob": {"url": "x"}, "buildpacks": [{"url": name}]});
            [put.json(&json!({"updates": [{"buildpack": name}]})), self.post("/apps/mine/builds", &build)]
        };
        names.iter().flat_map(both).collect()
    }

    /// A domain of somebody else's app.
    async fn their_domain(&self, name: &str) -> Value {
        let ask = Ask::new("POST", "/apps/theirs/domains").of(&self.api.other).json(&json!({ "hostname": name }));
        self.api.send(&ask).await.json()
    }

    pub(super) async fn rest_case(&self, id: &str) -> Option<Case> {
        let absent = |asks: &[&str]| {
            let ask = |ask: &&str| {
                let (method, path) = ask.split_once(' ').expect("a method and a path");
                let ask = self.api.ask(method, path);
                if ["GET", "DELETE"].contains(&method) { ask } else { ask.json(&json!({})) }
            };
            Case::from(asks.iter().map(ask).collect::<Vec<_>>()).answers(ABSENT)
        };
        let run = |bodies: &[Value]| Case::from(self.run(bodies));
        let hosts = |names: &[&str]| Case::from(self.hosts(names));
        let urls = |urls: &[&str]| Case::from(self.build_of(&urls.iter().map(|url| json!(url)).collect::<Vec<_>>()));
        Some(match id {
            "E01" => run(&[json!({}), json!({"command": null}), json!({"attach": true})]),
            "E02" => run(&[json!({"command": ""}), json!({"command": "  \n"})]),
            "E03" => run(&[json!({"command": ["ls"]}), json!({"command": 1}), json!({"command": {"a": 1}})]),
            "E04" => run(&[json!({"command": "x".repeat(128 * 1024)}), json!({"command": "x".repeat(1_000_000)})]),
            "E05" => run(&[json!({"command": "a\u{0}b"}), json!({"command": "\u{0}"})]),
            "E07" => run(&[json!({"command": "ls", "size": "huge"}), json!({"command": "ls", "size": 1})]),
            "E08" => Case::from(self.run(&[json!({"command": "ls", "type": "web"})])).answers("201"),
            "E09" => Case::from(self.run(&[json!({"command": "ls", "env": {"LD_PRELOAD": "x"}})])).answers("201"),
            "E11" => run(&[
                json!({"command": "ls", "env": {"HEROKU_APP_NAME": "x"}}),
                json!({"command": "ls", "env": {"PORT": "1"}}),
                json!({"command": "ls", "env": {"PAAS_COMMAND": "x"}}),
                json!({"command": "ls", "env": {"A=B": "x"}}),
                json!({"command": "ls", "env": {"A": "x\u{0}"}}),
                json!({"command": "ls", "env": {"A": ["x"]}}),
                json!({"command": "ls", "env": "A=B"}),
                json!({"command": "ls", "env": {"A": "x".repeat(40_000)}}),
            ]),
            "E13" => run(&[
                json!({"command": "ls", "attach": "yes"}),
                json!({"command": "ls", "attach": 1}),
                json!({"command": "ls", "time_to_live": -1}),
                json!({"command": "ls", "time_to_live": 0}),
                json!({"command": "ls", "time_to_live": 86_401}),
                json!({"command": "ls", "time_to_live": "60"}),
                json!({"command": "ls", "type": "-x"}),
            ]),
            // Heroku's API reads no such header: a client that asks twice gets two dynos.
            "E16" => {
                let ask = self.post("/apps/second/dynos", &json!({"command": "ls"})).header("Idempotency-Key", "same");
                Case::from(vec![ask.clone(), ask]).answers("201")
            }
            "E32" | "E33" => {
                let paths = ["/apps/mine/dynos/web.1/exec", "/apps/theirs/dynos/web.1/exec"];
                let browser = |path: &str| {
                    let ask = self.api.ask("GET", path).header("Origin", "https://evil.example");
                    ask.header("Connection", "Upgrade").header("Upgrade", "websocket")
                };
                let asks: Vec<Ask> =
                    paths.iter().flat_map(|path| [browser(path), self.post(path, &json!({}))]).collect();
                Case::from(asks).answers(ABSENT)
            }
            "E15" => vec![self.post("/apps/empty/dynos", &json!({"command": "ls"}))].into(),

            "F01" => {
                let mut asks = self.hosts(&[""]);
                asks.extend(
                    self.posts("/apps/mine/domains", &[json!({}), json!({"hostname": null}), json!({"hostname": 1})]),
                );
                asks.into()
            }
            "F02" => hosts(&["a", "localhost", "com"]),
            "F07" => hosts(&["a..b.com", "a.b..", ".."]),
            "F08" => hosts(&[".example.com", "."]),
            "F09" => Case::from(self.hosts(&["root-dot.example.com."])).answers("201"),
            "F11" => hosts(&["exa_mple.com", "_dmarc.example.com"]),
            "F12" => hosts(&["exam ple.com", " example.com", "example.com ", "a\tb.com"]),
            "F14" => hosts(&["https://example.com", "example.com:443", "user@example.com"]),
            "F15" => hosts(&["example.com/path", "example.com?x", "example.com#x"]),
            "F18" => hosts(&["[::1]", "::1", "127.0.0.1", "10.0.0.1", "1.2.3", "0x7f.1"]),
            "F21" => hosts(&[
                "metadata.internal",
                "x.local",
                "x.internal",
                "x.localhost",
                "mine.localhost",
                "x.arpa",
                "x.onion",
            ]),
            "F23" => hosts(&["*", "*.com", "*.co.uk", "co.uk", "*.github.io"]),
            "F24" => hosts(&["a.*.com", "**.x.com", "*a.x.com", "*.*.x.com", "a*.x.com"]),
            "F25" => {
                self.their_domain("a.wild.example.com").await;
                hosts(&["*.wild.example.com"])
            }
            "F26" => {
                self.their_domain("*.held.example.com").await;
                hosts(&["a.held.example.com", "b.a.held.example.com"])
            }
            "F27" => {
                self.api.post("/apps/second/domains", &json!({"hostname": "twice.example.com"})).await;
                hosts(&["twice.example.com", "TWICE.example.com."])
            }
            "F36" => hosts(&["\u{1F600}.example.com", "b\u{fc}cher.example.com"]),
            "F37" => hosts(&["example.com\u{3002}", "example\u{ff0e}com", "\u{ff45}xample.com", "a\u{200d}b.com"]),
            "F38" => hosts(&["example.com\r\nX: y", "example.com\n", "example.com\u{0}"]),
            "F39" => hosts(&["example.com; return 200", "{}", "`", "example.com}", "$host"]),
            "F40" => hosts(&["Host(`x`) || PathPrefix(`/`)"]),
            "F41" => {
                self.api.create_app("thousand").await;
                let done = outside::task(async {
                    let scope = self.scope("thousand", &self.api.dev.email).await;
                    let mut uow = self.api.cx.begin().await?;
                    for i in 0..1000 {
                        let host = format!("h{i}.thousand.example.com").parse().expect("a host name");
                        uow.create_domain(&scope, &host, DomainKind::Custom, self.api.cx.now()).await?;
                    }
                    uow.save().await
                });
                done.await.expect("a thousand domains");
                vec![self.post("/apps/thousand/domains", &json!({"hostname": "one-more.example.com"}))].into()
            }
            // An account's names are free for others at once: a cool-off would need proof of the name's owner.
            "F45" => {
                let theirs = self.their_domain("freed.example.com").await;
                let path = format!("/apps/theirs/domains/{}", theirs["id"].as_str().expect("an id"));
                assert_eq!(self.api.send(&Ask::new("DELETE", &path).of(&self.api.other)).await.status, 200);
                Case::from(self.hosts(&["freed.example.com"])).answers("201")
            }
            // No record is read of a name.
            "F53" => Case::from(self.hosts(&["many-txt-records.example.com"])).answers("201"),
            "F55" => absent(&["GET /.well-known/acme-challenge/x", "GET /.well-known/acme-challenge/../../apps"]),
            "F48" => {
                let theirs = self.their_domain("not-mine.example.com").await;
                let paths = [theirs["id"].as_str().expect("an id"), "not-mine.example.com", "%00", "x%0d%0a"];
                paths.map(|one| self.api.ask("DELETE", &format!("/apps/mine/domains/{one}"))).to_vec().into()
            }

            "H01" => self
                .posts(
                    "/apps/mine/builds",
                    &[
                        json!({}),
                        json!({"source_blob": {}}),
                        json!({"source_blob": {"url": null}}),
                        json!({"source_blob": {"url": ["x"]}}),
                        json!({"source_blob": "x"}),
                    ],
                )
                .into(),
            "H05" => {
                urls(&["http://[fd00:ec2::254]/", "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/"])
            }
            "H06" => urls(&["http://127.0.0.1:2375/", "http://localhost/", "http://0.0.0.0/", "http://2130706433/"]),
            "H08" => urls(&["http://[::ffff:169.254.169.254]/", "http://[::1]/"]),
            "H09" => {
                let api = &self.api.cx.settings.api_url;
                let own = [
                    "/apps",
                    "/sources/",
                    "/sources/x",
                    "/sources/x/../../apps",
                    "/sources/src-%00",
                    "/sources/x?y",
                    "/sources",
                ];
                let own: Vec<String> = own.iter().map(|path| format!("{api}{path}")).collect();
                urls(&own.iter().map(String::as_str).collect::<Vec<_>>())
            }
            // Nothing is fetched for a build but what was uploaded here.
            "H12" => urls(&["https://user:pass@example.com/x.tgz"]).answers("422 invalid_params"),
            "H15" => urls(&["https://endless.example.com/x.tgz"]).answers("422 invalid_params"),
            // Nor is a buildpack.
            "H36" | "H38" => Case::from(self.buildpack(&["https://example.com/buildpack.git"])).answers("422"),
            "H49" => absent(&["DELETE /apps/mine/build-cache", "DELETE /apps/theirs/build-cache"]),
            "H54" => {
                let path = "/apps/mine/builds/01234567-89ab-cdef-0123-456789abcdef";
                absent(&[&format!("DELETE {path}"), &format!("POST {path}/actions/cancel")])
            }
            "H13" => {
                urls(&["gopher://x/", "ftp://x/y.tgz", "data:,x", "s3://b/k", "file:///etc/passwd", "/etc/passwd", ""])
            }
            "H14" => urls(&[&format!("http://x/{}", "a".repeat(64 * 1024))]),
            "H24" => self.buildpack(&["--upload-pack=id"]).into(),
            "H25" => self.buildpack(&["-oProxyCommand=id"]).into(),
            "H28" => self.buildpack(&["https://h/x#--branch"]).into(),
            "H32" => self.buildpack(&["heroku/../../x", "urn:cnb:builder:heroku/../../x"]).into(),
            "H33" => self.buildpack(&["docker://evil/x:latest"]).into(),
            "H35" => {
                let put = |body: Value| self.api.ask("PUT", "/apps/mine/buildpack-installations").json(&body);
                vec![
                    put(json!({"updates": [{"buildpack": "heroku/ruby", "ordinal": -1}]})),
                    put(json!({"updates": ["heroku/ruby"]})),
                    put(json!({"updates": "heroku/ruby"})),
                    put(json!({})),
                ]
                .into()
            }
            "H50" | "H51" => {
                let body = json!({"source_blob": {"url": self.api.upload_bytes(b"no archive").await}});
                let build = self.api.post("/apps/mine/builds", &body).await.json();
                let id = build["id"].as_str().expect("an id");
                let path = self.api.path_of(build["output_stream_url"].as_str().expect("a URL"));
                let guesses = [
                    format!("/outputs/{id}"),
                    format!("{path}x"),
                    path[..path.len() - 1].to_owned(),
                    "/outputs/%00".to_owned(),
                ];
                guesses.map(|path| Ask::new("GET", &path)).to_vec().into()
            }
            "H55" => self
                .posts(
                    "/apps/mine/slugs",
                    &[json!({"process_types": {"we b": "x"}}), json!({"process_types": {"web": 1}}), json!({})],
                )
                .into(),
            "H56" => {
                let source = self.api.post("/sources", &json!({})).await.json();
                let path = self.api.path_of(source["source_blob"]["put_url"].as_str().expect("a URL"));
                let put = Ask::new("PUT", &path).body(b"first");
                self.api.send(&put).await;
                let late = self.api.post("/sources", &json!({})).await.json();
                let late = self.api.path_of(late["source_blob"]["put_url"].as_str().expect("a URL"));
                self.api.clock.as_ref().expect("it stands still").advance_ms(3_600_000);
                let twice = self.api.post("/sources", &json!({})).await.json();
                let twice = self.api.path_of(twice["source_blob"]["put_url"].as_str().expect("a URL"));
                self.api.send(&Ask::new("PUT", &twice).body(b"first")).await;
                let again = [put, Ask::new("PUT", &late).body(b"x"), Ask::new("PUT", &twice).body(b"x")];
                Case::from(again.to_vec()).answers("403 forbidden 409 conflict")
            }

            "I01" => self
                .posts(
                    "/apps/mine/releases",
                    &[json!({}), json!({"description": "x"}), json!({"release": null}), json!({"slug": 1})],
                )
                .into(),
            "I02" => {
                let unknown = ["01234567-89ab-cdef-0123-456789abcdef", "x", ""];
                self.posts("/apps/mine/releases", &unknown.map(|slug| json!({ "slug": slug }))).into()
            }
            "I09" => {
                let before = self.api.get("/apps/second/releases").await.json().as_array().map_or(0, Vec::len);
                let ask = self.post("/apps/second/releases", &json!({"release": "v3"}));
                let (one, two) = tokio::join!(self.api.send(&ask), self.api.send(&ask));
                assert_eq!((one.status, two.status), (201, 201));
                let after = self.api.get("/apps/second/releases").await.json();
                let versions: Vec<u64> =
                    after.as_array().expect("a list").iter().filter_map(|r| r["version"].as_u64()).collect();
                assert_eq!(versions, (1..=before as u64 + 2).collect::<Vec<_>>(), "dense");
                Case::from(vec![ask]).answers("201")
            }
            "I11" => {
                let of = |description: &str| json!({"slug": "x", "description": description});
                let bodies = [of(&"x".repeat(100 * 1024)), of("a\nb"), of("\u{1b}[31mred"), of("\u{0}")];
                self.posts("/apps/mine/releases", &bodies).into()
            }
            "I12" => ["current", "latest", "v0", "v", "-1", "1.0", "99999999999999999999", "%00"]
                .map(|one| self.api.ask("GET", &format!("/apps/mine/releases/{one}")))
                .to_vec()
                .into(),

            "I14" | "I15" | "I18" => absent(&["POST /pipeline-promotions"]),
            "M07" => absent(&["PATCH /account/app-transfers/x", "POST /account/app-transfers"]),
            "M08" | "M09" | "M10" => {
                let invitations = "/teams/theirs/invitations";
                let token = format!("{invitations}/x");
                absent(&[&format!("POST {token}/accept"), &format!("GET {invitations}"), &format!("GET {token}")])
            }
            "M14" | "M15" => absent(&["DELETE /teams/theirs/members/dev@example.com", "GET /teams/theirs/members"]),
            "M16" | "M17" | "M19" | "M20" => {
                absent(&["POST /oauth/clients", "GET /oauth/authorize", "POST /oauth/authorize", "POST /oauth/tokens"])
            }
            // There is no dashboard: a cookie is worth nothing.
            "A59" => {
                let cookie = Ask::new("POST", "/apps").without("Authorization").header("Cookie", "session=x");
                Case::from(vec![cookie.header("Origin", "https://evil.example").json(&json!({}))]).answers("401")
            }
            "M41" => {
                let preset = Ask::new("GET", "/account").without("Authorization").header("Cookie", "session=preset");
                Case::from(vec![preset]).answers("401 unauthorized")
            }
            "M01" => {
                let users = ["", "a", "a@", "@b", "a b@c", "a@b\n", "a@\u{0}"];
                self.posts("/apps/mine/collaborators", &users.map(|user| json!({ "user": user }))).into()
            }
            "M03" => self.posts("/apps/mine/collaborators", &[json!({"user": self.api.dev.email})]).into(),
            "M23" => {
                let scopes = [
                    json!(["admin"]),
                    json!([""]),
                    json!(["read write global"]),
                    json!("global"),
                    json!([]),
                    json!([1]),
                ];
                let mut asks = self.posts("/oauth/authorizations", &scopes.map(|scope| json!({ "scope": scope })));
                let ends = [json!(0), json!(-1), json!("x"), json!(1e300), json!(u64::MAX)];
                asks.extend(self.posts("/oauth/authorizations", &ends.map(|ends| json!({ "expires_in": ends }))));
                asks.extend(
                    self.posts("/oauth/authorizations", &[json!({"description": "a\u{0}"}), json!({"description": 1})]),
                );
                asks.into()
            }
            "M24" => {
                let read = self.api.key(&["read"]).await;
                vec![
                    self.post("/apps", &json!({})).of(&read),
                    self.post("/apps/mine/dynos", &json!({"command": "ls"})).of(&read),
                    self.post("/oauth/authorizations", &json!({})).of(&read),
                    self.api.ask("DELETE", "/apps/mine").of(&read),
                ]
                .into()
            }
            "M25" => {
                let write = self.api.key(&["write"]).await;
                vec![self.api.ask("GET", "/apps/mine/config-vars").of(&write)].into()
            }
            "M26" => {
                let identity = self.api.key(&["identity"]).await;
                vec![self.api.ask("GET", "/apps").of(&identity), self.api.ask("GET", "/apps/mine").of(&identity)].into()
            }
            "M30" => {
                let theirs = self.api.send(&Ask::new("GET", "/oauth/authorizations").of(&self.api.other)).await.json();
                let id = theirs[0]["id"].as_str().expect("an id");
                vec![self.api.ask("DELETE", &format!("/oauth/authorizations/{id}"))].into()
            }
            "M35" => self.posts("/account/keys", &[json!({"public_key": "command=\"sh\" ssh-rsa AAAA x"})]).into(),
            "M36" => self.posts("/account/keys", &[json!({"public_key": "ssh-rsa AAAA x\nssh-rsa BBBB y"})]).into(),
            _ => return None,
        })
    }
}
