//! Classes B, C and D: names, config vars, formation.

use paas_tests::api_world::Ask;
use serde_json::{Map, Value, json};

use super::{Case, World};

impl World {
    /// A name for a new app, and for an old one.
    fn names(&self, names: &[Value]) -> Vec<Ask> {
        let both = |name: &Value| {
            let body = json!({ "name": name });
            [self.post("/apps", &body), self.patch("/apps/mine", &body)]
        };
        names.iter().flat_map(both).collect()
    }

    fn created(&self, names: &[&str]) -> Vec<Ask> {
        names.iter().map(|name| self.post("/apps", &json!({ "name": name }))).collect()
    }

    fn config(&self, pairs: &[(&str, Value)]) -> Vec<Ask> {
        let one = |(key, value): &(&str, Value)| {
            let body: Map<String, Value> = [((*key).to_owned(), value.clone())].into_iter().collect();
            self.patch("/apps/mine/config-vars", &Value::Object(body))
        };
        pairs.iter().map(one).collect()
    }

    fn set(&self, keys: &[&str]) -> Vec<Ask> {
        let pairs: Vec<(&str, Value)> = keys.iter().map(|key| (*key, json!("x"))).collect();
        self.config(&pairs)
    }

    /// A change of one process type, alone and in a list.
    fn scale(&self, changes: &[Value]) -> Vec<Ask> {
        let both = |change: &Value| {
            let kind = change["type"].as_str().unwrap_or("web");
            let mut alone = change.clone();
            alone.as_object_mut().map(|change| change.remove("type"));
            let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let mut asks = vec![self.patch("/apps/mine/formation", &json!({"updates": [change]}))];
            if plain {
                asks.push(self.patch(&format!("/apps/mine/formation/{kind}"), &alone));
            }
            asks
        };
        changes.iter().flat_map(both).collect()
    }

    pub(super) async fn app_case(&self, id: &str) -> Option<Case> {
        let names = |names: &[&str]| {
            let names: Vec<Value> = names.iter().map(|name| json!(name)).collect();
            Case::from(self.names(&names))
        };
        Some(match id {
            "B02" => names(&["a", "ab", "", &"a".repeat(31), &"a".repeat(5_000)]),
            "B06" => names(&["1abc", "123"]),
            "B08" => names(&["--help", "-abc", "-"]),
            "B09" => names(&["abc-"]),
            "B10" => self.created(&["a--b"]).into(),
            "B11" => names(&["xn--abc", "xn--"]),
            "B14" => names(&["a_b"]),
            "B15" => names(&["a.b", "abc."]),
            "B16" => names(&["a b", " abc", "abc ", "a\tb", "abc\n"]),
            "B19" => names(&["abc\u{0}", "\u{0}"]),
            "B20" => names(&["abc;id", "abc&id", "abc$x"]),
            "B22" => names(&["`id`", "$(id)"]),
            "B23" => names(&["a|b"]),
            "B25" => names(&["a>b", "a<b"]),
            "B26" => names(&["../../etc"]),
            "B27" => names(&["..", ".", "/"]),
            "B29" => names(&["a\\b"]),
            "B33" => names(&["abc\u{202e}", "abc\u{200b}", "\u{430}bc", "abc\u{e9}", "\u{ff41}bc"]),
            "B38" => self.created(&["nul", "con", "aux"]).into(),
            "B39" => names(&[
                "api",
                "git",
                "www",
                "dashboard",
                "status",
                "admin",
                "registry",
                "router",
                "login",
                "auth",
                "exec",
                "data",
                "mail",
                "wpad",
                "autodiscover",
                "localhost",
                "paas",
            ]),
            "B42" => self.names(&[json!(123), json!(true), json!(["abc"]), json!({"a": 1}), json!(1.5)]).into(),
            "B44" => names(&["theirs"]),
            "B45" => names(&["Theirs", "THEIRS", "theirS"]),
            "B46" => {
                self.api.create_app("gone").await;
                self.api.delete("/apps/gone").await;
                self.created(&["gone"]).into()
            }
            "B49" => {
                let id = self.api.get("/apps/mine").await.json()["id"].as_str().expect("an id").to_uppercase();
                vec![self.api.ask("GET", &format!("/apps/{id}"))].into()
            }
            "B50" => {
                let path = format!("/apps/{}", self.theirs["id"].as_str().expect("an id"));
                vec![
                    self.api.ask("GET", &path),
                    self.api.ask("DELETE", &path),
                    self.patch(&path, &json!({"name": "taken"})),
                ]
                .into()
            }
            "B52" => {
                let id = self.theirs["id"].as_str().expect("an id");
                let paths = [
                    format!("/apps/{id}%2f..%2fx"),
                    format!("/apps/{id}x"),
                    format!("/apps/{id}/../x"),
                    "/apps/%7b%7d".to_owned(),
                ];
                paths.map(|path| self.api.ask("GET", &path)).to_vec().into()
            }
            "B56" => self
                .posts("/apps", &[json!({"region": "mars"}), json!({"region": "us; drop"}), json!({"region": 1})])
                .into(),
            "B58" => self.posts("/apps", &[json!({"space": "theirs"}), json!({"team": "theirs"})]).into(),

            "C01" => self.config(&[("K", json!("x".repeat(65_536))), ("A_KEY", json!("x".repeat(70_000)))]).into(),
            "C03" => self.config(&[("K", json!("x".repeat(32_769)))]).into(),
            "C07" => self.set(&["1A", "0", "9_"]).into(),
            "C10" => self.set(&["é", "Ａ", "Ä"]).into(),
            "C11" => self.set(&["A\u{0}", "\u{0}"]).into(),
            "C12" => self.set(&["A\nB", "A\rB", "A=B", "A B", "A-B", "A.B", "", "A\u{202e}"]).into(),
            "C13" => self.set(&["__X", "__"]).into(),
            "C16" => self.set(&["PORT", "DYNO", "PAAS_COMMAND", "PAAS_CONFIG_0", "PAAS_ANYTHING"]).into(),
            "C17" => Case::from(self.set(&["PATH", "HOME", "SHELL"])).answers("200"),
            "C19" => Case::from(self.set(&["BASH_ENV", "ENV", "PROMPT_COMMAND", "IFS"])).answers("200"),
            "C20" => {
                let keys = ["GIT_SSH_COMMAND", "GIT_DIR", "GIT_CONFIG_COUNT", "GIT_EXTERNAL_DIFF"];
                Case::from(self.set(&keys)).answers("200")
            }
            "C30" => self.config(&[("K", json!("a\nb")), ("K", json!("\n"))]).into(),
            "C31" => self.config(&[("K", json!("a\r\n\tb ")), ("K", json!(" "))]).into(),
            "C32" => self.config(&[("K", json!("a\u{0}b")), ("K", json!("\u{0}"))]).into(),
            "C34" => self.config(&[("K", json!("$(id)")), ("K", json!("${OTHER}")), ("K", json!("`id`"))]).into(),
            "C35" => {
                let patch = self.api.ask("PATCH", "/apps/mine/config-vars");
                vec![patch.clone().body(b"{\"K\":\"\xff\"}"), patch.body(b"{\"K\xfe\":\"x\"}")].into()
            }
            "C37" => self.config(&[("K", json!(""))]).into(),
            "C38" => {
                let many: Map<String, Value> = (0..10_001).map(|i| (format!("K{i}"), json!("x"))).collect();
                vec![self.patch("/apps/mine/config-vars", &Value::Object(many))].into()
            }
            // There are no collaborators: whoever is not the owner does not so much as see the app.
            "C43" => {
                let theirs = self.patch("/apps/mine/config-vars", &json!({"K": "x"})).of(&self.api.other);
                Case::from(vec![theirs]).answers("404 not_found")
            }
            "C48" => {
                let value = "the same secret";
                let theirs = self.patch("/apps/theirs/config-vars", &json!({"SAME": value})).of(&self.api.other);
                assert_eq!(self.api.send(&theirs).await.status, 200);
                Case::from(self.config(&[("SAME", json!(value))])).answers("200")
            }
            "C45" => {
                let (read, write) = (self.api.key(&["read"]).await, self.api.key(&["write"]).await);
                let get = |key| Ask::new("GET", "/apps/mine/config-vars").of(key);
                vec![get(&read), get(&write), self.patch("/apps/mine/config-vars", &json!({"K": "x"})).of(&write)]
                    .into()
            }
            "C49" => {
                let stale = self.patch("/apps/mine/config-vars", &json!({"K": "y"})).header("If-Match", "\"stale\"");
                vec![stale].into()
            }

            "D02" => self.scale(&[1.5, 0.1, 1e-9].map(|n| json!({"type": "web", "quantity": n}))).into(),
            "D04" => {
                let much = [
                    json!(1_000_000_000),
                    json!(1e9),
                    json!(101),
                    json!(-1),
                    json!("99999999999999999999"),
                    json!("+101"),
                ];
                self.scale(&much.map(|n| json!({"type": "web", "quantity": n}))).into()
            }
            "D06" => {
                let nothing = [
                    json!({"type": "web", "quantity": null}),
                    json!({"type": "web"}),
                    json!({"type": "web", "size": null}),
                ];
                self.scale(&nothing).into()
            }
            "D07" => self.scale(&[json!({"type": "wrker", "quantity": 1})]).into(),
            "D10" => {
                self.scale(&["web;rm", "web rm", "we/b", "", "$(id)"].map(|t| json!({"type": t, "quantity": 1}))).into()
            }
            "D12" => self.scale(&["-rf", "--help"].map(|t| json!({"type": t, "quantity": 1}))).into(),
            "D13" => Case::from(self.scale(&[json!({"type": "WEB", "quantity": 1})])).answers("404 not_found"),
            "D14" => self.scale(&[json!({"type": "release", "quantity": 5})]).into(),
            "D15" => self.scale(&[json!({"type": "run", "quantity": 1})]).into(),
            "D18" => {
                let mixed = json!({"updates": [
                    {"type": "web", "quantity": 1, "size": "eco"},
                    {"type": "worker", "quantity": 1, "size": "standard-1x"},
                ]});
                vec![self.patch("/apps/mine/formation", &mixed)].into()
            }
            "D21" => {
                let many = vec![json!({"type": "web", "quantity": 1}); 10_000];
                // Twice is once too often: one of the two would not be what was asked for.
                let twice = vec![json!({"type": "web", "quantity": "+1"}); 2];
                [json!({ "updates": many }), json!({ "updates": twice })]
                    .map(|body| self.patch("/apps/mine/formation", &body))
                    .to_vec()
                    .into()
            }
            "D25" => vec![
                self.patch("/apps/empty/formation", &json!({"updates": [{"type": "web", "quantity": 1}]})),
                self.patch("/apps/empty/formation/web", &json!({"quantity": 1})),
            ]
            .into(),
            "D26" => {
                let theirs = Ask::new("GET", "/apps/theirs/formation/web").of(&self.api.other);
                let line = self.api.send(&theirs).await.json()["id"].as_str().expect("an id").to_owned();
                let path = format!("/apps/mine/formation/{line}");
                vec![self.patch(&path, &json!({"quantity": 1})), self.api.ask("GET", &path)].into()
            }
            "D29" => self.scale(&[json!({"type": "web", "quantity": 1, "command": "x".repeat(1_000_000)})]).into(),
            "D30" => {
                let commands = ["a\u{0}b", "a\nb", "a"];
                self.scale(&commands.map(|command| json!({"type": "web", "quantity": 1, "command": command}))).into()
            }
            "D34" => {
                let body = json!({"command": "sleep 1"});
                let theirs =
                    self.api.send(&Ask::new("POST", "/apps/theirs/dynos").of(&self.api.other).json(&body)).await.json();
                let dyno = theirs["id"].as_str().expect("an id");
                let stop = self.api.ask("POST", &format!("/apps/mine/dynos/{dyno}/actions/stop"));
                let kill = self.api.ask("DELETE", &format!("/apps/mine/dynos/{dyno}"));
                vec![stop, kill, self.api.ask("GET", &format!("/apps/mine/dynos/{dyno}"))].into()
            }
            _ => return None,
        })
    }
}
