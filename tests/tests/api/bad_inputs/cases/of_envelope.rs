//! Classes A and J: what every route has in common.

use paas_server::token::token_hash;
use paas_tests::api_world::Ask;
use serde_json::{Map, Value, json};

use super::{Case, World};

impl World {
    pub(super) async fn envelope_case(&self, id: &str) -> Option<Case> {
        let get = || self.api.ask("GET", "/apps");
        let authorized = |value: &str| Ask::new("GET", "/apps").header("Authorization", value);
        let body = |bytes: &[u8]| {
            let post = self.api.ask("POST", "/apps").header("Content-Type", "application/json").body(bytes);
            let patch = self.api.ask("PATCH", "/apps/mine").header("Content-Type", "application/json").body(bytes);
            vec![post, patch]
        };
        let accept = |value: &str| get().without("Accept").header("Accept", value);
        let range = |value: &str| vec![get().header("Range", value)];
        let token = &self.api.dev.token;
        let line = |head: &str, rest: &[u8]| {
            let head = format!("{head}\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n");
            [head.as_bytes(), rest].concat()
        };
        Some(match id {
            "A01" => vec![Ask::new("GET", "/apps")].into(),
            "A03" => vec![authorized("Bearer"), authorized("Bearer "), authorized("")].into(),
            "A06" => vec![authorized(&format!("bearer {token}")), authorized(&format!("BEARER {token}"))].into(),
            "A07" => vec![authorized(&format!("Basic {}", base64(format!(":{token}").as_bytes())))].into(),
            "A10" => vec![authorized(&format!("Basic {}", base64(&[0xff, 0xfe]))), authorized("Basic ????")].into(),
            "A12" => vec![
                get().header("Authorization", "Bearer other"),
                authorized("Bearer other").header("Authorization", &format!("Bearer {token}")),
            ]
            .into(),
            "A13" => {
                let made = self.api.post("/oauth/authorizations", &json!({"expires_in": 1})).await.json();
                self.api.clock.as_ref().expect("it stands still").advance_ms(1_000);
                let expired = made["access_token"]["token"].as_str().expect("a token");
                vec![authorized(&format!("Bearer {expired}"))].into()
            }
            "A17" => vec![authorized(&format!("Bearer {}", token_hash(token)))].into(),
            "A19" => Case::from(vec![get().without("Accept")]).answers("200"),
            "A20" => vec![
                accept("application/vnd.heroku+json; version=2"),
                accept("application/vnd.heroku+json;version=1"),
                accept("application/vnd.heroku+json; version=33"),
                accept("text/html"),
            ]
            .into(),
            "A24" => Case::from(vec![accept(&"a/b,".repeat(10_000)), accept(&"application/x;q=0.1,".repeat(400))]),
            "A27" => [body(b"[]"), body(b"[{}]"), body(b"1"), body(b"true"), body(b"\"name\"")].concat().into(),
            "A29" => vec![self.api.ask("POST", "/apps").body(b"null")].into(),
            "A30" => vec![self.api.ask("POST", "/apps"), self.api.ask("POST", "/apps").body(b"{}")].into(),
            "A31" => [body(br#"{"name":"aaa","name":"bbb"}"#), body(br#"{"x":{"a":1,"a":1}}"#)].concat().into(),
            "A32" => {
                let deep = |open: &str, close: &str| [open.repeat(10_000), close.repeat(10_000)].concat();
                [body(deep("[", "]").as_bytes()), body(deep("{\"a\":", "}").as_bytes())].concat().into()
            }
            "A34" => [body(br#"{"name":"\ud800"}"#), body(br#"{"\udfff":1}"#)].concat().into(),
            "A35" => body(b"\xef\xbb\xbf{}").into(),
            "A37" => [body(b"{\"name\":\"a\xff\"}"), body(b"{\"name\":\"\xc0\xaf\"}")].concat().into(),
            "A38" => [body(b"{} {}"), body(b"{}x"), body(b"{},")].concat().into(),
            "A39" => {
                [body(b"{// x\n}"), body(b"{\"a\":NaN}"), body(b"{\"a\":Infinity}"), body(b"{'a':1}"), body(b"{a:1}")]
                    .concat()
                    .into()
            }
            "A40" => {
                let over = |method: &str, path: &str| {
                    self.api.ask(method, path).header("Content-Length", &(1024 * 1024 + 1).to_string())
                };
                vec![over("POST", "/apps"), over("DELETE", "/apps/mine"), over("PATCH", "/apps/mine/config-vars")]
                    .into()
            }
            "A41" => {
                let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x1_0000], b"\r\n".to_vec()].concat();
                let bytes = line(
                    "POST /apps HTTP/1.1",
                    &[&b"Transfer-Encoding: chunked\r\n\r\n"[..], &chunk.repeat(32)].concat(),
                );
                vec![bytes].into()
            }
            "A44" => {
                let lengths = ["-1", "+5", "5,5", "0x10", "1e3", "5 5", "99999999999999999999"];
                let head = |length: &str| {
                    line("POST /apps HTTP/1.1", format!("Content-Length: {length}\r\n\r\nhello").as_bytes())
                };
                lengths.map(head).to_vec().into()
            }
            "A48" => {
                ["/apps/", "//apps", "/./apps", "/apps/%2e%2e/account", "/apps/../account", "/apps%2fmine", "/APPS"]
                    .map(|path| self.api.ask("GET", path))
                    .to_vec()
                    .into()
            }
            "A50" => {
                let long = format!("GET /apps/{} HTTP/1.1", "a".repeat(64 * 1024));
                vec![line(&long, b"\r\n")].into()
            }
            "A52" => {
                let heads = ["TRACE /apps HTTP/1.1", "TRACE /apps/mine HTTP/1.1", "CONNECT x:443 HTTP/1.1"];
                heads.map(|head| line(head, b"\r\n")).to_vec().into()
            }
            "A53" => Case::from(vec![self.api.ask("HEAD", "/apps"), self.api.ask("HEAD", "/apps/mine")]).answers("200"),
            "A57" => Case::from(vec![get().header("Request-Id", &"x".repeat(10 * 1024))]).answers("200"),
            "A60" => {
                let asked = self.api.ask("OPTIONS", "/apps").header("Origin", "https://evil.example");
                Case::from(vec![asked.header("Access-Control-Request-Method", "DELETE")]).answers("405")
            }
            "A63" => {
                let many: Map<String, Value> = (0..10_000).map(|i| (format!("key-{i}"), json!(i))).collect();
                let many = Value::Object(many);
                let asks = vec![self.patch("/apps/mine", &many), self.patch("/apps/mine/config-vars", &many)];
                Case::from(asks).answers("422 invalid_params 200")
            }
            "J02" => {
                Case::from([range("id ..; max=1001"), range("id ..; max=99999999999999999999")].concat()).answers("200")
            }
            "J06" => range("name ]zzz..;").into(),
            "J11" => {
                let heads: [&[u8]; 2] = [b"Range: id ..\0\r\n\r\n", b"Range: id ..\rX: y\r\n\r\n"];
                heads.map(|rest| line("GET /apps HTTP/1.1", rest)).to_vec().into()
            }
            "J14" => {
                let of_other = get().of(&self.api.other).header("Range", "name ]mine..; max=1");
                Case::from(vec![of_other]).answers("200")
            }
            "J15" => {
                Case::from([range("name ]\u{e9}\u{1F600}..; max=1"), range("name ..\u{202e}")].concat()).answers("200")
            }
            "J16" => {
                ["id ]' OR 1=1--..", "name ]' OR 1=1--..", "name ]x'..", "id ..; max=1;DROP TABLE apps", "seq ..", "id"]
                    .iter()
                    .take(5)
                    .flat_map(|value| range(value))
                    .collect::<Vec<_>>()
                    .into()
            }
            "J17" | "J18" => {
                let tag = self.api.get("/apps").await.header("etag").expect("a tag").to_owned();
                let tag = if id == "J18" { format!("W/{tag}") } else { tag };
                vec![get().header("If-None-Match", &tag)].into()
            }
            "J20" => Case::from(vec![get().header("If-None-Match", &"\"x\",".repeat(10_000))]).answers("200"),
            "J21" => {
                let theirs = self.api.send(&Ask::new("GET", "/pipelines").of(&self.api.other)).await;
                let tag = theirs.header("etag").expect("a tag");
                vec![self.api.ask("GET", "/pipelines").header("If-None-Match", tag)].into()
            }
            _ => return None,
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
