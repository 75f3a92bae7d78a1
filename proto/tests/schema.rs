//! Every resource type against the official schema's facts: the same fields, the same types, null only where allowed.

use paas_proto::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const AT: &str = "2026-11-23T15:04:05Z";

fn named(name: &str) -> Named {
    Named { id: ID.into(), name: name.into() }
}

fn user() -> User {
    User { id: ID.into(), email: "admin@example.com".into() }
}

/// The sample passes, comes back as it was, and passes too with everything optional left out.
fn checked<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(resource: &str, sample: &T) {
    let value = serde_json::to_value(sample).expect("serializes");
    assert_eq!(facts::differences(resource, &value), Vec::<String>::new());
    assert_eq!(&serde_json::from_value::<T>(value.clone()).expect("parses"), sample);
    // Whatever the type lets be null, the schema must let be null.
    for (field, _) in value.as_object().expect("an object") {
        let mut with_null = value.clone();
        with_null[field] = Value::Null;
        if serde_json::from_value::<T>(with_null.clone()).is_ok() {
            assert_eq!(facts::differences(resource, &with_null), Vec::<String>::new(), "{resource}.{field} as null");
        }
    }
}

#[test]
fn accounts() {
    checked(
        "account",
        &Account {
            allow_tracking: false,
            beta: false,
            country_of_residence: Some("Norway".into()),
            created_at: AT.into(),
            default_organization: Some(named("t")),
            default_team: Some(named("t")),
            delinquent_at: Some(AT.into()),
            email: "admin@example.com".into(),
            federated: false,
            id: ID.into(),
            identity_provider: Some(IdentityProvider {
                id: ID.into(),
                name: "idp".into(),
                organization: NameOnly { name: "t".into() },
                owner: IdentityProviderOwner { id: ID.into(), name: "t".into(), r#type: "team".into() },
                team: NameOnly { name: "t".into() },
            }),
            last_login: Some(AT.into()),
            name: Some("Ada".into()),
            sms_number: Some("+1".into()),
            suspended_at: Some(AT.into()),
            two_factor_authentication: false,
            updated_at: AT.into(),
            verified: true,
        },
    );
}

#[test]
fn apps() {
    checked(
        "app",
        &App {
            acm: false,
            archived_at: Some(AT.into()),
            build_stack: named("heroku-24"),
            buildpack_provided_description: Some("Python".into()),
            create_status: "complete".into(),
            created_at: AT.into(),
            generation: named("cedar"),
            git_url: "https://localhost:5000/hello.git".into(),
            id: ID.into(),
            internal_routing: Some(false),
            maintenance: false,
            name: "hello".into(),
            organization: Some(named("t")),
            owner: user(),
            region: named("us"),
            released_at: Some(AT.into()),
            repo_size: Some(0),
            slug_size: Some(0),
            space: Some(Space { id: ID.into(), name: "s".into(), shield: false }),
            stack: named("heroku-24"),
            team: Some(named("t")),
            updated_at: AT.into(),
            web_url: Some("http://hello.localhost:5080/".into()),
        },
    );
}

#[test]
fn builds() {
    checked(
        "build",
        &Build {
            app: Only { id: ID.into() },
            buildpacks: Some(vec![BuildpackRef { name: Some("heroku/python".into()), url: Some("u".into()) }]),
            created_at: AT.into(),
            generation: "cedar".into(),
            id: ID.into(),
            output_stream_url: "http://localhost/x".into(),
            release: Some(Only { id: ID.into() }),
            slug: Some(Only { id: ID.into() }),
            source_blob: SourceBlob {
                checksum: Some("SHA256:00".into()),
                url: "u".into(),
                version: Some("v".into()),
                version_description: Some("d".into()),
            },
            stack: "heroku-24".into(),
            status: BuildStatus::Succeeded,
            updated_at: AT.into(),
            user: user(),
        },
    );
}

#[test]
fn dynos_and_formations() {
    checked(
        "dyno",
        &Dyno {
            app: named("hello"),
            attach_url: Some("rendezvous://localhost:5001/t".into()),
            command: "python app.py".into(),
            created_at: AT.into(),
            id: ID.into(),
            name: "web.1".into(),
            release: ReleaseOfDyno { id: ID.into(), version: 3 },
            size: "Basic".into(),
            state: "up".into(),
            r#type: "web".into(),
            updated_at: AT.into(),
        },
    );
    checked(
        "formation",
        &Formation {
            app: named("hello"),
            command: "python app.py".into(),
            created_at: AT.into(),
            dyno_size: named("Basic"),
            id: ID.into(),
            quantity: 1,
            size: "Basic".into(),
            r#type: "web".into(),
            updated_at: AT.into(),
        },
    );
}

#[test]
fn releases_and_slugs() {
    checked(
        "release",
        &Release {
            addon_plan_names: vec!["heroku-postgresql:dev".into()],
            app: named("hello"),
            artifacts: vec![Artifact { id: ID.into(), r#type: "slug".into() }],
            created_at: AT.into(),
            current: true,
            description: "Deploy abc".into(),
            eligible_for_rollback: true,
            id: ID.into(),
            oci_image: None,
            output_stream_url: Some("u".into()),
            slug: Some(Only { id: ID.into() }),
            status: ReleaseStatus::Expired,
            updated_at: AT.into(),
            user: user(),
            version: 3,
        },
    );
    checked(
        "slug",
        &Slug {
            blob: SlugBlob { method: "get".into(), url: "u".into() },
            buildpack_provided_description: Some("Python".into()),
            checksum: Some("SHA256:00".into()),
            commit: Some("abc".into()),
            commit_description: Some("d".into()),
            created_at: AT.into(),
            deleted_at: Some(AT.into()),
            id: ID.into(),
            process_types: [("web".to_owned(), "x".to_owned())].into(),
            size: Some(2048),
            stack: named("heroku-24"),
            updated_at: AT.into(),
        },
    );
}

#[test]
fn domains() {
    checked(
        "domain",
        &Domain {
            acm_status: Some("pending".into()),
            acm_status_reason: Some("r".into()),
            app: named("hello"),
            cname: Some("c".into()),
            created_at: AT.into(),
            hostname: "www.example.com".into(),
            id: ID.into(),
            kind: DomainKind::Custom,
            sni_endpoint: Some(named("sni")),
            status: "succeeded".into(),
            updated_at: AT.into(),
        },
    );
}

#[test]
fn log_sessions_and_sources() {
    checked(
        "log-session",
        &LogSession { created_at: AT.into(), id: ID.into(), logplex_url: "u".into(), updated_at: AT.into() },
    );
    checked("source", &Source { source_blob: SourceUrls { get_url: "g".into(), put_url: "p".into() } });
}

#[test]
fn oauth_authorizations() {
    let token = AccessToken { expires_in: Some(7200), id: ID.into(), token: "HRKU-secret".into() };
    assert!(!format!("{token:?}").contains("secret"));
    checked(
        "oauth-authorization",
        &OauthAuthorization {
            access_token: Some(token.clone()),
            client: Some(OauthClient { id: ID.into(), name: "c".into(), redirect_uri: "u".into() }),
            created_at: AT.into(),
            description: "d".into(),
            grant: Some(Grant { code: "c".into(), expires_in: 1, id: ID.into() }),
            id: ID.into(),
            refresh_token: Some(token),
            scope: vec!["global".into()],
            session: Some(Only { id: ID.into() }),
            updated_at: AT.into(),
            user: AuthorizedUser { email: "admin@example.com".into(), full_name: Some("Ada".into()), id: ID.into() },
        },
    );
}

#[test]
fn regions_stacks_and_buildpacks() {
    checked(
        "region",
        &Region {
            country: "Here".into(),
            created_at: AT.into(),
            description: "This machine".into(),
            id: ID.into(),
            locale: "Here".into(),
            name: "us".into(),
            private_capable: false,
            provider: Provider { name: "amazon-web-services".into(), region: "us-east-1".into() },
            updated_at: AT.into(),
        },
    );
    checked(
        "stack",
        &Stack {
            created_at: AT.into(),
            default: true,
            id: ID.into(),
            name: "heroku-24".into(),
            state: "public".into(),
            updated_at: AT.into(),
        },
    );
    checked(
        "buildpack-installation",
        &BuildpackInstallation {
            buildpack: BuildpackRef { name: Some("heroku/python".into()), url: Some("urn:x".into()) },
            ordinal: 0,
        },
    );
}

#[test]
fn request_bodies_take_what_clients_send() {
    let body: UpdateFormation = serde_json::from_value(json!({"updates": [
        {"quantity": "+1", "size": "basic", "type": "web"},
        {"quantity": 2, "type": "worker", "dyno_size": {"name": "Standard-2X"}, "new_field": 1},
        {"type": "clock", "dyno_size": "basic"},
        {"type": "web", "docker_image": null},
    ]}))
    .expect("parses");
    let quantity = |i: usize| body.updates[i].change.quantity.as_ref().map(ToString::to_string);
    assert_eq!((quantity(0).as_deref(), quantity(1).as_deref(), quantity(2)), (Some("+1"), Some("2"), None));
    let size = |i: usize| body.updates[i].change.wanted_size();
    assert_eq!((size(0), size(1), size(2), size(3)), (Some("basic"), Some("Standard-2X"), Some("basic"), None));
    assert_eq!(body.updates[2].change.docker_image, None);
    assert_eq!(body.updates[3].change.docker_image, Some(None));

    let rollback: CreateRelease = serde_json::from_value(json!({"release": 11})).expect("parses");
    assert_eq!(rollback.release.map(|r| r.to_string()).as_deref(), Some("11"));
    let run: CreateDyno =
        serde_json::from_value(json!({"command": "ls", "size": null, "attach": true})).expect("parses");
    assert_eq!((run.size, run.attach), (None, Some(true)));
    assert!(serde_json::from_value::<CreateDyno>(json!({"command": ["ls"]})).is_err());
    assert!(serde_json::from_value::<CreateDyno>(json!({"command": "ls", "attach": "yes"})).is_err());
    let empty: CreateApp = serde_json::from_str("{}").expect("parses");
    assert_eq!(serde_json::to_string(&empty).expect("serializes"), "{}");
}

#[test]
fn the_check_finds_what_is_wrong() {
    let wrong =
        json!({"created_at": "yesterday", "default": "yes", "id": "x", "name": null, "state": "public", "more": 1});
    let found = facts::differences("stack", &wrong);
    assert_eq!(found.len(), 6, "{found:?}");
}

#[test]
fn app_features() {
    checked(
        "app-feature",
        &AppFeature {
            created_at: AT.into(),
            description: "d".into(),
            display_name: "D".into(),
            doc_url: "https://example.com/".into(),
            enabled: true,
            feedback_email: "admin@example.com".into(),
            id: ID.into(),
            name: "http-session-affinity".into(),
            state: "general".into(),
            updated_at: AT.into(),
        },
    );
}
